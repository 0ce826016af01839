"""Versions of a source: they show that a month was delivered, or delivered again."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from zipfile import ZipFile

import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.registry import known_implementations

from churn_assets.adapters.sources import file_versions
from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.file_versions import FileVersions
from churn_assets.adapters.sources.rdatasets import RdatasetsSource
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.contract import Column
from churn_assets.contracts.loading import load_contract
from churn_assets.core.simulation.simulator import Simulator
from churn_assets_tests.defs.graph import customers

TELECOM, IBM = load_contract("telecom"), load_contract("ibm_telco")
CLOSED = Column(name="month", source_name="closed", role="month", kind="text", description="Month")
BY_MONTH = TELECOM.model_copy(update={"columns": (*TELECOM.columns, CLOSED)})


def test_a_month_is_delivered_when_its_file_exists(tmp_path: Path) -> None:
    source = FileSource(TELECOM, str(tmp_path / "{month}.csv"), str(tmp_path / "left-{month}.csv"))
    assert source.customers_version("2026-01") is None
    customers(5).to_csv(tmp_path / "2026-01.csv", index=False)
    assert source.customers_version("2026-01") is not None
    assert source.customers_version("2026-02") is None
    assert source.labels_version("2026-01") is None


def test_reading_a_file_does_not_change_its_version(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    customers(5).to_csv(path, index=False)
    source = FileSource(TELECOM, str(path))
    first = source.customers_version("2026-01")
    source.snapshot("2026-01")
    assert source.customers_version("2026-01") == first
    customers(6).to_csv(path, index=False)
    assert source.customers_version("2026-01") != first


def test_a_file_of_many_months_delivers_exactly_those(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    months = [customers(3).assign(closed=month) for month in ("2026-01", "2026-03-31")]
    pd.concat(months).to_csv(path, index=False)
    source = FileSource(BY_MONTH, str(path))
    delivered = [m for m in ("2026-01", "2026-02", "2026-03") if source.customers_version(m)]
    assert delivered == ["2026-01", "2026-03"]


def test_an_unknown_protocol_is_an_error(tmp_path: Path) -> None:
    source = FileSource(TELECOM, "nowhere://bucket/{month}.csv")
    with pytest.raises(SourceError, match="nowhere"):
        source.customers_version("2026-01")


@pytest.mark.parametrize("month", ["2026-01", "2026-03", "2026-04"])
def test_a_scenario_changes_the_version_of_the_months_it_affects(month: str) -> None:
    stable = SimulatedSource(TELECOM, Simulator(customers=100))
    shocked = SimulatedSource(
        TELECOM, Simulator(customers=100, scenario="price_shock", scenario_month="2026-03")
    )
    same = stable.customers_version(month) == shocked.customers_version(month)
    assert same is (month < "2026-03")
    assert same is stable.snapshot(month).equals(shocked.snapshot(month))


def test_the_public_data_set_has_one_version() -> None:
    source = RdatasetsSource(IBM)
    assert source.customers_version("2026-01") == source.labels_version("2026-01") is not None


# The version of a file is its content


def rewrite(path: Path) -> None:
    """Writes other content of the same size, and restores the time of the last change."""
    before = path.stat()
    text = path.read_bytes()
    path.write_bytes(text[:-2] + bytes([text[-2] ^ 1]) + text[-1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def copy_over(path: Path) -> None:
    copy = shutil.copyfile(path, path.with_suffix(".new"))
    os.replace(copy, path)


SAME_CONTENT: dict[str, Callable[[Path], object]] = {
    "chmod": lambda path: path.chmod(0o600),
    "touch": lambda path: os.utime(path, (1, 1)),
    "hard link": lambda path: path.with_suffix(".link").hardlink_to(path),
    "copy": copy_over,
    "same bytes": lambda path: path.write_bytes(path.read_bytes()),
    "symbolic link": lambda path: path.symlink_to(path.rename(path.with_suffix(".real"))),
}


@pytest.mark.parametrize("changed", SAME_CONTENT.values(), ids=SAME_CONTENT)
def test_the_same_bytes_are_no_new_delivery(
    tmp_path: Path, changed: Callable[[Path], object]
) -> None:
    path = tmp_path / "2026-01.csv"
    customers(5).to_csv(path, index=False)
    source = FileSource(TELECOM, str(tmp_path / "{month}.csv"))
    first = source.customers_version("2026-01")
    metadata = LocalFileSystem().ukey(str(path))
    changed(path)
    assert LocalFileSystem().ukey(str(path)) != metadata
    assert source.customers_version("2026-01") == first
    another_process = FileSource(TELECOM, str(tmp_path / "{month}.csv"))
    assert another_process.customers_version("2026-01") == first
    rewrite(path)
    assert source.customers_version("2026-01") not in (None, first)


def test_a_file_is_hashed_once_per_state_of_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, hash_of = [], file_versions._hash_of
    monkeypatch.setattr(
        file_versions, "_hash_of", lambda opened: hashed.append(0) or hash_of(opened)
    )
    paths = [tmp_path / f"{month}.csv" for month in ("2026-01", "2026-02")]
    for path in paths:
        customers(5).to_csv(path, index=False)
    versions = FileVersions()
    for _ in range(3):
        assert all(versions.version(str(path)) for path in paths)
    assert len(hashed) == 2
    paths[0].touch()
    for _ in range(3):
        assert all(versions.version(str(path)) for path in paths)
    assert len(hashed) == 3


def test_a_folder_of_parts_is_one_delivery(tmp_path: Path) -> None:
    folder = tmp_path / "2026-01.parquet"
    folder.mkdir()
    parts = [folder / f"part-{i}.parquet" for i in range(3)]
    for part in parts[:2]:
        customers(5).to_parquet(part)
    source = FileSource(TELECOM, str(tmp_path / "{month}.parquet"))
    first = source.customers_version("2026-01")
    assert len(source.snapshot("2026-01")) == 10
    for path in (folder, *parts[:2]):
        os.utime(path, (1, 1))
    moved = folder.rename(tmp_path / "2026-02.parquet")
    assert source.customers_version("2026-01") is None
    assert source.customers_version("2026-02") == first
    moved.rename(folder)
    customers(6).to_parquet(parts[2])
    second = source.customers_version("2026-01")
    assert second not in (None, first)
    parts[2].rename(folder / "part-9.parquet")
    assert source.customers_version("2026-01") not in (None, second)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "2026-01.csv")
    with pytest.raises(SourceError, match=r"2026-01\.csv is neither a file nor a folder"):
        FileVersions().version(str(tmp_path / "2026-01.csv"))


def test_a_version_of_an_earlier_release_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "2026-01.csv"
    customers(5).to_csv(path, index=False)
    source = FileSource(TELECOM, str(tmp_path / "{month}.csv"))
    former = str(LocalFileSystem().ukey(str(path)))
    assert source.customers_version("2026-01", former) == former
    assert source.labels_version("2026-01", former) == former
    now = source.customers_version("2026-01")
    assert now != former
    assert source.customers_version("2026-01", now) == now
    rewrite(path)
    assert source.customers_version("2026-01", former) not in (None, former, now)


def test_a_file_of_a_local_archive_changes_with_its_own_content(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    urls = [f"zip://{name}.csv::{path}" for name in "abc"]
    sources = FileVersions(), FileVersions()
    seen = []
    assert [sources[0].version(url) for url in urls] == [None] * 3
    for contents in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "3", "c": "1"}):
        with ZipFile(path, "w") as archive:
            for name, text in contents.items():
                archive.writestr(f"{name}.csv", text)
        versions = [[source.version(url) for url in urls] for source in sources]
        assert versions[0] == versions[1] == [sources[0].version(url) for url in urls]
        seen.append(versions[0])
    first, second, third = seen
    assert first == second
    assert first[2] is None
    assert third[0] == third[2] == first[0]
    assert third[1] not in (None, first[1])


class TaggedStore(MemoryFileSystem):
    """A store that has an ETag for each object, as S3 does, and cannot be read."""

    protocol = "tagged"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("tagged://"))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        entry = super().info(path)
        return entry | {"ETag": f'"{hashlib.md5(self.store[path].getvalue()).hexdigest()}"'}

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        raise AssertionError(f"{path} is opened")


def test_the_etag_of_a_store_is_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_implementations, "tagged", {"class": f"{__name__}.TaggedStore"})
    store = TaggedStore()
    name = "/customers.csv"
    versions = []
    for text in (b"first", b"first", b"other"):
        store.store.clear()
        assert FileVersions().version("tagged://customers.csv") is None
        store.store[name] = MemoryFile(store, name, text)
        versions.append(FileVersions().version("tagged://customers.csv"))
    assert versions[0] == versions[1] == f'ETag "{hashlib.md5(b"first").hexdigest()}"'
    assert versions[2] not in (None, versions[0])
