"""Reads of Dagster's event log, in order and from a remembered position."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterEventType as Kind
from dagster import DagsterInstance, EventLogEntry

from churn_assets.defs.gates.gates import SHUT_GATE
from churn_assets.defs.platform.dagster_internals import (
    InMemoryEventLogStorage,
    SqliteEventLogStorage,
)
from churn_assets.defs.platform.faults import error_message

Event = tuple[int, EventLogEntry]
"""Entry of the log with its storage id."""

STATES = (Kind.ASSET_CHECK_EVALUATION, Kind.FRESHNESS_STATE_CHANGE)
"""Events that report a state, so that only the last event about a subject counts."""
READ = (*STATES, Kind.ASSET_MATERIALIZATION, Kind.RUN_SUCCESS, Kind.RUN_FAILURE)
BATCH = 1_000
"""Number of events of one type that are read at a time."""
START = -1
"""Position before the first event."""

WILL_RETRY, RETRY_NUMBER = "dagster/will_retry", "dagster/retry_number"
UNDECIDED_SECONDS = 120.0
"""Seconds after the failure of a run in which Dagster may decide about a retry."""


@dataclass(frozen=True)
class Step:
    """Assets that a run plans to materialise in one step.

    Attributes:
        key: Key of the step.
        assets: Names of the assets.
        partition: Partition of the assets; None where they have none.
    """

    key: str
    assets: tuple[str, ...]
    partition: str | None


def end(instance: DagsterInstance) -> int:
    """Returns the position of the last event."""
    newest = instance.event_log_storage.get_maximum_record_id()
    return START if newest is None else newest


def commits_in_order(instance: DagsterInstance) -> bool:
    """Returns whether the events up to `end` are complete.

    A database server gives an event its id before the event is committed, so that one with a lower
    id may follow.
    """
    return isinstance(instance.event_log_storage, SqliteEventLogStorage | InMemoryEventLogStorage)


def read(
    instance: DagsterInstance,
    after: int,
    upto: int,
    kinds: tuple[Kind, ...] = READ,
    batch: int = BATCH,
) -> list[Event]:
    """Returns the next events after a position, in order and without gaps; more may follow.

    Dagster's public read methods cover one asset or one check; its daemons use the method here.

    Args:
        upto: Last position to read: an earlier `end`, because the log grows while it is read.
        batch: Maximum number of events of one type.
    """
    entries: dict[int, EventLogEntry] = {}
    for kind in kinds:
        events = instance.event_log_storage.get_logs_for_all_runs_by_log_id(after, kind, batch)
        entries |= events
        if len(events) == batch:  # more of this type may precede the last ones of the others
            upto = min(upto, max(events))
    return [(number, entries[number]) for number in sorted(entries) if number <= upto]


def read_all(instance: DagsterInstance, upto: int, kinds: tuple[Kind, ...]) -> Iterator[Event]:
    """Yields all events up to a position, in order."""
    after = START
    while events := read(instance, after, upto, kinds):
        yield from events
        after = events[-1][0]


def undecided(instance: DagsterInstance, entry: EventLogEntry) -> bool:
    """Returns whether a run failed just now, and Dagster has not decided about a retry yet."""
    if entry.dagster_event_type != Kind.RUN_FAILURE or not instance.run_retries_enabled:
        return False
    run = instance.get_run_by_id(entry.run_id)
    recent = time.time() - entry.timestamp < UNDECIDED_SECONDS
    return recent and run is not None and WILL_RETRY not in run.tags


def planned(instance: DagsterInstance, run_id: str) -> list[Step]:
    """Returns the steps of a run that materialise assets."""
    assets: dict[tuple[str, str | None], list[str]] = {}
    for record in _records(instance, run_id, Kind.ASSET_MATERIALIZATION_PLANNED):
        entry, event = record.event_log_entry, record.event_log_entry.get_dagster_event()
        key = event.asset_materialization_planned_data.asset_key.to_user_string()
        assets.setdefault((entry.step_key or "", event.partition), []).append(key)
    return [Step(step, tuple(sorted(names)), month) for (step, month), names in assets.items()]


def failures(instance: DagsterInstance, failed: EventLogEntry) -> list[tuple[Step, str]]:
    """Returns the steps at which a run failed, with the reasons.

    Where the process of the run died, that is the step in progress. Steps with a failed check of
    severity ERROR and steps behind a closed gate are left out: the check is reported already.
    """
    steps = {step.key: step for step in planned(instance, failed.run_id)}
    records = _records(instance, failed.run_id, Kind.STEP_FAILURE)
    reasons = {record.event_log_entry.step_key or "": _reason(record) for record in records}
    if not reasons:
        message = failed.get_dagster_event().message or "The run ended without a message."
        reasons = dict.fromkeys(_unfinished(instance, failed.run_id, steps)[:1], message)
    gated = {record.event_log_entry.step_key for record in records if _is_gated(record)}
    reported = gated | _steps_of_failed_checks(instance, failed.run_id)
    return [
        (steps[key], reason)
        for key, reason in reasons.items()
        if key in steps and key not in reported
    ]


def _unfinished(instance: DagsterInstance, run_id: str, steps: Iterable[str]) -> list[str]:
    """Returns the steps that materialised nothing, those that had started first."""
    started, materialised = (
        {record.event_log_entry.step_key for record in _records(instance, run_id, kind)}
        for kind in (Kind.STEP_START, Kind.ASSET_MATERIALIZATION)
    )
    unfinished = (step for step in steps if step not in materialised)
    return sorted(unfinished, key=lambda step: step not in started)


def _steps_of_failed_checks(instance: DagsterInstance, run_id: str) -> set[str | None]:
    steps = set()
    for record in _records(instance, run_id, Kind.ASSET_CHECK_EVALUATION):
        check = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            steps.add(record.event_log_entry.step_key)
    return steps


def _is_gated(record: dg.EventLogRecord) -> bool:
    """Returns whether the step failed because a gate was closed."""
    failure = record.event_log_entry.get_dagster_event().step_failure_data.user_failure_data
    return failure is not None and SHUT_GATE in failure.metadata


def _reason(record: dg.EventLogRecord) -> str:
    """Returns the reason of a failed step."""
    return error_message(record.event_log_entry.get_dagster_event().step_failure_data.error)


def _records(instance: DagsterInstance, run_id: str, kind: Kind) -> list[dg.EventLogRecord]:
    return list(instance.get_records_for_run(run_id, of_type=kind).records)
