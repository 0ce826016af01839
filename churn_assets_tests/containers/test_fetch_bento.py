"""What the init container promises: the right bento, whole, or one line that says what to set."""

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from bento_fetcher import __main__ as command
from bento_fetcher.archive import unpack
from bento_fetcher.settings import SETTINGS, FetchError, load_settings
from hypothesis import given
from hypothesis import strategies as st

from churn_assets_tests.adapters.file_server import Files, Response, file_server
from churn_assets_tests.adapters.receivers import self_signed
from churn_assets_tests.documents import ROOT

BENTO = {
    "bento.yaml": b"name: churn_telecom",
    "src/service.py": b"import bentoml",
    "src/contract.json": b'{"name": "telecom"}',
    "models/churn_telecom/1/card.json": b"{}",
}
SECRET = "hunter2"


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> Any:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


def archive_of(*more: tarfile.TarInfo, mode: str = "w:xz", **changes: bytes | None) -> bytes:
    """A bento's archive. `changes` replace files by their last name; None leaves one out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in BENTO.items():
            changed = changes.get(Path(name).stem, content)
            if changed is not None:
                archive.addfile(entry(f"./{name}", size=len(changed)), io.BytesIO(changed))
        for member in more:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


@dataclass
class Container:
    """An init container: its settings, its volume and its termination message."""

    volume: Path
    log: Path
    variables: dict[str, str]
    capture: pytest.CaptureFixture[str]

    @property
    def bento(self) -> Path:
        return self.volume / "bento"

    def run(self, **variables: str) -> int:
        """Runs the command in this process; returns its exit code."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (self.variables | variables).items():
                patch.setenv(name, value)
            return command.main()

    def start(self, **variables: str) -> subprocess.Popen[bytes]:
        """Starts the command in a process of its own."""
        own = {"PYTHONPATH": str(ROOT / "containers")}
        return subprocess.Popen(
            [sys.executable, "-m", "bento_fetcher"],
            env=os.environ | self.variables | own | variables,
        )

    def refusal(self, **variables: str) -> str:
        """Returns the one line with which a run fails that leaves nothing on the volume."""
        self.capture.readouterr()
        self.log.write_text("")
        assert self.run(**variables) == 1
        message = self.log.read_text()
        errors = self.capture.readouterr().err
        assert errors.splitlines()[-1] == message
        assert SECRET not in errors
        assert "internal error" not in errors
        assert not self.volume.is_dir() or list(self.volume.iterdir()) == []
        return message


@pytest.fixture
def container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Container]:
    log = tmp_path / "termination-log"
    log.write_text("")
    monkeypatch.setattr(command, "TERMINATION_LOG", log)
    (volume := tmp_path / "volume").mkdir()
    variables = {
        "CHURN_FETCH_URL": (tmp_path / "archive").as_uri(),
        "CHURN_FETCH_SHA256": "0" * 64,
        "CHURN_FETCH_CONTRACT": "telecom",
        "CHURN_FETCH_TARGET": str(volume / "bento"),
        "CHURN_FETCH_TIMEOUT": "20",
    }
    former = signal.getsignal(signal.SIGTERM)
    yield Container(volume, log, variables, capsys)
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def stored(container: Container, tmp_path: Path) -> Callable[[bytes], None]:
    """Stores an archive on a volume, and sets its checksum."""

    def store(content: bytes) -> None:
        (tmp_path / "archive").write_bytes(content)
        container.variables["CHURN_FETCH_SHA256"] = hashlib.sha256(content).hexdigest()

    return store


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with file_server() as files:
        yield files


def secret_url(files: Files, name: str) -> str:
    return f"{files.root.replace('//', f'//user:{SECRET}@')}/{name}?signature={SECRET}"


