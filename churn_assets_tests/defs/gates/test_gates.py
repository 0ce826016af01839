"""No step goes past a failed blocking check of an earlier run, unless a person says why."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from churn_assets.adapters.audit import AuditLog
from churn_assets.defs.gates.gates import OF_A_DAEMON
from churn_assets_tests.defs.graph import (
    CUSTOMERS,
    LABELS,
    MONTH,
    SILENT,
    Graph,
    customers,
    failed_checks,
    from_files,
    made,
    why,
)

OTHER = "2026-02"
NOBODY = customers(1).head(0)


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
    deliver(graph, NOBODY, MONTH)
    refused = graph.run("raw_customers", month=MONTH)
    assert "rows_present" in failed_checks(refused)
    result = graph.run("validated_features", "quarantined_customers", month=MONTH)
    assert made(result) == set()
    said = why(result, "validate_customers")
    assert f"raw_customers: rows_present of {MONTH} (run {refused.run_id}): " in said
    assert (
        "validate_customers:\n    config:\n      override_reason: ...\n      override_by:" in said
    )
    assert "quarantined_customers, validated_features of 2026-01 must not be made" in said


def test_a_check_that_failed_before_anything_was_published_shuts_the_gate(graph: Graph) -> None:
    deliver(graph, NOBODY, MONTH)
    graph.run("raw_customers", month=MONTH)
    said = why(graph.run("churn_labels", month=MONTH), "churn_labels")
    assert "raw_customers: rows_present of 2026-01" in said


def test_a_mended_check_opens_the_gate(graph: Graph) -> None:
    deliver(graph, NOBODY, MONTH)
    assert not graph.run("raw_customers", month=MONTH).success
    deliver(graph, customers(300), MONTH)
    assert graph.run("raw_customers", month=MONTH).success
    assert graph.run(*CUSTOMERS[1:], month=MONTH).success


def test_an_override_is_made_with_reason_and_name_and_is_on_record(graph: Graph) -> None:
    assert graph.run(*CUSTOMERS, month=MONTH).success
    deliver(graph, NOBODY, MONTH)
    refused = graph.run("raw_customers", month=MONTH)
    for lacking in ("override_reason", "override_by"):
        config = override("churn_labels", **{lacking: " "})
        assert not graph.run(*LABELS, month=MONTH, config=config).success
    deliver(graph, customers(300), MONTH)
    audit = AuditLog(graph.lake)
    assert audit.entries() == []
    result = graph.run(*LABELS, month=MONTH, config=override("churn_labels"))
    assert made(result) == {"churn_labels"}
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


@pytest.mark.parametrize("tag", sorted(OF_A_DAEMON))
def test_a_daemon_overrides_nothing(graph: Graph, tag: str) -> None:
    deliver(graph, NOBODY, MONTH)
    graph.run("raw_customers", month=MONTH)
    result = graph.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config=SILENT | override("churn_labels"),
        instance=graph.instance,
        partition_key=MONTH,
        asset_selection=[dg.AssetKey("churn_labels")],
        tags={tag: "it"},
        raise_on_error=False,
    )
    assert "must not be made" in why(result, "churn_labels")
    assert AuditLog(graph.lake).entries() == []


def test_an_override_that_nothing_asks_for_leaves_no_trace(graph: Graph) -> None:
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH, config=override("churn_labels")).success
    assert AuditLog(graph.lake).entries() == []


def test_one_month_does_not_shut_the_gate_of_another(tmp_path: Path) -> None:
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    deliver(graph, customers(300), MONTH)
    deliver(graph, NOBODY, OTHER)
    assert graph.run("raw_customers", month=MONTH).success
    assert not graph.run("raw_customers", month=OTHER).success
    assert graph.run(*CUSTOMERS[1:], month=MONTH).success


def test_what_reads_all_months_asks_for_those_that_were_published(tmp_path: Path) -> None:
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    deliver(graph, customers(300), MONTH)
    deliver(graph, NOBODY, OTHER)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH).success
    graph.run(*CUSTOMERS, month=OTHER)
    assert graph.run("training_set").success, "the other month has no rows to learn from"
    broken = customers(300, *[{"age": "900"}] * 200)
    deliver(graph, broken, MONTH)
    graph.run(*CUSTOMERS, month=MONTH)
    said = why(graph.run("training_set"), "training_set")
    assert f"validated_features: quarantined_share_within_limit of {MONTH}" in said
