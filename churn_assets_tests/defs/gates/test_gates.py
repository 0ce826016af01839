"""Gates: a failed blocking check of an earlier run stops a step, unless a person overrides it."""

from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from churn_assets.adapters.audit import AuditLog
from churn_assets.defs.gates.approval import DAEMON_TAGS
from churn_assets_tests.defs.check_events import End, plan, report_result
from churn_assets_tests.defs.graph import CUSTOMERS, LABELS, MONTH, Graph, customers, from_files
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised

OTHER = "2026-02"
NO_CUSTOMERS = customers(1).head(0)


def override(step: str, **fields: str) -> dict[str, Any]:
    given = {"override_reason": "the month is short", "override_by": "ada"} | fields
    return {"ops": {step: {"config": given}}}


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    deliver(graph, customers(300), MONTH)
    return graph


def deliver(graph: Graph, rows: pd.DataFrame, month: str) -> None:
    path = str(graph.settings.file.customers).replace("{month}", month)
    rows.to_csv(path, index=False)


def test_a_run_by_hand_names_the_failed_check_and_how_to_override_it(graph: Graph) -> None:
    assert graph.run(*CUSTOMERS, month=MONTH).success
    deliver(graph, NO_CUSTOMERS, MONTH)
    refused = graph.run("raw_customers", month=MONTH)
    assert "rows_present" in failed_checks(refused)
    result = graph.run("validated_features", "quarantined_customers", month=MONTH)
    assert materialised(result) == set()
    message = error_of(result, "validate_customers")
    assert f"raw_customers: rows_present of {MONTH} (run {refused.run_id}): " in message
    config = "validate_customers:\n    config:\n      override_reason: ...\n      override_by:"
    assert config in message
    assert "quarantined_customers, validated_features of 2026-01 cannot be materialised" in message


def test_a_check_that_failed_before_anything_was_published_closes_the_gate(graph: Graph) -> None:
    deliver(graph, NO_CUSTOMERS, MONTH)
    graph.run("raw_customers", month=MONTH)
    message = error_of(graph.run("churn_labels", month=MONTH), "churn_labels")
    assert "raw_customers: rows_present of 2026-01" in message


def test_an_override_is_offered_only_where_the_input_has_rows(graph: Graph) -> None:
    deliver(graph, NO_CUSTOMERS, MONTH)
    graph.run("raw_customers", month=MONTH)
    message = error_of(graph.run("churn_labels", month=MONTH), "churn_labels")
    assert "override_by" not in message
    assert "Fix the cause and materialise those again." in message
    deliver(graph, customers(300), MONTH)
    assert graph.run("raw_customers", month=MONTH).success
    deliver(graph, NO_CUSTOMERS, MONTH)
    graph.run("raw_customers", month=MONTH)
    assert "override_by" in error_of(graph.run("churn_labels", month=MONTH), "churn_labels")


def test_a_check_that_passes_opens_the_gate_again(graph: Graph) -> None:
    deliver(graph, NO_CUSTOMERS, MONTH)
    assert not graph.run("raw_customers", month=MONTH).success
    deliver(graph, customers(300), MONTH)
    assert graph.run("raw_customers", month=MONTH).success
    assert graph.run(*CUSTOMERS[1:], month=MONTH).success


@pytest.mark.parametrize("end", get_args(End))
def test_a_check_that_is_planned_again_and_never_evaluated_changes_no_gate(
    graph: Graph, end: End
) -> None:
    deliver(graph, NO_CUSTOMERS, OTHER)
    assert graph.run("raw_customers", month=MONTH).success
    assert not graph.run("raw_customers", month=OTHER).success
    for month in (MONTH, OTHER):
        plan(graph, "raw_customers", month=month, end=end)
    assert graph.run(*CUSTOMERS[1:], month=MONTH).success
    message = error_of(graph.run("churn_labels", month=OTHER), "churn_labels")
    assert f"raw_customers: rows_present of {OTHER}" in message