WRONG_SETTINGS = [
    ("CHURN_FETCH_URL", "", "is '': set a URL with one of s3://, gs://, https://, http://, file:"),
    ("CHURN_FETCH_URL", "ftp://store/x", "is 'ftp://store/x': set a URL with one of s3://"),
    ("CHURN_FETCH_URL", "/a.bento", "is '/a.bento': set a URL with one of s3://"),
    ("CHURN_FETCH_SHA256", "", "is '': set the archive's SHA-256 in 64 hexadecimal digits"),
    ("CHURN_FETCH_SHA256", "g" * 64, f"is '{'g' * 64}': set the archive's SHA-256"),
    ("CHURN_FETCH_CONTRACT", "", "is '': set the name of a contract, such as telecom"),
    ("CHURN_FETCH_TARGET", "bento", "is 'bento': set an absolute path of a folder in the volume"),
    ("CHURN_FETCH_TARGET", "/", "is '/': set an absolute path of a folder in the volume"),
    ("CHURN_FETCH_TIMEOUT", "0", "is '0': set seconds above 0"),
    ("CHURN_FETCH_TIMEOUT", "soon", "is 'soon': set seconds above 0"),
    ("CHURN_FETCH_MAX_BYTES", "1.5", "is '1.5': set a number of bytes above 0"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_SETTINGS)
def test_a_wrong_setting_is_refused(
    container: Container, name: str, value: str, message: str
) -> None:
    refusal = container.refusal(**{name: value})
    assert refusal.startswith(name)
    assert message in refusal


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(FetchError) as error:
        load_settings({})
    required = [name for name in SETTINGS if name in str(error.value)]
    assert required == [
        "CHURN_FETCH_URL", "CHURN_FETCH_SHA256", "CHURN_FETCH_CONTRACT", "CHURN_FETCH_TARGET",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w"])
def test_a_bento_is_unpacked_from_a_volume(
    container: Container, stored: Callable[[bytes], None], mode: str
) -> None:
    stored(archive_of(entry("./empty", tarfile.DIRTYPE), mode=mode))
    assert container.run() == 0
    assert list(container.volume.iterdir()) == [container.bento]
    assert {name: (container.bento / name).read_bytes() for name in BENTO} == BENTO
    assert (container.bento / "empty").is_dir()
    assert container.log.read_text() == ""


ARCHIVES = [
    ("climbs", archive_of(entry("../x")), "holds '../x', a path that leads outside"),
    ("climbs_late", archive_of(entry("src/../../x")), "'src/../../x', a path that leads outside"),
    ("absolute", archive_of(entry("/etc/x")), "holds '/etc/x', a path that leads outside"),
    ("symlink", archive_of(entry("x", tarfile.SYMTYPE, "/etc")), "holds 'x', a link"),
    ("hard_link", archive_of(entry("x", tarfile.LNKTYPE, "bento.yaml")), "holds 'x', a link"),
    ("device", archive_of(entry("x", tarfile.CHRTYPE)), "holds 'x', a device or pipe"),
    ("pipe", archive_of(entry("x", tarfile.FIFOTYPE)), "holds 'x', a device or pipe"),
    ("no_name", archive_of(entry(".")), "holds '.', a name that no file can have"),
    ("large", archive_of(entry("x", size=200_000)), "or the 100000 bytes of CHURN_FETCH_MAX_BYTES"),
    ("many", archive_of(*[entry(f"{n}") for n in range(10_001)]), "more than 10000 entries"),
    ("two_of_a_name", archive_of(entry("bento.yaml/x")), "bento cannot be stored"),
    ("truncated", archive_of()[:-60], "is not a whole tar archive"),
    ("truncated_tar", archive_of(mode="w")[:1600], "is not a whole tar archive"),
    ("empty", b"", "is not a whole tar archive"),
    ("page", b"<html>sign in</html>" * 50, "is not a whole tar archive"),
    ("no_service", archive_of(service=None), "no bento of a churn service: it lacks src/service"),
    ("no_model", archive_of(card=None), "no bento of a churn service: it lacks models"),
    ("no_json", archive_of(contract=b"{"), "whose src/contract.json is no JSON"),
    ("no_object", archive_of(contract=b"[]"), "is of contract None"),
    (
        "other_contract",
        archive_of(contract=b'{"name": "shop"}'),
        "CHURN_FETCH_CONTRACT (model.archive.contract in the chart) is 'telecom', but the bento at",
    ),
]


@pytest.mark.parametrize(
    ("content", "message"), [a[1:] for a in ARCHIVES], ids=[a[0] for a in ARCHIVES]
)
def test_a_bad_archive_is_refused(
    container: Container, stored: Callable[[bytes], None], content: bytes, message: str
) -> None:
    stored(content)
    assert message in container.refusal(CHURN_FETCH_MAX_BYTES="100000")


def test_a_wrong_checksum_is_refused_before_anything_is_unpacked(
    container: Container, stored: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(archive_of())
    monkeypatch.setattr(command, "unpack", lambda *_: pytest.fail("unpacked"))
    right, wrong = container.variables["CHURN_FETCH_SHA256"], "ab" * 32
    message = container.refusal(CHURN_FETCH_SHA256=wrong)
    assert f"CHURN_FETCH_SHA256 (model.archive.sha256 in the chart) is {wrong}, but" in message
    assert f"has {right}: set the archive_sha256 that the asset churn_bento recorded" in message


def test_a_bento_is_fetched_over_http(
    container: Container, stored: Callable[[bytes], None], files: Files, tmp_path: Path
) -> None:
    stored(archive_of())
    files.put("good.bento", (tmp_path / "archive").read_bytes())
    assert container.run(CHURN_FETCH_URL=secret_url(files, "good.bento")) == 0
    assert (container.bento / "src/service.py").is_file()
    assert SECRET not in container.capture.readouterr().err


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (Response(status=404), "which does not exist (404)"),
        (Response(status=403), "which the store refuses to this pod (403): give it credentials"),
        (Response(status=401), "which the store refuses to this pod (401): give it credentials"),
        (Response(status=410), "for which the store responds 410"),
        (Response(bytes(2000)), "which has more than the 1000 bytes of CHURN_FETCH_MAX_BYTES"),
        (Response(bytes(2000), sized=False), "which has more than the 1000 bytes of"),
        (Response(bytes(500)), "but the archive at"),
    ],
    ids=["404", "403", "401", "410", "large", "large_unsized", "other_content"],
)
def test_a_response_that_no_retry_mends_is_refused_at_once(
    container: Container, files: Files, response: Response, message: str
) -> None:
    files.responses["bad.bento"] = response
    files.requests.clear()
    url = secret_url(files, "bad.bento")
    assert message in container.refusal(CHURN_FETCH_URL=url, CHURN_FETCH_MAX_BYTES="1000")
    assert files.requests == ["GET bad.bento"]


class Recovering(dict[str, Response]):
    """Responses of a server that fails twice."""

    failures = 2

    def get(self, name: str, default: Any = None) -> Any:
        response = super().get(name, default)
        self.failures -= 1
        return response if self.failures < 0 else self.failed(response)

    @staticmethod
    def failed(response: Response) -> Response:
        return replace(response, status=503)


class Interrupting(Recovering):
    """Responses of a server that twice ends a response before it is whole."""

    @staticmethod
    def failed(response: Response) -> Response:
        return replace(response, body=response.body[:50], missing=len(response.body) - 50)


@pytest.mark.parametrize("kind", [Recovering, Interrupting])
def test_a_store_that_is_unavailable_is_tried_again(
    container: Container,
    stored: Callable[[bytes], None],
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Recovering],
) -> None:
    stored(archive_of())
    responses = kind({"late.bento": Response((tmp_path / "archive").read_bytes())})
    monkeypatch.setattr(files, "responses", responses)
    files.requests.clear()
    assert container.run(CHURN_FETCH_URL=secret_url(files, "late.bento")) == 0
    assert files.requests == ["GET late.bento"] * 3
    errors = container.capture.readouterr().err
    assert errors.startswith("attempt 1: ")
    assert SECRET not in errors


