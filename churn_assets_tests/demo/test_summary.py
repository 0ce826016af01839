"""Summary of the demo: the latest results count, also where later ones were planned."""

from pathlib import Path

import pytest

from churn_assets.demo.summary import summary
from churn_assets_tests.defs.check_events import plan, report_asset, report_result
from churn_assets_tests.defs.graph import MONTH, Graph, from_files


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    report_asset(
        graph, "churn_model",
        model_version="churn_telecom:1", months="2025-10, 2025-11", reasons="first: no model yet",
    )  # fmt: skip
    return graph


def shown(graph: Graph) -> str:
    text = summary(graph.platform, graph.definitions, graph.instance, 1.0, complete=False)
    return " ".join(text.split())


def test_a_decision_that_was_planned_and_never_came_is_no_result(graph: Graph) -> None:
    plan(graph, "promoted_model", end="failed")
    assert "why: first not promoted" in shown(graph)


def test_the_last_decision_counts_if_a_later_one_was_planned(graph: Graph) -> None:
    report_result(graph, "promoted_model", "challenger_earned_promotion", None, passed=False)
    plan(graph, "promoted_model", end="canceled")
    assert "not promoted: as reported" in shown(graph)
    assert "checks 0 passed, 1 failed," in shown(graph)


def test_a_stopped_month_stays_stopped_if_it_is_to_be_checked_again(graph: Graph) -> None:
    report_result(graph, "raw_customers", "rows_present", MONTH, passed=False)
    report_result(graph, "raw_customers", "row_count_as_usual", MONTH, passed=True)
    plan(graph, "raw_customers", month=MONTH)
    assert f"{MONTH}: stopped at raw_customers: rows_present: as reported" in shown(graph)
    assert "checks 1 passed, 1 failed," in shown(graph)
