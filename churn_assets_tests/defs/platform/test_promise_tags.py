"""A run says which of its assets were past their promise, from the evaluation that requested it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import AutomationCondition
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.definitions.automation_tick_evaluation_context import (
    AutomationTickEvaluationContext,
)

from churn_assets.defs.platform.promise_tags import PAST_ITS_PROMISE, TAG
from churn_assets.defs.platform.steps import step

LATE = AutomationCondition.missing().with_label(PAST_ITS_PROMISE)
EVENT = AutomationCondition.missing().with_label("wanted")
MONTHS = dg.MonthlyPartitionsDefinition("2026-01", end_date="2026-03", fmt="%Y-%m")


def asset(name: str, condition: Any, partitions: Any = None) -> dg.AssetsDefinition:
    @dg.asset(
        name=name, automation_condition=condition, partitions_def=partitions, output_required=False
    )
    @step
    def body(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
        yield dg.Output(None)

    return body


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def tags_of_runs(
    instance: dg.DagsterInstance, *assets: dg.AssetsDefinition
) -> dict[str | None, str | None]:
    """Evaluates the conditions as the daemon does, and runs what they request."""
    definitions = dg.Definitions(assets, executor=dg.in_process_executor)
    requests, _, evaluations = AutomationTickEvaluationContext(
        evaluation_id=7, instance=instance, asset_graph=definitions.resolve_asset_graph(),
        cursor=AssetDaemonCursor.empty(), materialize_run_tags={}, observe_run_tags={},
        auto_observe_asset_keys=set(), asset_selection=dg.AssetSelection.all(),
        emit_backfills=False, logger=logging.getLogger("daemon"),
    ).evaluate()  # fmt: skip
    assert instance.schedule_storage
    instance.schedule_storage.add_auto_materialize_asset_evaluations(
        7, [evaluation.with_run_ids(set()) for evaluation in evaluations]
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    found: dict[str | None, str | None] = {}
    for request in requests:
        result = job.execute_in_process(
            instance=instance, partition_key=request.partition_key,
            asset_selection=list(request.asset_selection or []),
            tags={**request.tags, "dagster/asset_evaluation_id": "7"},
        )  # fmt: skip
        run = instance.get_run_by_id(result.run_id)
        assert run
        found[request.partition_key] = run.tags.get(TAG)
    return found


def test_the_tag_names_the_assets_that_were_past_their_promise(
    instance: dg.DagsterInstance,
) -> None:
    assets = asset("model", LATE), asset("bento", LATE), asset("report", EVENT)
    assert tags_of_runs(instance, *assets) == {None: "bento, model"}


def test_only_the_months_that_were_late_have_the_tag(instance: dg.DagsterInstance) -> None:
    latest = AutomationCondition.in_latest_time_window()
    late = (AutomationCondition.missing() & latest).with_label(PAST_ITS_PROMISE)
    assert tags_of_runs(instance, asset("raw", late | EVENT, MONTHS)) == {
        "2026-01": None,
        "2026-02": "raw",
    }


def test_a_run_for_an_event_has_no_tag(instance: dg.DagsterInstance) -> None:
    assert tags_of_runs(instance, asset("model", EVENT)) == {None: None}


def test_a_run_that_a_person_started_has_no_tag(instance: dg.DagsterInstance) -> None:
    result = dg.materialize([asset("model", LATE)], instance=instance)
    run = instance.get_run_by_id(result.run_id)
    assert run
    assert TAG not in run.tags
