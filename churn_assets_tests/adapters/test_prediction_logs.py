"""Prediction logs are read exactly once, however they are cut, rotated and copied."""

import gzip
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from churn_assets.adapters.prediction_logs import (
    BLOCK_BYTES,
    PredictionLogError,
    read_key,
    read_lines,
)
from churn_assets.contracts.loading import load_contract
from churn_assets.core.scoring.log_lines import Parsed, parse_lines
from churn_assets.core.scoring.traffic import Window, as_traffic, each_once, places
from churn_assets_tests.bentos import customers
from churn_assets_tests.logs import write_log

CONTRACT = load_contract("telecom")
MONTH = "2026-02"
WINDOW = Window.after(MONTH)
WORKERS, PREDICTIONS = 5, 3_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What five workers of a service wrote, each into several files."""
    folder = tmp_path_factory.mktemp("predictions")
    bodies = customers(PREDICTIONS // WORKERS)
    for worker in range(WORKERS):
        ids = [f"w{worker}-{i:08x}" for i in range(len(bodies))]
        write_log(folder, CONTRACT, bodies, ids, file_bytes=60_000)
    return folder / CONTRACT.name


def read(folder: Path, held: pd.DataFrame) -> tuple[pd.DataFrame, Parsed]:
    """One reading of the folder, as the asset does it."""
    chunks = read_lines(UPath(folder), places(held), WINDOW.start)
    parsed = parse_lines(chunks, CONTRACT, WINDOW)
    return each_once(held, as_traffic(parsed.rows, CONTRACT, MONTH)), parsed


def nothing() -> pd.DataFrame:
    return as_traffic(pd.DataFrame(), CONTRACT, MONTH)


def test_predictions_are_there_once_however_they_arrive(written: Path, tmp_path: Path) -> None:
    draw = random.Random(4)
    left = {path.name: path.read_bytes() for path in written.iterdir()}
    assert len(left) > 20
    sizes, held, expected = dict.fromkeys(left, 0), nothing(), set[str]()
    for data in left.values():
        expected |= {line.split(b'"')[3].decode() for line in data.splitlines()}
    assert len(expected) == PREDICTIONS
    while left:
        for name in draw.sample(sorted(left), min(8, len(left))):
            # It grows by any number of bytes: lines are cut anywhere.
            sizes[name] = min(len(left[name]), sizes[name] + draw.randrange(40_000))
            (tmp_path / name).write_bytes(left[name][: sizes[name]])
        if draw.random() < 0.3:
            name = draw.choice(sorted(path.name for path in tmp_path.iterdir()))
            shutil.copy(tmp_path / name, tmp_path / f"copy{draw.randrange(3)}-{name}")
        before = len(held)
        held, parsed = read(tmp_path, held)
        assert parsed.rejected.empty
        assert held["prediction_id"].is_unique
        assert len(held) >= before
        for name in [name for name in left if sizes[name] == len(left[name])]:
            del left[name]
            if draw.random() < 0.5:
                (tmp_path / name).unlink()  # as the service removes its oldest
    assert set(held["prediction_id"]) == expected
    assert len(held) == PREDICTIONS


@pytest.mark.parametrize("cut", [0, 1, 300, 570])
def test_half_a_line_is_neither_lost_nor_read_twice(
    written: Path, tmp_path: Path, cut: int
) -> None:
    path = min(written.iterdir())
    whole = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    first = whole.index(b"\n") + 1
    target = tmp_path / path.name
    target.write_bytes(whole[: first + cut])
    held, parsed = read(tmp_path, nothing())
    assert (len(held), parsed.unfinished) == (1, int(cut > 0))
    held, parsed = read(tmp_path, held)
    assert len(held) == 1
    target.write_bytes(whole)
    held, parsed = read(tmp_path, held)
    assert (len(held), parsed.unfinished, len(parsed.rejected)) == (2, 0, 0)
    assert read(tmp_path, held)[1].rows.empty


def test_a_line_that_lacks_only_its_newline_is_a_prediction(written: Path, tmp_path: Path) -> None:
    path = min(written.iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    target = tmp_path / path.name
    target.write_bytes(lines[0].rstrip(b"\n"))
    held, parsed = read(tmp_path, nothing())
    assert (len(held), parsed.unfinished) == (1, 0)
    target.write_bytes(lines[0] + lines[1])
    assert len(read(tmp_path, held)[0]) == 2


def test_what_was_read_is_not_read_again(written: Path, tmp_path: Path) -> None:
    path = min(written.iterdir())
    shutil.copy(path, tmp_path)
    held, _ = read(tmp_path, nothing())
    [(name, place)] = places(held).items()
    assert (name, place.byte) == (path.name, path.stat().st_size)
    assert list(read_lines(UPath(tmp_path), places(held))) == []


def test_a_file_that_is_smaller_than_what_was_read_is_another_one(
    written: Path, tmp_path: Path
) -> None:
    one, other = sorted(written.iterdir())[:2]
    shutil.copy(one, tmp_path / "predictions.jsonl")
    held, _ = read(tmp_path, nothing())
    lines = other.read_bytes().splitlines(keepends=True)[:3]
    (tmp_path / "predictions.jsonl").write_bytes(b"".join(lines))
    assert len(read(tmp_path, held)[0]) == len(held) + 3


def test_garbage_behind_what_was_read_belongs_to_the_month_of_that(
    written: Path, tmp_path: Path
) -> None:
    """Not to the month in which the file was begun, long ago, where nobody reads it any more."""
    lines = min(written.iterdir()).read_bytes().splitlines(keepends=True)
    target = tmp_path / "predictions.a.1.20260115000000000000.000000.jsonl"
    target.write_bytes(b"before\n" + lines[0])
    held, parsed = read(tmp_path, nothing())
    assert (len(held), len(parsed.rejected)) == (1, 0)
    target.write_bytes(b"before\n" + lines[0] + b"garbage\n")
    held, parsed = read(tmp_path, held)
    assert (len(held), parsed.rejected["line"].tolist()) == (1, ["garbage"])


def test_a_packed_file_is_read_too(written: Path, tmp_path: Path) -> None:
    path = min(written.iterdir())
    shutil.copy(path, tmp_path)
    held, _ = read(tmp_path, nothing())
    (tmp_path / path.name).unlink()
    packed = gzip.compress(path.read_bytes())
    (tmp_path / f"{path.name}.gz").write_bytes(packed)
    assert read(tmp_path, held)[0].equals(held)
    assert read(tmp_path, nothing())[0]["prediction_id"].equals(held["prediction_id"])
    (tmp_path / f"{path.name}.gz").write_bytes(packed[:-99])
    with pytest.raises(PredictionLogError, match="cannot be unpacked: Compressed file"):
        read(tmp_path, nothing())


def test_a_folder_that_does_not_exist_has_no_predictions(tmp_path: Path) -> None:
    held, parsed = read(tmp_path / "nowhere", nothing())
    assert held.empty
    assert (len(parsed.rejected), parsed.unfinished) == (0, 0)
    assert held.dtypes.to_dict() == nothing().dtypes.to_dict()


def test_a_folder_may_be_at_any_url_and_have_folders(written: Path) -> None:
    folder = UPath("memory://logs/predictions/telecom")
    for i, path in enumerate(sorted(written.iterdir())[:3]):
        target = folder / f"host{i}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    parsed = parse_lines(read_lines(folder, {}, WINDOW.start), CONTRACT, WINDOW)
    lines = sum(p.read_bytes().count(b"\n") for p in sorted(written.iterdir())[:3])
    assert len(parsed.rows) == lines
    assert parsed.rows["file"].nunique() == 3
    assert list(read_lines(UPath("memory://elsewhere"), {})) == []


def test_lines_over_the_end_of_a_block_are_whole(tmp_path: Path) -> None:
    lines = [b"x" * 999 for _ in range(BLOCK_BYTES // 1_000 + 10)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    found = list(read_lines(UPath(tmp_path), {}))
    assert len(found) == 2
    assert [line for one in found for line in one.lines] == lines
    assert found[1].start == sum(len(line) + 1 for line in found[0].lines)


def test_files_that_were_not_written_since_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n")
    now = datetime.now(UTC)
    assert list(read_lines(UPath(tmp_path), {}, now - timedelta(hours=1)))
    assert list(read_lines(UPath(tmp_path), {}, now + timedelta(hours=23)))
    assert not list(read_lines(UPath(tmp_path), {}, now + timedelta(hours=25)))


@pytest.mark.parametrize(
    ("name", "begun"),
    [
        (
            "predictions.a-b.77.20260301120000250000.000001.jsonl",
            datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC),
        ),
        ("predictions.a.1.99999999999999999999.000000.jsonl", None),
        ("copy.jsonl", None),
    ],
)  # fmt: skip
def test_a_file_says_when_it_was_begun(tmp_path: Path, name: str, begun: Any) -> None:
    (tmp_path / name).write_bytes(b"{}\n")
    [found] = read_lines(UPath(tmp_path), {})
    if begun is None:
        assert abs(datetime.now(UTC) - found.before) < timedelta(minutes=1)
    else:
        assert found.before == begun


def test_the_key_is_read_as_the_service_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "id.key"
    assert read_key(path) is None
    path.write_bytes(b"0123456789abcdef\r\n")
    assert read_key(path) == b"0123456789abcdef"
    path.write_bytes(b"short\n")
    with pytest.raises(PredictionLogError, match="holds 5 bytes, and must hold 16 to 64"):
        read_key(path)
