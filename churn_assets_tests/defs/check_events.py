"""Events of checks in an instance: results, and executions that were planned and never came."""

from typing import Literal

import dagster as dg

from churn_assets.defs.platform.check_records import JUDGED
from churn_assets_tests.defs.graph import Graph

End = Literal["never", "failed", "canceled", "succeeded"]
"""End of a run: it still runs, or it ended; no step of it has run."""


def report_result(
    graph: Graph,
    asset: str,
    check: str,
    month: str | None,
    *,
    passed: bool,
    warns: bool = False,
    judged: bool = True,
    description: str = "as reported",
) -> None:
    """Reports the result of a check, or that it had nothing to judge."""
    severity = dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR
    result = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset), check_name=check, passed=passed, severity=severity,
        description=description, partition=month,
        metadata={} if judged else {JUDGED: dg.MetadataValue.bool(False)},
    )  # fmt: skip
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
    event = dg.DagsterEvent(kind, "job", event_specific_data=result)
    # A run of its own: Dagster stores one result of a check and month for each run.
    graph.instance.report_dagster_event(event, plan(graph, asset, month=month))


def report_asset(graph: Graph, asset: str, month: str | None = None, **metadata: str) -> None:
    """Reports a materialisation without check results."""
    event = dg.AssetMaterialization(asset, partition=month, metadata=metadata)
    graph.instance.report_runless_asset_event(event)


def plan(graph: Graph, *assets: str, month: str | None = None, end: End = "never") -> str:
    """Creates a run that plans all checks of assets and evaluates none; returns its id."""
    # Dagster cannot select a part of the assets that one step materialises.
    keys = {key for name in assets for key in graph.definitions.resolve_assets_def(name).keys}
    run = graph.instance.create_run_for_job(
        graph.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset(keys),
        tags={"dagster/partition": month} if month else {},
    )
    if end == "failed":
        graph.instance.report_run_failed(run)
    elif end == "canceled":
        graph.instance.report_run_canceled(run)
    elif end == "succeeded":
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
        graph.instance.report_dagster_event(event, run.run_id)
    return run.run_id
