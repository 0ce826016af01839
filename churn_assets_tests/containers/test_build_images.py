"""The build context has what the Containerfile copies; what cannot be built is said beforehand."""

import hashlib
import io
import json
import re
import tarfile
from argparse import Namespace
from pathlib import Path

import pytest
from build_images import CONTAINERS, BuildError, build, build_context, find_tool, newest

CARD = {
    "name": "churn_telecom",
    "version": "2",
    "contract_name": "telecom",
    "contract_version": "1.0.0",
}
FILES = {
    "bento.yaml": b"name: churn_telecom",
    "env/python/requirements.txt": b"numpy==2.4.6",
    "src/service.py": b"import bentoml",
    "models/churn_telecom/2/card.json": json.dumps(CARD).encode(),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "churn_telecom-2.bento"
    write(path, FILES)
    return path


def write(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_the_context_has_everything_that_the_containerfile_copies(archive: Path) -> None:
    text = (CONTAINERS / "service.Containerfile").read_text()
    copied = set(re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE))
    with build_context(archive) as (context, bento):
        assert {name for name in copied if not (context / name).exists()} == set()
        assert {path.name for path in context.iterdir()} == {name.split("/")[0] for name in copied}
        pins = (context / "fetcher-requirements.txt").read_text()
    for package in ("aiohttp", "fsspec", "gcsfs", "s3fs", "tenacity"):
        assert re.search(rf"^{package}==[\d.]+ \\$", pins, re.MULTILINE), package
    assert (bento.model, bento.version, bento.contract) == ("churn_telecom", "2", "telecom-1.0.0")
    assert bento.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert not context.exists()


def test_the_newest_archive_of_a_folder_is_taken(archive: Path, tmp_path: Path) -> None:
    assert newest(tmp_path) == newest(archive) == archive


@pytest.mark.parametrize("name", ["", "none", "other.txt"])
def test_a_path_without_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match=r"has no \.bento archive: materialise churn_bento"):
        newest(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "is not an archive of a bento"),
        ({"../x": b""}, "is not an archive of a bento"),
        ({"bento.yaml": b""}, "has 0 models with a card.json, not one"),
    ],
    ids=["no_archive", "climbs", "no_model"],
)
def test_another_file_is_refused(
    tmp_path: Path, files: dict[str, bytes] | None, message: str
) -> None:
    path = tmp_path / "x.bento"
    path.write_bytes(b"text")
    if files is not None:
        write(path, files)
    with pytest.raises(BuildError, match=message), build_context(path):
        pass


def test_a_tool_that_does_not_work_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="none of docker, podman, buildah works here"):
        find_tool()
    for tool, status in (("docker", 1), ("buildah", 0)):
        (tmp_path / tool).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / tool).chmod(0o755)
    assert find_tool() == "buildah"


def test_the_tag_latest_is_refused(archive: Path) -> None:
    arguments = Namespace(tag="latest", prefix="churn-", base_image="", options="")
    with build_context(archive) as (context, bento), pytest.raises(BuildError, match="'latest'"):
        build("buildah", "service", context, bento, arguments)