def test_a_store_that_stays_unavailable_ends_at_the_timeout(
    container: Container, files: Files
) -> None:
    files.put("broken.bento", status=500)
    url = secret_url(files, "broken.bento")
    message = container.refusal(CHURN_FETCH_URL=url, CHURN_FETCH_TIMEOUT="1")
    assert "which did not deliver the archive within the 1 s of CHURN_FETCH_TIMEOUT" in message
    assert "last error: status 500. Check the address, the store" in message


def test_a_store_that_does_not_answer_ends_at_the_timeout(container: Container) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.bento"
        started = time.monotonic()
        message = container.refusal(CHURN_FETCH_URL=url, CHURN_FETCH_TIMEOUT="0.5")
    assert time.monotonic() - started < 5
    assert "did not deliver the archive within the 0.5 s of" in message
    assert "last error: no response" in message
    refused = container.refusal(CHURN_FETCH_URL=url, CHURN_FETCH_TIMEOUT="0.5")
    assert "last error: ClientConnectorError: Cannot connect to host 127.0.0.1" in refused


def test_a_certificate_that_is_not_trusted_is_refused_and_a_trusted_one_is_not(
    container: Container,
    stored: Callable[[bytes], None],
    tmp_path: Path,
) -> None:
    stored(archive_of())
    certificate = self_signed(tmp_path)
    with file_server(certificate) as files:
        url = files.put("good.bento", (tmp_path / "archive").read_bytes())
        message = container.refusal(CHURN_FETCH_URL=url)
        assert "whose certificate this pod does not trust (SSLCertVerificationError: " in message
        assert "set SSL_CERT_FILE to the certificates that it may trust" in message
        # aiohttp reads the trusted certificates once in a process.
        process = container.start(CHURN_FETCH_URL=url, SSL_CERT_FILE=str(certificate))
        assert process.wait(timeout=20) == 0


