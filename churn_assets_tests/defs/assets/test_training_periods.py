"""A month behind a failed check is left out of the training set, by hand and by the daemon."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import time_machine

from churn_assets.adapters.audit import AuditLog
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets_tests.defs.daemon import Daemon, RequestedRun
from churn_assets_tests.defs.graph import CUSTOMERS, LABELS, Graph, customers, from_files
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised

FIRST, BAD, THIRD, LATEST = "2026-01", "2026-02", "2026-03", "2026-04"
LABELLED = (FIRST, BAD, THIRD)
NOW = datetime(2026, 5, 2, 5, tzinfo=UTC)
"""The labels of the latest closed month are not known yet."""

CHECKS = {
    "raw_customers": "rows_present",
    "validated_features": "quarantined_share_within_limit",
    "churn_labels": "label_rate_within_bounds",
}
"""Blocking checks that fail in the bad month, by asset."""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    # These take long and decide nothing here.
    monkeypatch.setattr("churn_assets.adapters.reports.plots._png", lambda *_: b"")
    monkeypatch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
    monkeypatch.setattr("churn_assets.core.modelling.training.FOLDS", 2)
    with time_machine.travel(NOW):
        yield from_files(
            tmp_path,
            tmp_path / "customers-{month}.csv",
            bootstrap_resamples=100,
            automation={"traffic_cron": "0 0 29 2 *"},
            promotion={"resamples": 100, "first_profit": -1_000_000},
            limits={"min_auc": 0.5, "min_gain_over_baseline": -1},
        )


def rows_of(month: str) -> pd.DataFrame:
    """Customers who are of one age each month; those with few days of usage leave more often."""
    random = np.random.default_rng(int(month[-2:]))
    rows = customers(500).assign(age=str(30 + int(month[-2:])))
    chance = np.where(rows["usage_days"].astype(int) < 9, 0.6, 0.15)
    return rows.assign(churned=np.where(random.random(500) < chance, "true", "false"))


def broken(asset: str) -> pd.DataFrame:
    """Customers of the bad month of whom a check of the asset fails."""
    rows = rows_of(BAD)
    if asset == "raw_customers":
        return rows.head(0)
    column, value = ("age", "900") if asset == "validated_features" else ("churned", "true")
    return rows.assign(**{column: value})


def deliver(graph: Graph, rows: pd.DataFrame, month: str) -> None:
    path = str(graph.settings.file.customers).replace("{month}", month)
    rows.to_csv(path, index=False)


def fill(graph: Graph, *months: str) -> None:
    """Delivers good months and materialises their features and labels by hand."""
    for month in months:
        deliver(graph, rows_of(month), month)
        assert graph.run(*CUSTOMERS, month=month).success
        assert graph.run(*LABELS, month=month).success


def break_month(graph: Graph, asset: str) -> None:
    """Delivers the bad month and materialises it by hand."""
    deliver(graph, broken(asset), BAD)
    graph.run(*CUSTOMERS, month=BAD)
    graph.run(*LABELS, month=BAD)


def override(step: str, **fields: Any) -> dict[str, Any]:
    given = {"override_by": "ada", "override_reason": "the month is right", **fields}
    return {"ops": {step: {"config": given}}}


def evaluation(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    return next(e for e in result.get_asset_check_evaluations() if e.check_name == name)


def newest(graph: Graph, asset: str) -> dict[str, Any]:
    """Metadata of the newest materialisation of an asset."""
    event = graph.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def trained_on(graph: Graph) -> list[str]:
    """Months of the newest training set."""
    return sorted(graph.lake.read("training_set")["month"].unique())


# By hand


@pytest.mark.parametrize("asset", CHECKS)
@pytest.mark.parametrize("published", [False, True])
def test_a_failed_month_is_left_out_by_name_and_comes_back(
    graph: Graph, asset: str, published: bool
) -> None:
    fill(graph, *(LABELLED if published else (FIRST, THIRD)))
    break_month(graph, asset)
    result = graph.run("training_set")
    assert result.success
    check = evaluation(result, "training_periods_complete")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert not check.blocking
    assert check.metadata["periods_left_out"].value == BAD
    assert f"{BAD}: {asset}: {CHECKS[asset]} of {BAD} (run " in (check.description or "")
    assert newest(graph, "training_set")["periods_left_out"] == BAD
    rows = graph.lake.read("training_set")
    assert set(rows["month"]) == {FIRST, THIRD}
    assert set(rows["age"]) == {31, 33}

    fill(graph, BAD)
    result = graph.run("training_set")
    assert evaluation(result, "training_periods_complete").passed
    assert newest(graph, "training_set")["periods_left_out"] == "none"
    assert set(graph.lake.read("training_set")["month"]) == {FIRST, BAD, THIRD}


def test_a_month_that_never_came_is_named(graph: Graph) -> None:
    fill(graph, FIRST, THIRD)
    result = graph.run("training_set")
    assert result.success
    description = evaluation(result, "training_periods_complete").description or ""
    for table in ("validated_features", "churn_labels"):
        assert f"{BAD}: {table} was never materialised" in description


def test_too_few_rows_without_the_failed_month_are_refused_with_its_name(graph: Graph) -> None:
    deliver(graph, rows_of(FIRST).head(100), FIRST)
    assert graph.run(*CUSTOMERS, month=FIRST).success
    assert graph.run(*LABELS, month=FIRST).success
    fill(graph, BAD)
    break_month(graph, "validated_features")
    result = graph.run("training_set")
    assert materialised(result) == set()
    failed = failed_checks(result)
    assert "100 labelled rows" in (failed["enough_rows_of_both_classes"].description or "")
    assert failed["enough_rows_of_both_classes"].metadata["periods_left_out"].value == BAD
    assert failed["training_periods_complete"].metadata["periods_left_out"].value == BAD


def test_without_any_other_month_the_gate_is_shut(graph: Graph) -> None:
    fill(graph, BAD)
    break_month(graph, "churn_labels")
    message = error_of(graph.run("training_set"), "training_set")
    assert f"churn_labels: label_rate_within_bounds of {BAD}" in message
    assert "override_by: ..." in message


@pytest.mark.parametrize("asset", ["validated_features", "churn_labels"])
def test_an_override_is_not_offered_where_no_failed_month_has_rows(
    graph: Graph, asset: str
) -> None:
    break_month(graph, asset)
    for config in (None, override("training_set")):
        message = error_of(graph.run("training_set", config=config), "training_set")
        assert f"{asset}: {CHECKS[asset]} of {BAD}" in message
        assert message.rstrip().endswith("Fix the cause and materialise those again.")
    assert AuditLog(graph.lake).entries() == []


def test_an_override_keeps_the_published_rows_of_the_failed_month(graph: Graph) -> None:
    fill(graph, *LABELLED)
    break_month(graph, "validated_features")
    result = graph.run("training_set", config=override("training_set"))
    assert result.success
    assert evaluation(result, "training_periods_complete").passed
    assert set(graph.lake.read("training_set")["month"]) == {FIRST, BAD, THIRD}
    (entry,) = AuditLog(graph.lake).entries()
    assert (entry.action, entry.subject, entry.actor) == ("override", "training_set", "ada")
    (check,) = entry.evidence["failed_checks"]
    assert (check["name"], check["partition"]) == ("quarantined_share_within_limit", BAD)
    assert newest(graph, "training_set")["override_by"] == "ada"
    # The person has decided about these rows: the model needs no second override.
    assert graph.run("churn_model").success
    assert newest(graph, "churn_model")["months"] == f"{FIRST}, {BAD}, {THIRD}"


def test_an_override_publishes_no_month_and_is_not_recorded_for_one(graph: Graph) -> None:
    fill(graph, FIRST, THIRD)
    break_month(graph, "validated_features")
    result = graph.run("training_set", config=override("training_set"))
    assert evaluation(result, "training_periods_complete").metadata["periods_left_out"].value == BAD
    assert AuditLog(graph.lake).entries() == []


def test_a_model_is_not_trained_on_a_month_that_failed_after_the_training_set(
    graph: Graph,
) -> None:
    fill(graph, *LABELLED)
    assert graph.run("training_set").success
    stored = newest(graph, "training_set")["table_version"]
    break_month(graph, "raw_customers")
    message = error_of(graph.run("churn_model"), "churn_model")
    assert f"raw_customers: rows_present of {BAD}" in message
    assert "Materialise training_set again" in message
    assert graph.run("training_set", "churn_model").success
    model = newest(graph, "churn_model")
    assert model["months"] == f"{FIRST}, {THIRD}"
    versions = model["table_versions"]
    assert versions == {
        table: graph.lake.version(table)
        for table in ("training_set", "validated_features", "churn_labels")
    }
    rows = graph.lake.read("training_set", version=versions["training_set"])
    assert set(rows["month"]) == {FIRST, THIRD}
    assert AuditLog(graph.lake).entries() == []

    pinned = {"training_set_version": stored}
    again = graph.run("churn_model", config={"ops": {"churn_model": {"config": pinned}}})
    assert f"raw_customers: rows_present of {BAD}" in error_of(again, "churn_model")
    assert graph.run("churn_model", config=override("churn_model", **pinned)).success
    (entry,) = AuditLog(graph.lake).entries()
    assert entry.subject == "churn_model"


# By the daemon


def test_the_daemon_trains_without_a_month_that_was_never_published(graph: Graph) -> None:
    for month in (FIRST, THIRD, LATEST):
        deliver(graph, rows_of(month), month)
    deliver(graph, broken("validated_features"), BAD)
    daemon = Daemon(graph, without=("churn_bento",))
    runs = daemon.settle()
    assert trained_on(graph) == [FIRST, THIRD]
    assert newest(graph, "churn_model")["months"] == f"{FIRST}, {THIRD}"
    for asset in ("customer_scores", "served_traffic", "drift_report"):
        assert published(graph, asset) == {FIRST, THIRD, LATEST}
    assert requested(runs, "training_set") == [None]
    assert daemon.settle() == []

    deliver(graph, rows_of(BAD), BAD)
    runs = daemon.settle()
    assert all(run.success for run in runs), runs
    assert trained_on(graph) == [FIRST, BAD, THIRD]
    assert requested(runs, "training_set") == [None]
    assert requested(runs, "churn_model") == []
    for asset in ("customer_scores", "served_traffic", "drift_report"):
        assert published(graph, asset) == {FIRST, BAD, THIRD, LATEST}
    assert daemon.settle() == []


def test_the_daemon_takes_a_published_month_out_and_back_in(graph: Graph) -> None:
    for month in (*LABELLED, LATEST):
        deliver(graph, rows_of(month), month)
    daemon = Daemon(graph, without=("churn_bento",))
    assert all(run.success for run in daemon.settle())
    assert trained_on(graph) == [FIRST, BAD, THIRD]

    deliver(graph, broken("churn_labels"), BAD)
    runs = daemon.settle()
    assert requested(runs, "training_set") == [None]
    assert trained_on(graph) == [FIRST, THIRD]
    report_reason(graph)
    runs = daemon.settle()
    assert requested(runs, "churn_model") == [None]
    assert all(run.success for run in runs), runs
    assert newest(graph, "churn_model")["months"] == f"{FIRST}, {THIRD}"
    # The labels of the bad month are those that the drift report of the next month waits for.
    assert graph.run("drift_report", month=THIRD).success
    assert f"label_rate_within_bounds of {BAD}" in newest(graph, "drift_report")["labels_left_out"]
    report = DriftReport.model_validate_json(
        (graph.platform.reports / "drift_report" / f"{THIRD}.json").read_text()
    )
    assert {one.month for one in report.performance} == {FIRST}

    deliver(graph, rows_of(BAD), BAD)
    assert requested(daemon.settle(), "training_set") == [None]
    assert trained_on(graph) == [FIRST, BAD, THIRD]
    assert newest(graph, "training_set")["periods_left_out"] == "none"


def requested(runs: list[RequestedRun], asset: str) -> list[str | None]:
    """Months of the runs that were requested for an asset."""
    return [run.month for run in runs if asset in run.assets]


def published(graph: Graph, asset: str) -> set[str]:
    return set(graph.instance.get_materialized_partitions(dg.AssetKey(asset)))


def report_reason(graph: Graph) -> None:
    reason = {"kind": "age", "subject": "1", "text": "a test"}
    graph.instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "retraining_reasons", metadata={"reasons": dg.MetadataValue.json([reason])}
        )
    )
