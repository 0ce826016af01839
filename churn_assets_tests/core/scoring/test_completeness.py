"""Lost predictions: every removed line is counted once, and none that may still arrive."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contracts.loading import load_contract
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.completeness import (
    Completeness,
    ProcessEnd,
    began_before,
    completeness,
    parse_end,
    predictions_complete,
    process_start,
)
from churn_assets.core.scoring.traffic import Window, as_traffic

CONTRACT = load_contract("telecom")
FEBRUARY, MARCH = Window.after("2026-01"), Window.after("2026-02")
IN_FEBRUARY, IN_MARCH = datetime(2026, 2, 20, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)
A, B = "a" * 16, "b" * 16


def file_of(start: datetime, number: int = 0) -> str:
    return f"churn/pod-1/predictions.pod-1.7.{start:%Y%m%d%H%M%S%f}.{number:06}.jsonl"


def rows(
    numbers: Iterable[int], process: str = A, start: datetime = IN_MARCH, **columns: Any
) -> pd.DataFrame:
    """Traffic of one process that started in March, unless told otherwise."""
    ids = [f"{process}-{number:08x}" for number in numbers]
    frame = pd.DataFrame({"prediction_id": ids, "file": file_of(start), "pod": "pod-1", **columns})
    return as_traffic(frame.assign(time=pd.Timestamp(IN_MARCH)), CONTRACT, "2026-02")


NO_ROWS = rows([])


def end(last: int, process: str = A, time: datetime = IN_MARCH, **fields: Any) -> ProcessEnd:
    return ProcessEnd(process, last, time, **{"start": IN_MARCH, **fields})


def found(
    traffic: pd.DataFrame,
    *ends: ProcessEnd,
    earlier: pd.DataFrame = NO_ROWS,
    window: Window = MARCH,
) -> Completeness:
    return completeness(traffic, earlier, ends, window)


CASES: dict[str, tuple[Completeness, int, int, str]] = {
    "whole": (found(rows(range(5))), 5, 0, ""),
    "a gap": (found(rows([0, 1, 4, 6])), 4, 3, "2-3, 5"),
    "the first lines": (found(rows([3, 4])), 2, 3, "0-2"),
    "in any order, with repeats": (found(rows([4, 0, 4, 2])), 3, 2, "1, 3"),
    "the end is not known yet": (found(rows(range(3))), 3, 0, ""),
    "the end of another month": (found(rows(range(3)), end(9, time=IN_FEBRUARY)), 3, 0, ""),
    "killed before the last lines": (found(rows(range(3)), end(9)), 3, 7, "3-9"),
    "ended with its last line": (found(rows(range(3)), end(2)), 3, 0, ""),
    "an end that is older than a line": (found(rows(range(3)), end(1)), 3, 0, ""),
    "no line came": (found(NO_ROWS, end(4)), 0, 5, "0-4"),
    "many gaps": (found(rows(range(0, 20, 2))), 10, 9, "1, 3, 5, 7, 9, ..."),
    "began before, earlier lines unknown": (found(rows([7, 9], start=IN_FEBRUARY)), 2, 1, "8"),
    "began before": (
        found(rows([7, 9], start=IN_FEBRUARY), earlier=rows([0, 3])), 2, 4, "4-6, 8"
    ),
    "began before, no line of this month": (
        found(NO_ROWS, end(6, start=IN_FEBRUARY), earlier=rows([0, 3])), 0, 3, "4-6"
    ),
    "nothing is known of its beginning": (found(NO_ROWS, end(6, start=IN_FEBRUARY)), 0, 0, ""),
    "a file of another name": (found(rows([5, 7]).assign(file="copy.jsonl")), 2, 1, "6"),
    "other ids": (found(rows([1]).assign(prediction_id="p00001")), 0, 0, ""),
    "one snapshot": (found(rows([1], start=IN_FEBRUARY), window=Window()), 1, 1, "0"),
}  # fmt: skip


@pytest.mark.parametrize(("name"), list(CASES))
def test_missing_numbers_are_counted(name: str) -> None:
    result, logged, lost, missing = CASES[name]
    assert (result.logged, result.lost) == (logged, lost)
    assert result.gaps["missing"].tolist() == ([missing] if lost else [])


def test_gaps_name_their_process_and_the_largest_is_first() -> None:
    one = rows([0, 2], release="churn", template_hash="abc", role="canary")
    other = rows([9], B, pod="pod-2")
    gaps = found(pd.concat([one, other], ignore_index=True), end(0, "c" * 16, pod="pod-3")).gaps
    assert gaps[["pod", "process", "lost"]].to_numpy().tolist() == [
        ["pod-2", B, 9], ["pod-1", A, 1], ["pod-3", "c" * 16, 1]
    ]  # fmt: skip
    assert gaps.iloc[1][["release", "template_hash", "role", "logged"]].tolist() == [
        "churn", "abc", "canary", 2
    ]  # fmt: skip


def test_the_month_before_is_needed_for_processes_that_began_before() -> None:
    assert not began_before(rows([1]), [end(1)], MARCH)
    assert not began_before(NO_ROWS, [], MARCH)
    assert began_before(rows([1], start=IN_FEBRUARY), [], MARCH)
    assert began_before(NO_ROWS, [end(1, start=IN_FEBRUARY)], MARCH)
    assert not began_before(NO_ROWS, [end(1, start=IN_FEBRUARY, time=IN_FEBRUARY)], MARCH)


PROCESSES = st.lists(
    st.tuples(
        st.integers(1, 30),
        st.sets(st.integers(0, 29)),
        st.booleans(),
        st.integers(0, 30),
        st.timedeltas(-timedelta(days=2), timedelta(days=2)),
    ),
    max_size=4,
)


@given(PROCESSES, st.randoms())
def test_the_numbers_that_are_missing_are_those_that_were_removed(
    processes: list[tuple[int, set[int], bool, int, timedelta]], draw: Any
) -> None:
    """Over two months, whichever lines are removed, however wrong the clock of a node is.

    Each process has a number of predictions, the removed ones, whether its end is known, and how
    many of its predictions are of the first month.
    """
    lines, ends, expected = [], [], 0
    for i, (count, removed, over, early, skew) in enumerate(processes):
        name, start = f"{i:016x}", IN_FEBRUARY + skew
        kept = [number for number in range(count) if number not in removed]
        first = [number for number in kept if number < early]
        if early and not first:
            # With no line of the first month, nobody knows that the process had numbers then.
            kept = [*range(early), *kept]
            first = list(range(early))
        later = [number for number in kept if number >= early]
        lines.append((rows(first, name, start), rows(later, name, start if early else IN_MARCH)))
        last = max(count - 1, *kept) if kept else count - 1
        if over:
            time = IN_FEBRUARY if last < early else IN_MARCH
            ends.append(end(last, name, time + skew, start=start if early else IN_MARCH))
        upper = last if over else max(kept, default=-1)
        expected += upper + 1 - len(set(kept))
    months = [NO_ROWS, NO_ROWS]
    if lines:
        months = [pd.concat(part, ignore_index=True) for part in zip(*lines, strict=True)]
        months = [part.sample(frac=1, random_state=draw.randrange(99)) for part in months]
    before, now = months
    total = found(before, *ends, window=FEBRUARY).lost + found(now, *ends, earlier=before).lost
    assert total == expected


# Ends


def test_an_end_is_parsed_with_its_place() -> None:
    content = json.dumps({"last_prediction_id": f"{A}-0000001f", "time": IN_MARCH.timestamp()})
    file = file_of(IN_FEBRUARY).replace("000000.jsonl", "ended.json")
    assert parse_end(file, f"{content}     \n".encode()) == ProcessEnd(
        A, 31, IN_MARCH, IN_FEBRUARY, "pod-1", "churn"
    )
    flat = parse_end(file.rpartition("/")[2], content.encode())
    assert flat is not None
    assert (flat.pod, flat.release) == ("", "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 128,
        b"[]",
        b'{"last_prediction_id":"p1","time":1}',
        b'{"last_prediction_id":"%b-0000001f"}' % A.encode(),
        b'{"last_prediction_id":"%b-0000001f","time":1e300}' % A.encode(),
    ],
)
def test_a_damaged_end_is_none(content: bytes) -> None:
    assert parse_end("x", content) is None


@pytest.mark.parametrize(
    ("file", "start"),
    [
        (file_of(IN_MARCH), IN_MARCH),
        ("predictions.a.1.99999999999999999999.000000.jsonl", None),
        ("copy.jsonl", None),
    ],
)
def test_the_start_of_a_process_is_in_the_name_of_its_file(file: str, start: Any) -> None:
    assert process_start(file) == start


# The check


@pytest.mark.parametrize(("lost", "passed"), [(0, True), (9, True), (10, True), (11, False)])
def test_a_few_predictions_may_be_lost(lost: int, passed: bool) -> None:
    result = found(rows([*range(10_000 - lost - 1), 9_999]))
    verdict = predictions_complete(result, Limits())
    assert (verdict.passed, verdict.judged) == (passed, True)
    assert verdict.numbers == {
        "value": lost / 10_000, "limit": 0.001, "logged": 10_000 - lost, "lost": lost
    }  # fmt: skip
    assert (f"most of them ({lost}) of pod pod-1" in verdict.description) is bool(lost)


def test_without_numbered_predictions_there_is_nothing_to_judge() -> None:
    verdict = predictions_complete(found(NO_ROWS), Limits())
    assert (verdict.passed, verdict.judged) == (True, False)
    assert "at least one is needed" in verdict.description


def test_the_loss_of_all_lines_fails() -> None:
    assert not predictions_complete(found(NO_ROWS, end(4)), Limits()).passed
