"""Reasons to train again: an asset outside the graph, and the sensor that reports them.

The reasons of a training are the events since the training before it, so that everything about a
decision stands in the event log: what was found, when, and what came of it.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterInstance
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from pydantic import TypeAdapter

from churn_assets.core.monitoring.drift import RETRAINING_CHECKS
from churn_assets.core.monitoring.retraining import Kind, Reason, TrainedAt, cooled_down, reasons
from churn_assets.defs.platform.platform import OWNER, Platform

REASONS = "retraining_reasons"
MODEL, DRIFT = "churn_model", "drift_report"
TAG = "churn/retraining_reasons"
"""Of the run that trains."""

KEPT_EVENTS = 1_000

_REASONS = TypeAdapter(tuple[Reason, ...])


def definitions(platform: Platform) -> dg.Definitions:
    """The external asset `retraining_reasons`, and the sensor of the same name."""
    spec = dg.AssetSpec(
        REASONS,
        group_name="model",
        owners=[OWNER],
        kinds={"decision"},
        description=(
            "One event is one decision to train again, with its reasons: drift or performance "
            "checks that failed in the latest month, or the age of the model."
        ),
    )

    @dg.sensor(
        name=REASONS,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for reasons to train again that were not answered yet.",
    )
    def retraining(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = open_reasons(platform, context.instance, datetime.now(UTC))
        if isinstance(found, str):
            return dg.SkipReason(found)
        return dg.SensorResult(asset_events=[event_of(found)])

    return dg.Definitions(assets=[spec], sensors=[retraining])


def open_reasons(
    platform: Platform, instance: DagsterInstance, now: datetime
) -> tuple[Reason, ...] | str:
    """Reasons to train again now that no event holds yet, or why there are none."""
    model = _newest_model(instance)
    if model is None:
        return "no model was trained yet"
    month, failed = _failed_checks(instance)
    policy = platform.settings.retraining
    known = {reason.key for event in _events(instance) for reason in event}
    if _in_training(instance):
        return "a model is being trained"
    found = [r for r in reasons(model, month, failed, policy, now) if r.key not in known]
    if not found:
        return "no reason"
    if not cooled_down(model, policy, now):
        waits = ", ".join(reason.key for reason in found)
        return f"{waits}: waits until {policy.cool_down_days:g} days after the last training"
    return tuple(found)


def event_of(found: Sequence[Reason]) -> dg.AssetMaterialization:
    """The event that asks for a training."""
    return dg.AssetMaterialization(
        REASONS,
        description="; ".join(f"{reason.key}: {reason.text}" for reason in found),
        metadata={
            "reasons": dg.MetadataValue.json([reason.model_dump() for reason in found]),
            **{reason.key: reason.text for reason in found},
        },
    )


def reasons_of_run(context: dg.AssetExecutionContext) -> tuple[str, ...]:
    """The reasons that a training answers, as text; they become a tag of its run."""
    found = tuple(f"{reason.key}: {reason.text}" for reason in answered(context.instance))
    if not found and _newest_model(context.instance) is None:
        found = ("first: there was no model yet",)
    if found:
        context.instance.add_run_tags(context.run.run_id, {TAG: "; ".join(found)})
    return found


def answered(instance: DagsterInstance) -> tuple[Reason, ...]:
    """The reasons that a training which begins now answers: all since the training before it."""
    trained = instance.get_latest_materialization_event(dg.AssetKey(MODEL))
    since = trained.timestamp if trained else 0.0
    records = _records(instance)
    events = [_of(record) for record in records if record.timestamp > since]
    return tuple(reason for event in events for reason in event)


def _records(instance: DagsterInstance) -> Sequence[dg.EventLogRecord]:
    return instance.fetch_materializations(dg.AssetKey(REASONS), limit=KEPT_EVENTS).records


def _events(instance: DagsterInstance) -> list[tuple[Reason, ...]]:
    return [_of(record) for record in _records(instance)]


def _of(record: dg.EventLogRecord) -> tuple[Reason, ...]:
    event = record.asset_materialization
    assert event is not None
    return _REASONS.validate_python(event.metadata["reasons"].value)


def _in_training(instance: DagsterInstance) -> bool:
    key = dg.AssetKey(MODEL)
    running = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))
    return any(run.asset_selection is None or key in run.asset_selection for run in running)


def _newest_model(instance: DagsterInstance) -> TrainedAt | None:
    entry = instance.get_latest_materialization_event(dg.AssetKey(MODEL))
    if entry is None or entry.asset_materialization is None:
        return None
    _, version = str(entry.asset_materialization.metadata["model_version"].value).rsplit(":", 1)
    return TrainedAt(version=version, time=datetime.fromtimestamp(entry.timestamp, UTC))


def _failed_checks(instance: DagsterInstance) -> tuple[str, dict[Kind, list[str]]]:
    """The latest month with a drift report, and what its failed checks say."""
    key = dg.AssetKey(DRIFT)
    month = max(instance.get_materialized_partitions(key), default="")
    keys = {dg.AssetCheckKey(key, name): kind for name, kind in RETRAINING_CHECKS.items()}
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        list(keys), partition_filter=PartitionKeyFilter(key=month)
    )
    failed: dict[Kind, list[str]] = defaultdict(list)
    for check_key, record in latest.items():
        event = record.event.dagster_event if record.event else None
        found = event.event_specific_data if event else None
        if isinstance(found, dg.AssetCheckEvaluation) and not found.passed:
            failed[keys[check_key]].append(f"{check_key.name}: {found.description}")
    return month, dict(failed)
