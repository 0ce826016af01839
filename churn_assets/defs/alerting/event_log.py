"""Reading Dagster's event log in order, from a place that is remembered on."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterEventType as Kind
from dagster import DagsterInstance, EventLogEntry

from churn_assets.defs.gates.gates import SHUT_GATE

Event = tuple[int, EventLogEntry]
"""An entry of the log with its storage id."""

STATES = (Kind.ASSET_CHECK_EVALUATION, Kind.FRESHNESS_STATE_CHANGE)
"""Events that say how something is, so that the last one counts."""
READ = (*STATES, Kind.ASSET_MATERIALIZATION, Kind.RUN_SUCCESS, Kind.RUN_FAILURE)
BATCH = 1_000
"""Events of a kind that are read at a time."""
START = -1
"""The place before the first event."""

WILL_RETRY, RETRY_NUMBER = "dagster/will_retry", "dagster/retry_number"
UNDECIDED_SECONDS = 120.0
"""So long after a run failed Dagster may take to say whether it tries again."""


@dataclass(frozen=True)
class Step:
    """What a run was to make in one step.

    Attributes:
        key: of the step.
        assets: their names.
        partition: of the assets; None where they have none.
    """

    key: str
    assets: tuple[str, ...]
    partition: str | None


def end(instance: DagsterInstance) -> int:
    """The place behind which nothing was written yet."""
    newest = instance.event_log_storage.get_maximum_record_id()
    return START if newest is None else newest


def read(
    instance: DagsterInstance,
    after: int,
    upto: int,
    kinds: tuple[Kind, ...] = READ,
    batch: int = BATCH,
) -> list[Event]:
    """The next events behind a place, in order; none is left out, though there may be more.

    The public ways to read are of one asset, or of one check; this one is what the daemons use.

    Args:
        upto: the last place to read; an `end` from before, as the log grows while it is read.
        batch: events of a kind at most.
    """
    found: dict[int, EventLogEntry] = {}
    for kind in kinds:
        events = instance.event_log_storage.get_logs_for_all_runs_by_log_id(after, kind, batch)
        found |= events
        if len(events) == batch:  # there may be more of these before the others' last
            upto = min(upto, max(events))
    return [(number, found[number]) for number in sorted(found) if number <= upto]


def read_all(instance: DagsterInstance, upto: int, kinds: tuple[Kind, ...]) -> Iterator[Event]:
    """All events up to a place, in order."""
    after = START
    while events := read(instance, after, upto, kinds):
        yield from events
        after = events[-1][0]


def undecided(instance: DagsterInstance, entry: EventLogEntry) -> bool:
    """A run has failed just now, and Dagster has not said yet whether it tries again."""
    if entry.dagster_event_type != Kind.RUN_FAILURE or not instance.run_retries_enabled:
        return False
    run = instance.get_run_by_id(entry.run_id)
    young = time.time() - entry.timestamp < UNDECIDED_SECONDS
    return young and run is not None and WILL_RETRY not in run.tags


def planned(instance: DagsterInstance, run_id: str) -> list[Step]:
    """The steps of a run that make assets."""
    assets: dict[tuple[str, str | None], list[str]] = {}
    for record in _records(instance, run_id, Kind.ASSET_MATERIALIZATION_PLANNED):
        entry, event = record.event_log_entry, record.event_log_entry.get_dagster_event()
        key = event.asset_materialization_planned_data.asset_key.to_user_string()
        assets.setdefault((entry.step_key or "", event.partition), []).append(key)
    return [Step(step, tuple(sorted(names)), month) for (step, month), names in assets.items()]


def failures(instance: DagsterInstance, failed: EventLogEntry) -> list[tuple[Step, str]]:
    """The steps that a run failed at, and why; the one it was at where its process died.

    A step that failed a check of severity ERROR is left out, and one behind a shut gate: the check
    says it already.
    """
    steps = {step.key: step for step in planned(instance, failed.run_id)}
    records = _records(instance, failed.run_id, Kind.STEP_FAILURE)
    why = {record.event_log_entry.step_key or "": _cause(record) for record in records}
    if not why:
        said = failed.get_dagster_event().message or "The run ended before its time."
        why = dict.fromkeys(_unfinished(instance, failed.run_id, steps)[:1], said)
    shut = {one.event_log_entry.step_key for one in records if _at_a_shut_gate(one)}
    told = shut | _steps_of_failed_checks(instance, failed.run_id)
    return [(steps[key], said) for key, said in why.items() if key in steps and key not in told]


def _unfinished(instance: DagsterInstance, run_id: str, steps: Iterable[str]) -> list[str]:
    """Steps that made nothing, first those that had begun."""
    begun, made = (
        {record.event_log_entry.step_key for record in _records(instance, run_id, kind)}
        for kind in (Kind.STEP_START, Kind.ASSET_MATERIALIZATION)
    )
    return sorted((step for step in steps if step not in made), key=lambda step: step not in begun)


def _steps_of_failed_checks(instance: DagsterInstance, run_id: str) -> set[str | None]:
    found = set()
    for record in _records(instance, run_id, Kind.ASSET_CHECK_EVALUATION):
        check = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            found.add(record.event_log_entry.step_key)
    return found


def _at_a_shut_gate(record: dg.EventLogRecord) -> bool:
    said = record.event_log_entry.get_dagster_event().step_failure_data.user_failure_data
    return said is not None and SHUT_GATE in said.metadata


def _cause(record: dg.EventLogRecord) -> str:
    """What the innermost error of a failed step said."""
    error = record.event_log_entry.get_dagster_event().step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "It gave no reason."


def _records(instance: DagsterInstance, run_id: str, kind: Kind) -> list[dg.EventLogRecord]:
    return list(instance.get_records_for_run(run_id, of_type=kind).records)