def test_a_file_that_does_not_exist_is_refused(container: Container) -> None:
    assert "which does not exist (404): set the address" in container.refusal()


def test_a_target_that_cannot_be_written_is_refused(
    container: Container, stored: Callable[[bytes], None], tmp_path: Path
) -> None:
    stored(archive_of())
    target = str(tmp_path / "archive" / "bento")
    message = container.refusal(CHURN_FETCH_TARGET=target)
    assert message.startswith(f"CHURN_FETCH_TARGET is {target!r}, where the bento cannot be stored")


def test_a_second_run_leaves_the_bento_alone(
    container: Container, stored: Callable[[bytes], None], tmp_path: Path
) -> None:
    stored(archive_of())
    assert container.run() == 0
    before = container.bento.stat().st_ino
    (tmp_path / "archive").unlink()
    assert container.run() == 0
    assert container.bento.stat().st_ino == before


def test_another_archive_replaces_the_bento(
    container: Container, stored: Callable[[bytes], None]
) -> None:
    stored(archive_of(entry("old")))
    assert container.run() == 0
    stored(archive_of(entry("new")))
    assert container.run() == 0
    assert (container.bento / "new").exists()
    assert not (container.bento / "old").exists()
    assert list(container.volume.iterdir()) == [container.bento]


def test_a_run_that_is_killed_leaves_no_half_bento_and_the_next_one_completes(
    container: Container, stored: Callable[[bytes], None]
) -> None:
    stored(archive_of())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.bento"
        process = container.start(CHURN_FETCH_URL=url)
        connection, _ = silent.accept()
        with connection:
            assert not container.bento.exists()
            process.kill()
            process.wait()
    assert [path.name for path in container.volume.iterdir()] == [f".fetch-{socket.gethostname()}"]
    assert container.run() == 0
    assert list(container.volume.iterdir()) == [container.bento]


def test_sigterm_ends_the_command_at_once(container: Container) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.bento"
        process = container.start(CHURN_FETCH_URL=url)
        connection, _ = silent.accept()
        with connection:
            process.terminate()
            assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert list(container.volume.iterdir()) == []


START = "<absolute>"
"""Stands for the folder around a volume in the names of members and links."""

NAMES = st.builds(
    str.__add__,
    st.sampled_from(["", "./", "a/", "../", "../../", "a/../../", f"{START}/", "/"]),
    st.sampled_from(["a", "b", "b/c", "src/service.py", "kept", "..", ".", "", "a\0"]),
)
KINDS = st.sampled_from(
    [tarfile.REGTYPE] * 3 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
MEMBERS = st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=4)


@given(MEMBERS)
def test_no_archive_writes_outside_of_the_bento(members: list[tuple[str, bytes, str]]) -> None:
    with TemporaryDirectory() as scratch:
        root, volume = Path(scratch), Path(scratch, "node/volume")
        volume.mkdir(parents=True)
        (volume / "kept").write_text("kept")
        entries = [
            entry(name.replace(START, scratch), kind, link.replace(START, scratch))
            for name, kind, link in members
        ]
        (root / "archive").write_bytes(archive_of(*entries, mode="w"))
        before = set(root.rglob("*"))
        try:
            unpack(SOME_SETTINGS, root / "archive", volume / "bento")
        except (FetchError, OSError):
            assert members
        assert {path for path in root.rglob("*") if volume / "bento" not in path.parents} == {
            *before,
            volume / "bento",
        }
        assert (volume / "kept").read_text() == "kept"
        assert all(path.is_dir() or path.is_file() for path in root.rglob("*"))
        assert not any(path.is_symlink() for path in root.rglob("*"))


SOME_SETTINGS = load_settings(
    {
        "CHURN_FETCH_URL": "file:///archive",
        "CHURN_FETCH_SHA256": "0" * 64,
        "CHURN_FETCH_CONTRACT": "telecom",
        "CHURN_FETCH_TARGET": "/volume/bento",
    }
)
