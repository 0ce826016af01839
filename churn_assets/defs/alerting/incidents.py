"""Observations from events of the graph: failed checks, failed runs, freshness, decisions."""

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
from churn_assets.defs.automation import deadlines
from churn_assets.defs.platform.check_records import is_judged
from churn_assets.defs.platform.dagster_internals import BaseAssetGraph

PROMOTED, REASONS, REPORT = "promoted_model", "retraining_reasons", "evaluation_report"
MOVES = ("promotion", "rollback")
MAX_TEXT, MAX_VALUE = 800, 100
"""Maximum number of characters of a text, and of a value in metadata."""


@dataclass(frozen=True)
class Observer:
    """Turns events into observations.

    Attributes:
        instance: Instance that the events are from.
        ui: URL of the Dagster webserver.
        policies: Descriptions of the freshness policies, by asset.
        graph: Asset graph of the platform.
        manual: Whether a person must approve every promotion.
    """

    instance: DagsterInstance
    ui: str
    policies: Mapping[str, str]
    graph: BaseAssetGraph[Any]
    manual: bool = False

    def observe(self, event: Event) -> Iterator[Observation]:
        """Yields the observations in one event."""
        number, entry = event
        seen = {"id": str(number), "since": _time(entry.timestamp)}
        match entry.dagster_event_type:
            case Kind.ASSET_CHECK_EVALUATION:
                # What had nothing to judge neither opens an incident nor closes it.
                result = entry.get_dagster_event().asset_check_evaluation_data
                if not is_judged(result):
                    return
                if result.check_name == deadlines.CHECK:
                    yield from self._months(result, seen)
                else:
                    yield self._check(result, seen)
            case Kind.FRESHNESS_STATE_CHANGE:
                yield from self._freshness(entry, seen)
            case Kind.ASSET_MATERIALIZATION:
                yield from self._materialised(entry, seen)
            case Kind.RUN_SUCCESS:
                link = self._run(entry.run_id)
                for step in planned(self.instance, entry.run_id):
                    yield _well(step.key, step.partition, link, seen)
            case Kind.RUN_FAILURE:
                yield from self._failed_run(entry, seen)

    def _check(self, result: dg.AssetCheckEvaluation, seen: Mapping[str, Any]) -> Observation:
        asset, name = result.asset_key.to_user_string(), result.check_name
        failing = not result.passed and result.severity == dg.AssetCheckSeverity.ERROR
        return Observation(
            **seen,
            key=f"check:{asset}:{name}:{result.partition or ''}",
            kind="check",
            state="failing" if failing else "well",
            title=f"{name} of {_of(asset, result.partition)}",
            text=(result.description or "")[:MAX_TEXT],
            numbers=_numbers(result.metadata),
            link=self._asset(result.asset_key, f"view=checks&checkDetail={quote(name)}"),
            runbook=runbooks.of_check(asset, name),
        )

    def _months(
        self, result: dg.AssetCheckEvaluation, seen: Mapping[str, Any]
    ) -> Iterator[Observation]:
        """Yields an observation for each month that the check of deadlines names."""
        asset, name = result.asset_key.to_user_string(), result.check_name
        for month, (state, text) in deadlines.states(result.metadata).items():
            if state not in ("kept", "overdue"):
                continue
            yield Observation(
                **seen,
                key=f"freshness:{asset}:{month}",
                kind="freshness",
                state="failing" if state == "overdue" else "well",
                title=f"freshness of {_of(asset, month)}",
                text=(f"{month} is {text}." if text else f"{month} is up to date.")[:MAX_TEXT],
                numbers={"freshness policy": self.policies.get(asset, "none")},
                link=self._asset(result.asset_key, f"view=checks&checkDetail={quote(name)}"),
                runbook=runbooks.of_freshness(asset),
            )

    def _freshness(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Iterator[Observation]:
        """Yields the observation of a state; the months of an asset have a check instead."""
        change: Any = entry.get_dagster_event().event_specific_data
        asset, state = change.key.to_user_string(), change.new_state.value
        if asset in deadlines.BY_MONTH and state == "FAIL":
            return
        latest = self.instance.get_latest_materialization_event(change.key)
        time = f"{_time(latest.timestamp):%Y-%m-%d %H:%M:%S} UTC" if latest else "never"
        text = f"The freshness of {asset} went from {change.previous_state.value} to {state}."
        if state == "FAIL" and (stops := deadlines.stopped_by(self.instance, self.graph, asset)):
            text += f" It is stopped by {stops}."
        yield Observation(
            **{**seen, "since": _time(change.state_change_timestamp)},
            key=f"freshness:{asset}",
            kind="freshness",
            state="failing" if state == "FAIL" else "well",
            title=f"freshness of {asset}",
            text=text[:MAX_TEXT],
            numbers={
                "freshness policy": self.policies.get(asset, "none"),
                "last materialised": time,
            },
            link=self._asset(change.key, "view=overview"),
            runbook=runbooks.of_freshness(asset),
        )

    def _materialised(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Iterator[Observation]:
        event = entry.asset_materialization
        assert event is not None
        asset = event.asset_key.to_user_string()
        link = self._asset(event.asset_key, "view=overview")
        if entry.step_key:
            yield _well(entry.step_key, event.partition, link, seen)
        if self.manual and asset in (REPORT, PROMOTED):
            yield from self._approval(event, seen)
        for action, title, text in _decisions(asset, event):
            yield Observation(
                **seen,
                key=f"{action}:{asset}",
                kind="decision",
                state="notice",
                title=title,
                text=text[:MAX_TEXT],
                numbers=_numbers(event.metadata),
                link=link,
                runbook=runbooks.of_decision(action),
            )

    def _approval(
        self, event: dg.AssetMaterialization, seen: Mapping[str, Any]
    ) -> Iterator[Observation]:
        """Yields whether a challenger waits: nothing promotes it before a person decides."""
        key = dg.AssetKey(PROMOTED)
        promoted = event.asset_key == key
        latest = self.instance.get_latest_materialization_event(key)
        champion = _version(latest.asset_materialization if latest else None)
        challenger = _version(event)
        if challenger == champion and not promoted:
            return
        text = (
            f"Version {challenger} is evaluated, and the champion is version {champion}. "
            "Promotions are approved by a person: materialise promoted_model with the run config "
            "`approved_by` and `reason`."
        )
        yield Observation(
            **seen,
            key=f"approval:{PROMOTED}",
            kind="decision",
            state="well" if promoted else "failing",
            title="a challenger waits for approval",
            text=f"The champion is version {champion}." if promoted else text,
            numbers={"challenger": challenger, "champion": champion},
            link=self._asset(key, "view=overview"),
            runbook=runbooks.of_check(PROMOTED, "challenger_earned_promotion"),
        )

    def _failed_run(self, entry: EventLogEntry, seen: Mapping[str, Any]) -> Iterator[Observation]:
        run = self.instance.get_run_by_id(entry.run_id)
        if run is None or run.tags.get(WILL_RETRY) == "true":
            return
        attempts = int(run.tags.get(RETRY_NUMBER, 0)) + 1
        for step, reason in failures(self.instance, entry):
            yield Observation(
                **seen,
                key=_run_key(step.key, step.partition),
                kind="run",
                state="failing",
                title=f"run failed at {_of(', '.join(step.assets), step.partition)}",
                text=reason[:MAX_TEXT],
                numbers={"run": entry.run_id, "attempts": attempts},
                link=self._run(entry.run_id),
                runbook=runbooks.of_run(),
            )

    def _asset(self, key: dg.AssetKey, view: str) -> str:
        path = "/".join(quote(part, safe="") for part in key.path)
        return f"{self.ui.rstrip('/')}/assets/{path}?{view}"

    def _run(self, run_id: str) -> str:
        return f"{self.ui.rstrip('/')}/runs/{run_id}"


def _well(step: str, partition: str | None, link: str, seen: Mapping[str, Any]) -> Observation:
    return Observation(
        **seen,
        key=_run_key(step, partition),
        kind="run",
        state="well",
        title=f"run of {_of(step, partition)}",
        text="A later run succeeded.",
        link=link,
    )


def _run_key(step: str, partition: str | None) -> str:
    return f"run:{step}:{partition or ''}"


def _decisions(asset: str, event: dg.AssetMaterialization) -> Iterator[tuple[str, str, str]]:
    """Yields action, title and text of each decision that a materialisation records."""
    values = {name: value.value for name, value in event.metadata.items()}
    if values.get("override_by"):
        text = f"{values['override_by']}: {values.get('override_reason', '')}"
        yield "override", f"closed gate overridden for {_of(asset, event.partition)}", text
    if asset == PROMOTED and (action := values.get("action")) in MOVES:
        text = f"{values.get('approved_by', '')}: {values.get('reason', '')}"
        yield str(action), f"{action} of the champion", text
    if asset == REASONS:
        yield "retraining", "the model is to be trained again", event.description or ""


def _version(event: dg.AssetMaterialization | None) -> str:
    version = event.metadata.get("model_version") if event else None
    return str(version.value) if version else "none"


def _numbers(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, Number]:
    """Returns the metadata that is short enough for a message."""
    values = {name: value.value for name, value in metadata.items() if "/" not in name}
    return {
        name: value if _plain(value) else str(value)
        for name, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_VALUE)
    }


def _plain(value: float | int | str) -> bool:
    """Returns whether JSON keeps a value as it is."""
    return not isinstance(value, bool) and not (isinstance(value, float) and not isfinite(value))


def _of(asset: str, partition: str | None) -> str:
    return f"{asset}, {partition}" if partition else asset


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