@pytest.mark.parametrize("shut", [True, False])
def test_a_result_that_judged_nothing_changes_no_gate(graph: Graph, shut: bool) -> None:
    assert graph.run("raw_customers", month=MONTH).success
    if shut:
        report_result(graph, "raw_customers", "rows_present", MONTH, passed=False)
    report_result(graph, "raw_customers", "rows_present", MONTH, passed=True, judged=False)
    result = graph.run("churn_labels", month=MONTH)
    assert result.success is not shut
    if shut:
        message = error_of(result, "churn_labels")
        assert f"raw_customers: rows_present of {MONTH}" in message
        report_result(graph, "raw_customers", "rows_present", MONTH, passed=True)
        assert graph.run("churn_labels", month=MONTH).success


def test_an_override_needs_a_reason_and_a_name_and_is_recorded(graph: Graph) -> None:
    assert graph.run(*CUSTOMERS, month=MONTH).success
    deliver(graph, NO_CUSTOMERS, MONTH)
    refused = graph.run("raw_customers", month=MONTH)
    for lacking in ("override_reason", "override_by"):
        config = override("churn_labels", **{lacking: " "})
        assert not graph.run(*LABELS, month=MONTH, config=config).success
    deliver(graph, customers(300), MONTH)
    audit = AuditLog(graph.lake)
    assert audit.entries() == []
    result = graph.run(*LABELS, month=MONTH, config=override("churn_labels"))
    assert materialised(result) == {"churn_labels"}
    (entry,) = audit.entries()
    assert (entry.action, entry.actor, entry.reason, entry.subject) == (
        "override", "ada", "the month is short", f"churn_labels of {MONTH}",
    )  # fmt: skip
    (check,) = entry.evidence["failed_checks"]
    assert (check["asset"], check["name"], check["partition"], check["run_id"]) == (
        "raw_customers", "rows_present", MONTH, refused.run_id,
    )  # fmt: skip
    assert entry.evidence["dagster_run_id"] == result.run_id
    (event,) = result.asset_materializations_for_node("churn_labels")
    assert event.metadata["override_by"].value == "ada"
    assert event.metadata["override_entry"].value == 1


@pytest.mark.parametrize("tag", sorted(DAEMON_TAGS))
def test_a_daemon_cannot_override(graph: Graph, tag: str) -> None:
    deliver(graph, NO_CUSTOMERS, MONTH)
    graph.run("raw_customers", month=MONTH)
    result = graph.run(
        "churn_labels", month=MONTH, config=override("churn_labels"), tags={tag: "it"}
    )
    assert "cannot be materialised" in error_of(result, "churn_labels")
    assert AuditLog(graph.lake).entries() == []


def test_an_override_of_an_open_gate_is_not_recorded(graph: Graph) -> None:
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH, config=override("churn_labels")).success
    assert AuditLog(graph.lake).entries() == []


def test_a_failed_month_does_not_close_the_gate_of_another(graph: Graph) -> None:
    deliver(graph, NO_CUSTOMERS, OTHER)
    assert graph.run("raw_customers", month=MONTH).success
    assert not graph.run("raw_customers", month=OTHER).success
    assert graph.run(*CUSTOMERS[1:], month=MONTH).success


def test_the_gate_of_an_asset_with_all_months_ignores_unpublished_months(graph: Graph) -> None:
    deliver(graph, NO_CUSTOMERS, OTHER)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH).success
    graph.run(*CUSTOMERS, month=OTHER)
    assert graph.run("training_set").success, "the other month has no rows to train on"
    broken = customers(300, *[{"age": "900"}] * 200)
    deliver(graph, broken, MONTH)
    graph.run(*CUSTOMERS, month=MONTH)
    message = error_of(graph.run("training_set"), "training_set")
    assert f"validated_features: quarantined_share_within_limit of {MONTH}" in message
