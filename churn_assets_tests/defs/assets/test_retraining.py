"""Reasons to train again: a failed check of drift stays one until another result replaces it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterRunStatus
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from churn_assets.defs.assets.retraining import open_reasons
from churn_assets_tests.defs.check_events import End, plan, report_asset, report_result
from churn_assets_tests.defs.graph import MONTH, Graph, from_files

DRIFT, CHECK = "drift_report", "no_feature_drift"
LATER = "2026-02"


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A graph with a model, and a month that has drifted."""
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    report_asset(graph, "churn_model", model_version="churn_telecom:1")
    report_asset(graph, DRIFT, MONTH)
    report_result(graph, DRIFT, CHECK, MONTH, passed=False, warns=True)
    return graph


def keys(graph: Graph) -> list[str] | str:
    """Keys of the open reasons, after the cool-down."""
    cool_down = timedelta(days=graph.platform.settings.retraining.cool_down_days)
    found = open_reasons(graph.platform, graph.instance, datetime.now(UTC) + cool_down)
    return found if isinstance(found, str) else [reason.key for reason in found]


@pytest.mark.parametrize("end", ["failed", "canceled", "succeeded", "never"])
def test_a_reason_stays_if_the_month_is_to_be_checked_again_and_never_is(
    graph: Graph, end: End
) -> None:
    plan(graph, DRIFT, month=MONTH, end=end)
    assert keys(graph) == [f"drift:{MONTH}"]


def test_a_reason_stays_if_a_later_month_has_a_report_and_no_results(graph: Graph) -> None:
    plan(graph, DRIFT, month=LATER, end="failed")
    report_asset(graph, DRIFT, LATER)
    assert keys(graph) == [f"drift:{MONTH}"]


@pytest.mark.parametrize("month", [MONTH, LATER])
def test_a_reason_stays_if_a_later_result_judged_nothing(graph: Graph, month: str) -> None:
    report_asset(graph, DRIFT, month)
    report_result(graph, DRIFT, CHECK, month, passed=True, warns=True, judged=False)
    assert keys(graph) == [f"drift:{MONTH}"]


@pytest.mark.parametrize("month", [MONTH, LATER])
def test_a_later_result_that_passes_answers_the_reason(graph: Graph, month: str) -> None:
    report_asset(graph, DRIFT, month)
    report_result(graph, DRIFT, CHECK, month, passed=True, warns=True)
    assert keys(graph) == "no reason"


def test_a_training_in_the_queue_answers_every_reason(graph: Graph) -> None:
    job = graph.definitions.resolve_implicit_global_asset_job_def()
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("churn"), "__repository__")
    graph.instance.create_run_for_job(
        job,
        asset_selection=frozenset({AssetKey("churn_model")}),
        status=DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(repository, job.name),
    )
    assert keys(graph) == "a model is being trained"
