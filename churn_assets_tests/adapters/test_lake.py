"""The lake: months, versions, nulls, concurrent writers and killed writers."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.adapters.lake import PROVENANCE, Lake, LakeError

TEXT = pd.StringDtype("pyarrow")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def rows(month: str, *values: int) -> pd.DataFrame:
    months = pd.array([month] * len(values), TEXT)
    return pd.DataFrame({"id": pd.array(list(values), dtype="Int64"), "month": months})


def ids(frame: pd.DataFrame) -> list[int]:
    return sorted(frame["id"].tolist())


def test_several_months_are_read_as_one_frame(lake: Lake) -> None:
    for number, month in enumerate(["2026-01", "2026-02", "2026-03"]):
        lake.write("t", rows(month, number), month)
    assert ids(lake.read("t", ["2026-01", "2026-03"])) == [0, 2]
    assert ids(lake.read("t")) == [0, 1, 2]
    assert lake.months("t") == ["2026-01", "2026-02", "2026-03"]
    assert lake.rows_by_month("t") == {"2026-01": 1, "2026-02": 1, "2026-03": 1}


def test_writing_a_month_replaces_only_that_month(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1, 2), "2026-01")
    lake.write("t", rows("2026-02", 3), "2026-02")
    for _ in range(2):
        written = lake.write("t", rows("2026-01", 4), "2026-01")
    assert (written.rows, written.version) == (1, 4)
    assert written.bytes > 0
    assert ids(lake.read("t")) == [3, 4]


def test_every_version_can_be_read_again(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1), "2026-01")
    lake.write("t", rows("2026-01", 2), "2026-01")
    assert ids(lake.read("t", version=1)) == [1]
    assert lake.read("t", version=1).attrs[PROVENANCE] == {"t": 1}
    assert lake.read("t").attrs[PROVENANCE] == {"t": 2}
    assert lake.version("t") == 2


def test_a_commit_records_the_versions_of_its_sources(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1), sources={"a": 7, "b": 0})
    lake.write("t", rows("2026-01", 1))
    assert lake.sources("t", 1) == {"a": 7, "b": 0}
    assert lake.sources("t", 2) == {}


def test_a_new_column_is_null_in_earlier_months(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1), "2026-01")
    lake.write("t", rows("2026-02", 2).assign(more=1.5), "2026-02")
    assert lake.read("t").set_index("month")["more"].isna().to_dict() == {
        "2026-01": True, "2026-02": False,
    }  # fmt: skip


def test_a_changed_column_type_is_refused(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1), "2026-01")
    with pytest.raises(LakeError, match=r"id was .*long.* and is .*double.* now"):
        lake.write("t", rows("2026-02", 2).assign(id=[3.75]), "2026-02")
    assert lake.months("t") == ["2026-01"]


def test_versions_are_kept_beyond_deltas_own_thirty_days(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1), "2026-01")
    kept = DeltaTable(f"{lake.root}/t").metadata().configuration
    assert kept["delta.enableExpiredLogCleanup"] == "false"
    assert kept["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_concurrent_writers_each_get_their_own_version(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 0), "2026-01")
    months = [f"2026-{n:02d}" for n in range(2, 8)]
    with ThreadPoolExecutor(len(months)) as pool:
        done = list(pool.map(lambda m: lake.write("t", rows(m, int(m[-2:])), m), months))
    assert sorted(written.version for written in done) == [2, 3, 4, 5, 6, 7]
    for month, written in zip(months, done, strict=True):
        assert ids(lake.read("t", [month], version=written.version)) == [int(month[-2:])]


def test_a_whole_table_is_replaced_with_its_columns(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1).assign(old=1))
    lake.write("t", rows("2026-01", 2))
    assert list(lake.read("t")) == ["id", "month"]


def test_nulls_of_every_type_come_back_as_nulls(lake: Lake) -> None:
    frame = pd.DataFrame(
        {
            "whole": pd.array([2**53 + 1, None], dtype="Int64"),
            "flag": pd.array([True, None], dtype="boolean"),
            "text": pd.array(["", None], dtype=TEXT),
            "number": [float("inf"), float("nan")],
            "nothing": pd.Series([None, None], dtype=object),
        }
    )
    lake.write("t", frame)
    back = lake.read("t")
    expected = frame.astype({"nothing": TEXT})
    pd.testing.assert_frame_equal(back, expected)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda lake: lake.read("u"), "table 'u' is not in"),
        (lambda lake: lake.read("t", ["2026-05", "2026-01"]), "'t' in .* has no month 2026-05"),
        (lambda lake: lake.read("t", version=9), "'t' in .* has no version 9"),
        (lambda lake: lake.sources("t", 9), "'t' in .* has no version 9"),
    ],
)
def test_a_missing_table_month_or_version_is_named(lake: Lake, ask: object, says: str) -> None:
    lake.write("t", rows("2026-01", 1), "2026-01")
    with pytest.raises(LakeError, match=says):
        ask(lake)  # type: ignore[operator]


def test_a_missing_table_has_no_months(lake: Lake) -> None:
    assert (lake.months("t"), lake.rows_by_month("t")) == ([], {})


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["2026-01", "2026-02"]), st.integers(1, 4)), max_size=6))
def test_the_lake_holds_the_last_write_of_each_month(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, int]]
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    last: dict[str, int] = {}
    for month, count in writes:
        lake.write("t", rows(month, *range(count)), month)
        last[month] = count
    assert lake.rows_by_month("t") == last


def test_concurrent_writers_of_one_month_succeed_and_one_result_is_kept(lake: Lake) -> None:
    lake.write("t", rows("2026-01", -1), "2026-01")
    writers = range(6)
    with ThreadPoolExecutor(len(writers)) as pool:
        done = list(
            pool.map(lambda n: lake.write("t", rows("2026-01", *[n] * 500), "2026-01"), writers)
        )
    held = ids(lake.read("t", ["2026-01"]))
    assert held in [[n] * 500 for n in writers]
    assert [written.rows for written in done] == [500] * len(writers)


KILLED = """
import sys
import pandas as pd
from churn_assets.adapters.lake import Lake
lake = Lake(sys.argv[1])
frame = pd.DataFrame({"id": range(400_000), "text": "x" * 50, "month": "2026-01"})
print("writing", flush=True)
while True:
    lake.write("t", frame, "2026-01")
"""


@pytest.mark.parametrize("month", ["2026-01", None])
def test_of_concurrent_first_writers_only_one_result_is_kept(tmp_path: Path, month: str) -> None:
    for attempt in range(8):
        lake = Lake(str(tmp_path / str(attempt)))
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: lake.write("t", rows("2026-01", *[n] * 9), month), range(3)))  # noqa: B023
        assert ids(lake.read("t")) in [[n] * 9 for n in range(3)]
        operations = [commit["operation"] for commit in DeltaTable(f"{lake.root}/t").history()]
        assert operations.count("CREATE TABLE") == 1


def test_a_killed_writer_leaves_a_complete_version(lake: Lake) -> None:
    lake.write("t", rows("2026-01", 1).assign(text="x"), "2026-01")
    for wait in (0.0, 0.05, 0.2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, lake.root], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(lake.read("t", ["2026-01"])) in (1, 400_000)
    lake.write("t", rows("2026-01", 2).assign(text="y"), "2026-01")
    assert ids(lake.read("t")) == [2]
