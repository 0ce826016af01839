"""Reasons to train again: an external asset whose events a sensor reports.

The reasons of a training are the events since the previous training. So the event log holds
everything about a decision: the reasons, their time, and the training that followed.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterInstance
from pydantic import TypeAdapter

from churn_assets.core.monitoring.drift import RETRAINING_CHECKS
from churn_assets.core.monitoring.retraining import Kind, Reason, TrainedAt, cooled_down, reasons
from churn_assets.defs.platform.check_records import latest_results
from churn_assets.defs.platform.dagster_internals import IN_PROGRESS_RUN_STATUSES
from churn_assets.defs.platform.platform import OWNER, Platform

REASONS = "retraining_reasons"
MODEL, DRIFT = "churn_model", "drift_report"
TAG = "churn/retraining_reasons"
"""Tag of the run that trains."""

CURRENT = "current"
"""Metadata key of a model that was materialised again without a training; says why."""

MAX_EVENTS = 1_000
"""Number of latest events that are read."""

_REASONS = TypeAdapter(tuple[Reason, ...])


def definitions(platform: Platform) -> dg.Definitions:
    """Returns the external asset `retraining_reasons`."""
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
    return dg.Definitions(assets=[spec])


def open_reasons(
    platform: Platform, instance: DagsterInstance, now: datetime
) -> tuple[Reason, ...] | str:
    """Returns the reasons to train again that no event holds yet, or why there are none."""
    model = newest_model(instance)
    if model is None:
        return "no model was trained yet"
    month, failed = _failed_checks(instance)
    policy = platform.settings.retraining
    known = {reason.key for event in _events(instance) for reason in event}
    if _in_training(instance):
        return "a model is being trained"
    new = [r for r in reasons(model, month, failed, policy, now) if r.key not in known]
    if not new:
        return "no reason"
    if not cooled_down(model, policy, now):
        waits = ", ".join(reason.key for reason in new)
        return f"{waits}: waits until {policy.cool_down_days:g} days after the last training"
    return tuple(new)


def event_of(new: Sequence[Reason]) -> dg.AssetMaterialization:
    """Returns the event that requests a training."""
    return dg.AssetMaterialization(
        REASONS,
        description="; ".join(f"{reason.key}: {reason.text}" for reason in new),
        metadata={
            "reasons": dg.MetadataValue.json([reason.model_dump() for reason in new]),
            **{reason.key: reason.text for reason in new},
        },
    )


def reasons_of_run(context: dg.AssetExecutionContext) -> tuple[str, ...]:
    """Returns the reasons of a training as text, and writes them to a tag of its run."""
    texts = tuple(f"{reason.key}: {reason.text}" for reason in pending_reasons(context.instance))
    if not texts and newest_model(context.instance) is None:
        texts = ("first: there was no model yet",)
    return tagged(context, *texts)


def tagged(context: dg.AssetExecutionContext, *texts: str) -> tuple[str, ...]:
    """Returns the reasons of a training, after writing them to a tag of its run."""
    if texts:
        context.instance.add_run_tags(context.run.run_id, {TAG: "; ".join(texts)})
    return texts


def pending_reasons(instance: DagsterInstance) -> tuple[Reason, ...]:
    """Returns the reasons reported since the last training, which are those of the next one."""
    trained = newest_model(instance)
    records = _records(instance)
    events = [
        _reasons_of(record)
        for record in records
        if trained is None or record.timestamp > trained.time.timestamp()
    ]
    return tuple(reason for event in events for reason in event)


def _records(instance: DagsterInstance) -> Sequence[dg.EventLogRecord]:
    return instance.fetch_materializations(dg.AssetKey(REASONS), limit=MAX_EVENTS).records


def _events(instance: DagsterInstance) -> list[tuple[Reason, ...]]:
    return [_reasons_of(record) for record in _records(instance)]


def _reasons_of(record: dg.EventLogRecord) -> tuple[Reason, ...]:
    event = record.asset_materialization
    assert event is not None
    return _REASONS.validate_python(event.metadata["reasons"].value)


def _in_training(instance: DagsterInstance) -> bool:
    key = dg.AssetKey(MODEL)
    statuses = [dg.DagsterRunStatus.QUEUED, *IN_PROGRESS_RUN_STATUSES]
    runs = instance.get_runs(dg.RunsFilter(statuses=statuses))
    return any(run.asset_selection is None or key in run.asset_selection for run in runs)


def newest_model(instance: DagsterInstance) -> TrainedAt | None:
    """Returns the newest model and the time of its training; None where none was trained.

    A model that was materialised again without a training keeps its time.
    """
    records = instance.fetch_materializations(dg.AssetKey(MODEL), limit=MAX_EVENTS).records
    for record in records:
        event = record.asset_materialization
        if event and (CURRENT not in event.metadata or record is records[-1]):
            _, version = str(event.metadata["model_version"].value).rsplit(":", 1)
            return TrainedAt(version=version, time=datetime.fromtimestamp(record.timestamp, UTC))
    return None


def _failed_checks(instance: DagsterInstance) -> tuple[str, dict[Kind, list[str]]]:
    """Returns the latest month whose drift was checked, and the results of its failed checks."""
    key = dg.AssetKey(DRIFT)
    kinds = {dg.AssetCheckKey(key, name): kind for name, kind in RETRAINING_CHECKS.items()}
    for month in sorted(instance.get_materialized_partitions(key), reverse=True):
        # A month whose run died between its report and its checks says nothing about drift yet.
        if records := list(latest_results(instance, list(kinds), [month])):
            failed: dict[Kind, list[str]] = defaultdict(list)
            for record in records:
                if not record.result.passed:
                    text = f"{record.key.name}: {record.result.description}"
                    failed[kinds[record.key]].append(text)
            return month, dict(failed)
    return "", {}
