"""The latest result of a check counts, whatever was planned after it and never came."""

from pathlib import Path
from typing import get_args

import dagster as dg
import pytest

from churn_assets.defs.platform.check_records import (
    latest_failures,
    latest_judged,
    latest_result,
    latest_results,
)
from churn_assets_tests.defs.check_events import End, plan, report_result
from churn_assets_tests.defs.graph import MONTH, Graph, from_files

RAW = "raw_customers"
ROWS = dg.AssetCheckKey(dg.AssetKey(RAW), "rows_present")
BEATS = dg.AssetCheckKey(dg.AssetKey("evaluation_report"), "auc_above_floor")
OTHER = "2026-02"


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return from_files(tmp_path, tmp_path / "customers-{month}.csv")


def found(graph: Graph, *months: str) -> dict[str | None, bool]:
    """Latest result of the check by month."""
    records = latest_results(graph.instance, [ROWS], list(months) or None)
    return {record.partition: record.result.passed for record in records}


def test_a_check_that_was_only_planned_has_no_result(graph: Graph) -> None:
    plan(graph, RAW, month=MONTH)
    assert found(graph) == {}
    assert list(latest_failures(graph.instance, [ROWS])) == []
    assert latest_result(graph.instance, ROWS) is None


@pytest.mark.parametrize("end", get_args(End))
@pytest.mark.parametrize("passed", [True, False])
def test_a_planned_execution_does_not_hide_the_result_before_it(
    graph: Graph, passed: bool, end: End
) -> None:
    report_result(graph, RAW, ROWS.name, MONTH, passed=passed)
    for _ in range(2):
        plan(graph, RAW, month=MONTH, end=end)
    assert found(graph) == {MONTH: passed}
    assert len(list(latest_failures(graph.instance, [ROWS], [MONTH]))) == (not passed)
    latest = latest_result(graph.instance, ROWS)
    assert latest is not None
    assert (latest.partition, latest.result.passed) == (MONTH, passed)


def test_a_later_result_replaces_the_earlier_one_of_its_month(graph: Graph) -> None:
    for month, passed in ((MONTH, False), (OTHER, False), (MONTH, True)):
        report_result(graph, RAW, ROWS.name, month, passed=passed)
        plan(graph, RAW, month=month, end="failed")
    assert found(graph) == {MONTH: True, OTHER: False}
    assert found(graph, OTHER) == {OTHER: False}
    assert [r.partition for r in latest_failures(graph.instance, [ROWS])] == [OTHER]
    latest = latest_result(graph.instance, ROWS)
    assert latest is not None
    assert latest.partition == MONTH


def test_a_warning_is_a_result_and_no_failure(graph: Graph) -> None:
    report_result(graph, RAW, ROWS.name, MONTH, passed=False, warns=True)
    assert found(graph) == {MONTH: False}
    assert list(latest_failures(graph.instance, [ROWS])) == []


@pytest.mark.parametrize("passed", [True, False])
def test_a_result_that_judged_nothing_does_not_hide_the_one_before_it(
    graph: Graph, passed: bool
) -> None:
    report_result(graph, RAW, ROWS.name, MONTH, passed=passed)
    for _ in range(2):
        report_result(graph, RAW, ROWS.name, MONTH, passed=True, judged=False)
        plan(graph, RAW, month=MONTH, end="failed")
    assert found(graph) == {MONTH: passed}
    assert len(list(latest_failures(graph.instance, [ROWS], [MONTH]))) == (not passed)
    latest, judged = latest_result(graph.instance, ROWS), latest_judged(graph.instance, ROWS)
    assert latest is not None
    assert judged is not None
    assert (latest.judged, judged.judged, judged.result.passed) == (False, True, passed)


def test_a_check_that_never_judged_has_a_result_and_no_judged_one(graph: Graph) -> None:
    report_result(graph, RAW, ROWS.name, MONTH, passed=True, judged=False)
    assert found(graph) == {}
    assert latest_judged(graph.instance, ROWS) is None
    assert latest_result(graph.instance, ROWS) is not None


def test_a_check_without_partitions_has_one_result(graph: Graph) -> None:
    report_result(graph, "evaluation_report", BEATS.name, None, passed=False)
    plan(graph, "evaluation_report", end="canceled")
    [record] = latest_failures(graph.instance, [BEATS])
    assert (record.key, record.partition, record.result.description) == (BEATS, None, "as reported")
