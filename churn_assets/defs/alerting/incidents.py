"""What happened in the graph, as observations: failed checks, failed runs, freshness, decisions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any
from urllib.parse import quote

import dagster as dg
from dagster import DagsterEventType as Kind
from dagster import DagsterInstance, EventLogEntry

from churn_assets.core.monitoring.incidents import Number, Observation
from churn_assets.defs.alerting import runbooks
from churn_assets.defs.alerting.event_log import RETRY_NUMBER, WILL_RETRY, Event, failures, planned

PROMOTED, REASONS = "promoted_model", "retraining_reasons"
MOVES = ("promotion", "rollback")
LONGEST, SHORT = 800, 100
"""Characters of a text, and of a value, that somebody else has written."""


@dataclass(frozen=True)
class Observer:
    """Turns events into observations.

    Attributes:
        ui: URL of the Dagster webserver.
        promises: freshness in words, by asset.
    """

    instance: DagsterInstance
    ui: str
    promises: Mapping[str, str]

    def observe(self, event: Event) -> Iterator[Observation]:
        """What one event shows."""
        number, entry = event
        seen = {"id": str(number), "since": _time(entry.timestamp)}
        match entry.dagster_event_type:
            case Kind.ASSET_CHECK_EVALUATION:
                yield self._check(entry, seen)
            case Kind.FRESHNESS_STATE_CHANGE:
                yield self._freshness(entry, seen)
            case Kind.ASSET_MATERIALIZATION:
                yield from self._made(entry, seen)
            case Kind.RUN_SUCCESS:
                link = self._run(entry.run_id)
                for step in planned(self.instance, entry.run_id):
                    yield _well(step.key, step.partition, link, seen)
            case Kind.RUN_FAILURE:
                yield from self._failed_run(entry, seen)

    def _check(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Observation:
        found = entry.get_dagster_event().asset_check_evaluation_data
        asset, name = found.asset_key.to_user_string(), found.check_name
        failing = not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
        return Observation(
            **seen,
            key=f"check:{asset}:{name}:{found.partition or ''}",
            kind="check",
            state="failing" if failing else "well",
            title=f"{name} of {_of(asset, found.partition)}",
            text=(found.description or "")[:LONGEST],
            numbers=_numbers(found.metadata),
            link=self._asset(found.asset_key, f"view=checks&checkDetail={quote(name)}"),
            runbook=runbooks.of_check(asset, name),
        )

    def _freshness(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Observation:
        change: Any = entry.get_dagster_event().event_specific_data
        asset, state = change.key.to_user_string(), change.new_state.value
        made = self.instance.get_latest_materialization_event(change.key)
        last = f"{_time(made.timestamp):%Y-%m-%d %H:%M:%S} UTC" if made else "never"
        return Observation(
            **{**seen, "since": _time(change.state_change_timestamp)},
            key=f"freshness:{asset}",
            kind="freshness",
            state="failing" if state == "FAIL" else "well",
            title=f"freshness of {asset}",
            text=f"The freshness of {asset} went from {change.previous_state.value} to {state}.",
            numbers={"promised": self.promises.get(asset, "nothing"), "last made": last},
            link=self._asset(change.key, "view=overview"),
            runbook=runbooks.of_freshness(asset),
        )

    def _made(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Iterator[Observation]:
        made = entry.asset_materialization
        assert made is not None
        asset, link = made.asset_key.to_user_string(), self._asset(made.asset_key, "view=overview")
        if entry.step_key:
            yield _well(entry.step_key, made.partition, link, seen)
        for action, title, text in _decisions(asset, made):
            yield Observation(
                **seen,
                key=f"{action}:{asset}",
                kind="decision",
                state="notice",
                title=title,
                text=text[:LONGEST],
                numbers=_numbers(made.metadata),
                link=link,
                runbook=runbooks.of_decision(action),
            )

    def _failed_run(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Iterator[Observation]:
        run = self.instance.get_run_by_id(entry.run_id)
        if run is None or run.tags.get(WILL_RETRY) == "true":
            return
        attempts = int(run.tags.get(RETRY_NUMBER, 0)) + 1
        for step, why in failures(self.instance, entry):
            yield Observation(
                **seen,
                key=_run_key(step.key, step.partition),
                kind="run",
                state="failing",
                title=f"run failed at {_of(', '.join(step.assets), step.partition)}",
                text=why[:LONGEST],
                numbers={"run": entry.run_id, "attempts": attempts},
                link=self._run(entry.run_id),
                runbook=runbooks.of_run(),
            )

    def _asset(self, key: dg.AssetKey, view: str) -> str:
        return f"{self.ui.rstrip('/')}/assets/{'/'.join(map(quote, key.path))}?{view}"

    def _run(self, run_id: str) -> str:
        return f"{self.ui.rstrip('/')}/runs/{run_id}"


def _well(step: str, partition: str | None, link: str, seen: Mapping[str, Any]) -> Observation:
    return Observation(
        **seen,
        key=_run_key(step, partition),
        kind="run",
        state="well",
        title=f"run of {_of(step, partition)}",
        text="A later run made it.",
        link=link,
    )


def _run_key(step: str, partition: str | None) -> str:
    return f"run:{step}:{partition or ''}"


def _decisions(asset: str, made: dg.AssetMaterialization) -> Iterator[tuple[str, str, str]]:
    """Action, title and text of what was decided when an asset was made."""
    said = {name: value.value for name, value in made.metadata.items()}
    if said.get("override_by"):
        text = f"{said['override_by']}: {said.get('override_reason', '')}"
        yield "override", f"shut gate overridden for {_of(asset, made.partition)}", text
    if asset == PROMOTED and (action := said.get("action")) in MOVES:
        text = f"{said.get('approved_by', '')}: {said.get('reason', '')}"
        yield str(action), f"{action} of the champion", text
    if asset == REASONS:
        yield "retraining", "the model is to be trained again", made.description or ""


def _numbers(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, Number]:
    """What of metadata is short enough for a message."""
    values = {name: value.value for name, value in metadata.items() if "/" not in name}
    return {
        name: value if _plain(value) else str(value)
        for name, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= SHORT)
    }


def _plain(value: float | int | str) -> bool:
    """A value that comes back from JSON as it was."""
    return not isinstance(value, bool) and not (isinstance(value, float) and not isfinite(value))


def _of(asset: str, partition: str | None) -> str:
    return f"{asset}, {partition}" if partition else asset


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
