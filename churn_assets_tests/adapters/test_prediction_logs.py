"""Reader of prediction logs: every line exactly once, whether cut, rotated or copied."""

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
    IncompleteLogError,
    PredictionLogError,
    read_ends,
    read_key,
    read_lines,
)
from churn_assets.contracts.loading import load_contract
from churn_assets.core.scoring.log_lines import Parsed, parse_lines
from churn_assets.core.scoring.traffic import Window, as_traffic, merge_predictions, read_positions
from churn_assets_tests.bentos import customers
from churn_assets_tests.logs import write_log

CONTRACT = load_contract("telecom")
MONTH = "2026-02"
WINDOW = Window.after(MONTH)
WORKERS, PREDICTIONS = 5, 3_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of five workers of a service, several files each."""
    folder = tmp_path_factory.mktemp("predictions")
    bodies = customers(PREDICTIONS // WORKERS)
    for worker in range(WORKERS):
        ids = [f"w{worker}-{i:08x}" for i in range(len(bodies))]
        write_log(folder, CONTRACT, bodies, ids, file_bytes=60_000)
    return folder / CONTRACT.name


def read(folder: Path, held: pd.DataFrame) -> tuple[pd.DataFrame, Parsed]:
    """Reads the folder once, like the asset."""
    chunks = read_lines(UPath(folder), read_positions(held), WINDOW.start)
    parsed = parse_lines(chunks, CONTRACT, WINDOW)
    return merge_predictions(held, as_traffic(parsed.rows, CONTRACT, MONTH)), parsed


def no_rows() -> pd.DataFrame:
    return as_traffic(pd.DataFrame(), CONTRACT, MONTH)


def test_every_prediction_is_read_exactly_once(written: Path, tmp_path: Path) -> None:
    draw = random.Random(4)
    left = {path.name: path.read_bytes() for path in written.iterdir()}
    assert len(left) > 20
    sizes, held, expected = dict.fromkeys(left, 0), no_rows(), set[str]()
    for data in left.values():
        expected |= {line.split(b'"')[3].decode() for line in data.splitlines()}
    assert len(expected) == PREDICTIONS
    while left:
        for name in draw.sample(sorted(left), min(8, len(left))):
            # The file grows by any number of bytes, so lines are cut anywhere.
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
    held, parsed = read(tmp_path, no_rows())
    assert (len(held), parsed.unfinished) == (1, int(cut > 0))
    held, parsed = read(tmp_path, held)
    assert len(held) == 1
    target.write_bytes(whole)
    held, parsed = read(tmp_path, held)
    assert (len(held), parsed.unfinished, len(parsed.rejected)) == (2, 0, 0)
    assert read(tmp_path, held)[1].rows.empty


def test_a_complete_line_without_newline_is_a_prediction(written: Path, tmp_path: Path) -> None:
    path = min(written.iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    target = tmp_path / path.name
    target.write_bytes(lines[0].rstrip(b"\n"))
    held, parsed = read(tmp_path, no_rows())
    assert (len(held), parsed.unfinished) == (1, 0)
    target.write_bytes(lines[0] + lines[1])
    assert len(read(tmp_path, held)[0]) == 2


def test_lines_before_the_read_position_are_not_read_again(written: Path, tmp_path: Path) -> None:
    path = min(written.iterdir())
    shutil.copy(path, tmp_path)
    held, _ = read(tmp_path, no_rows())
    [(name, position)] = read_positions(held).items()
    assert (name, position.byte) == (path.name, path.stat().st_size)
    assert list(read_lines(UPath(tmp_path), read_positions(held))) == []


def test_a_file_smaller_than_its_read_position_is_read_from_the_start(
    written: Path, tmp_path: Path
) -> None:
    one, other = sorted(written.iterdir())[:2]
    shutil.copy(one, tmp_path / "predictions.jsonl")
    held, _ = read(tmp_path, no_rows())
    lines = other.read_bytes().splitlines(keepends=True)[:3]
    (tmp_path / "predictions.jsonl").write_bytes(b"".join(lines))
    assert len(read(tmp_path, held)[0]) == len(held) + 3


def test_garbage_after_the_read_position_gets_the_time_of_that_position(
    written: Path, tmp_path: Path
) -> None:
    """Not that of the start of the file, which may be in a month that is not read any more."""
    lines = min(written.iterdir()).read_bytes().splitlines(keepends=True)
    target = tmp_path / "predictions.a.1.20260115000000000000.000000.jsonl"
    target.write_bytes(b"before\n" + lines[0])
    held, parsed = read(tmp_path, no_rows())
    assert (len(held), len(parsed.rejected)) == (1, 0)
    target.write_bytes(b"before\n" + lines[0] + b"garbage\n")
    held, parsed = read(tmp_path, held)
    assert (len(held), parsed.rejected["line"].tolist()) == (1, ["garbage"])


def test_compressed_files_are_read(written: Path, tmp_path: Path) -> None:
    path = min(written.iterdir())
    shutil.copy(path, tmp_path)
    held, _ = read(tmp_path, no_rows())
    (tmp_path / path.name).unlink()
    compressed = gzip.compress(path.read_bytes())
    (tmp_path / f"{path.name}.gz").write_bytes(compressed)
    assert read(tmp_path, held)[0].equals(held)
    assert read(tmp_path, no_rows())[0]["prediction_id"].equals(held["prediction_id"])
    (tmp_path / f"{path.name}.gz").write_bytes(compressed[:-99])
    with pytest.raises(IncompleteLogError, match="cannot be decompressed: Compressed file"):
        read(tmp_path, no_rows())
    (tmp_path / f"{path.name}.gz").write_bytes(b"plain" + compressed)
    with pytest.raises(PredictionLogError, match="cannot be decompressed: Not a gzipped") as final:
        read(tmp_path, no_rows())
    assert not isinstance(final.value, IncompleteLogError)


def test_a_folder_that_does_not_exist_has_no_predictions(tmp_path: Path) -> None:
    held, parsed = read(tmp_path / "nowhere", no_rows())
    assert held.empty
    assert (len(parsed.rejected), parsed.unfinished) == (0, 0)
    assert held.dtypes.to_dict() == no_rows().dtypes.to_dict()


def test_a_folder_may_be_at_any_url_and_have_subfolders(written: Path) -> None:
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


def test_ends_of_processes_are_read_from_any_subfolder(tmp_path: Path) -> None:
    name = "predictions.pod-1.7.20260301120000000000.ended.json"
    content = f'{{"last_prediction_id":"{"a" * 16}-0000001f","time":1772366400.25}}   '
    for place, text in {"churn/pod-1": content, ".": content, "churn/pod-2": content[:20]}.items():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_text(text)
    # The service's own file: the process may still run.
    (tmp_path / "predictions.pod-1.7.20260301120000000000.last.json").write_text(content)
    ends, damaged = read_ends(UPath(tmp_path))
    assert [(end.process, end.last, end.pod, end.release) for end in ends] == [
        ("a" * 16, 31, "pod-1", "churn"), ("a" * 16, 31, "", "")
    ]  # fmt: skip
    assert damaged == [f"churn/pod-2/{name}"]
    assert read_ends(UPath(tmp_path), datetime.now(UTC) + timedelta(hours=25)) == ([], [])
    assert read_ends(UPath(tmp_path / "nowhere")) == ([], [])


@pytest.mark.parametrize(("minutes", "found"), [(59, []), (61, [31]), (0, [])])
def test_a_process_without_a_sign_for_an_hour_has_ended(
    tmp_path: Path, minutes: int, found: list[int]
) -> None:
    file = tmp_path / "churn/pod-1/predictions.pod-1.7.20260301120000000000.running.json"
    file.parent.mkdir(parents=True)
    file.write_text(f'{{"last_prediction_id":"{"a" * 16}-0000001f","time":1772366400.25}}   ')
    now = datetime.now(UTC) + timedelta(minutes=minutes)
    ends, damaged = read_ends(UPath(tmp_path), now=now)
    assert ([end.last for end in ends], damaged) == (found, [])


def test_the_end_of_a_process_replaces_its_last_sign(tmp_path: Path) -> None:
    for kind, number in (("ended", "2f"), ("running", "1f")):
        file = tmp_path / f"predictions.pod-1.7.20260301120000000000.{kind}.json"
        last = f'{{"last_prediction_id":"{"a" * 16}-000000{number}","time":1772366400.25}}'
        file.write_text(last)
    ends, _ = read_ends(UPath(tmp_path), now=datetime.now(UTC) + timedelta(hours=2))
    assert [end.last for end in ends] == [47]


def test_lines_across_blocks_are_complete(tmp_path: Path) -> None:
    lines = [b"x" * 999 for _ in range(BLOCK_BYTES // 1_000 + 10)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    found = list(read_lines(UPath(tmp_path), {}))
    assert len(found) == 2
    assert [line for one in found for line in one.lines] == lines
    assert found[1].start == sum(len(line) + 1 for line in found[0].lines)


def test_files_that_were_not_modified_since_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n")
    now = datetime.now(UTC)
    assert list(read_lines(UPath(tmp_path), {}, now - timedelta(hours=1)))
    assert list(read_lines(UPath(tmp_path), {}, now + timedelta(hours=23)))
    assert not list(read_lines(UPath(tmp_path), {}, now + timedelta(hours=25)))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        (
            "predictions.a-b.77.20260301120000250000.000001.jsonl",
            datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC),
        ),
        ("predictions.a.1.99999999999999999999.000000.jsonl", None),
        ("copy.jsonl", None),
    ],
)  # fmt: skip
def test_the_start_time_is_read_from_the_file_name(tmp_path: Path, name: str, start: Any) -> None:
    (tmp_path / name).write_bytes(b"{}\n")
    [found] = read_lines(UPath(tmp_path), {})
    if start is None:
        assert abs(datetime.now(UTC) - found.before) < timedelta(minutes=1)
    else:
        assert found.before == start


def test_the_key_is_read_like_in_the_service(tmp_path: Path) -> None:
    path = tmp_path / "id.key"
    assert read_key(path) is None
    path.write_bytes(b"0123456789abcdef\r\n")
    assert read_key(path) == b"0123456789abcdef"
    path.write_bytes(b"short\n")
    with pytest.raises(PredictionLogError, match="holds 5 bytes, and must hold 16 to 64"):
        read_key(path)


def test_a_folder_at_a_url_is_no_pattern() -> None:
    folder = UPath("memory://logs[1]/a*b?c/telecom")
    for place in (folder / "host", UPath("memory://logs1/a-bcc/telecom")):
        place.mkdir(parents=True)
        (place / "predictions.x.jsonl").write_text("{}\n")
    assert [lines.file for lines in read_lines(folder, {})] == ["host/predictions.x.jsonl"]
