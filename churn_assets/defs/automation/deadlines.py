"""Deadlines of months: a check on each monthly asset, and the sensor that evaluates it.

Dagster's own freshness state knows the newest materialisation of an asset, of whatever month. So
it cannot see that one month is missing, or that nothing ever came. The check judges each month. A
run that materialises the asset evaluates it, and so does the sensor when a deadline passes.

The check has no partitions, and names the months instead: Dagster stores no second result of a
partition that comes without a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
from dagster import AssetKey, DagsterEventType, DagsterInstance
from pydantic import TypeAdapter

from churn_assets.adapters.sources.source import SourceError
from churn_assets.core.monitoring.promises import Promise, State, judge
from churn_assets.defs.assets import deliveries, drift, scores, sources, traffic, validation
from churn_assets.defs.gates.checks import results
from churn_assets.defs.platform.check_records import latest_failures, latest_result
from churn_assets.defs.platform.dagster_internals import BaseAssetGraph, get_next_cron_tick
from churn_assets.defs.platform.platform import Platform

CHECK = "up_to_date_by_deadline"
SENSOR = "deadlines"
MONTHS = "months"
"""Metadata of a result: the state of each month, and the text that says why it is late."""

INPUTS = {
    sources.RAW: (deliveries.CUSTOMERS,),
    sources.LABELS: (deliveries.LABELS, sources.RAW),
    validation.FEATURES: (sources.RAW,),
    scores.SCORES: (validation.FEATURES,),
    drift.REPORT: (validation.FEATURES, scores.SCORES, traffic.TRAFFIC),
}
"""The assets whose months have a deadline, and their inputs of the same month."""

BY_MONTH = (*INPUTS, validation.QUARANTINE)
"""The assets whose freshness is alerted month by month; the step of the features makes the
quarantine too."""

ABOUT_STATE = (
    "Dagster's freshness state is about the newest materialisation, of whatever month. The check "
    f"{CHECK} judges each month by its deadline."
)
"""Shown with these assets, beside the state."""

PULLED = (sources.RAW, sources.LABELS)
"""The assets that are due by the first deadline; the others follow from them by the second."""

_STATES = TypeAdapter(dict[str, tuple[State, str]])

Times = Mapping[str, Mapping[str, datetime]]
"""Time of the latest materialisation, by asset and month."""


@dataclass(frozen=True)
class Months:
    """The months of the platform's assets, as an instance knows them at a time.

    Attributes:
        asks_source: Whether the source is asked why it has not delivered a month.
    """

    platform: Platform
    instance: DagsterInstance
    graph: BaseAssetGraph[Any]
    now: datetime
    asks_source: bool = False

    def check(self, asset: str) -> dg.AssetCheckResult:
        """Returns the result of the check on an asset."""
        promises = self.promises(asset)
        states = {month: promise.state(self.now) for month, promise in promises.items()}
        texts = {
            month: promise.explain(self.now, self._cause(asset, month, promise))
            for month, promise in promises.items()
        }
        # What waits for another asset warns only: that asset, or its source, is reported.
        warn = [CHECK] if "overdue" not in states.values() else []
        months = {month: [states[month], text] for month, text in texts.items()}
        metadata = {MONTHS: dg.MetadataValue.json(months)}
        (result,) = results(asset, {CHECK: judge(states, texts)}, warn=warn, metadata=metadata)
        return result

    def promises(self, asset: str) -> dict[str, Promise]:
        """Returns the promise of every month that is promised, oldest first.

        The source may have less history than the graph has months, or have ended long ago. So the
        months before the first one that is there are not promised, nor those after the last one
        whose deadline had passed before anything was there. The latest month always is.
        """
        names = (asset, *INPUTS[asset])
        window = self._window(asset)
        times = {name: self._times(name, window) for name in names}
        there = {month for name in names for month in times[name]}
        since = min((time for name in names for time in times[name].values()), default=self.now)
        promises = {month: self._promise(asset, month, times) for month in window}
        return {
            month: promise
            for month, promise in promises.items()
            if month == window[-1]
            or (there and min(there) <= month <= max(there))
            or (there and month > max(there) and promise.deadline >= since)
        }

    def _window(self, asset: str) -> list[str]:
        """Returns the latest months of an asset, as many as the graph has in use."""
        used = self.platform.settings.training_months + self.platform.contract.horizon_months
        return list(partitions(self.platform, asset).get_partition_keys(self.now))[-used:]

    def _cause(self, asset: str, month: str, promise: Promise) -> str:
        """Returns why a month is overdue, where that is known."""
        if promise.state(self.now) != "overdue":
            return ""
        if not promise.undelivered:
            stops = stopped_by(self.instance, self.graph, asset, month)
            return f"stopped by {stops}" if stops else ""
        # A source that does not respond costs seconds for each month: the latest one is enough.
        return self._answer(asset, month) if month == self._window(asset)[-1] else ""

    def _answer(self, asset: str, month: str) -> str:
        """Returns what the source says about a month that it has not delivered."""
        if not self.asks_source:
            return ""
        source = self.platform.source
        version_of = source.labels_version if asset == sources.LABELS else source.customers_version
        try:
            version = version_of(month)
        except SourceError as error:
            return f"the source cannot be read: {error}"
        if version is not None:
            return "the source has it, and the sensor deliveries has not reported it"
        hint = self.platform.months_without_partition
        return f"the source does not have it{f' ({hint})' if hint else ''}"

    def _promise(self, asset: str, month: str, times: Times) -> Promise:
        numbers, horizon = self.platform.settings.freshness, self.platform.contract.horizon_months
        later = horizon if asset == sources.LABELS else 0
        close = (pd.Period(month, freq="M") + 1 + later).start_time.tz_localize(UTC).to_pydatetime()
        pulled = get_next_cron_tick(numbers.raw_deadline, close, "UTC")
        derived = get_next_cron_tick(numbers.derived_deadline, close, "UTC")
        is_pulled = asset in PULLED
        return Promise(
            made=times[asset].get(month),
            inputs={name: times[name].get(month) for name in INPUTS[asset]},
            external=(deliveries.CUSTOMERS, deliveries.LABELS),
            deadline=pulled if is_pulled else derived,
            time_to_follow=pulled - close if is_pulled else max(derived - pulled, timedelta()),
        )

    def _times(self, asset: str, months: Sequence[str]) -> Mapping[str, datetime]:
        key, kind = AssetKey(asset), DagsterEventType.ASSET_MATERIALIZATION
        store = self.instance.event_log_storage
        ids = store.get_latest_storage_id_by_partition(key, kind, set(months))
        if not ids:
            return {}
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, storage_ids=list(ids.values())), limit=len(ids)
        ).records
        return {
            record.partition_key: datetime.fromtimestamp(record.timestamp, UTC)
            for record in records
            if record.partition_key
        }


def stopped_by(
    instance: DagsterInstance, graph: BaseAssetGraph[Any], asset: str, month: str | None = None
) -> str:
    """Returns the failed checks that stop an asset, for people; "" where none does.

    Those are the blocking checks of the asset and of its inputs. An asset without months leaves
    out the months that failed, so that they do not stop it.
    """
    node = graph.get(AssetKey(asset))
    inputs = [key for key in sorted(node.parent_keys) if month or not graph.get(key).partitions_def]
    checks = [
        check
        for key in (node.key, *inputs)
        for check in sorted(graph.get(key).check_keys)
        if graph.get(check).blocking
    ]
    failed = latest_failures(instance, checks, None if month is None else [month])
    return "; ".join(
        f"{record.key.asset_key.to_user_string()}: {record.key.name} ({record.result.description})"
        for record in failed
    )


def partitions(platform: Platform, asset: str) -> dg.TimeWindowPartitionsDefinition:
    """Returns the months of an asset."""
    return platform.labelled_months if asset == sources.LABELS else platform.closed_months


def definitions(platform: Platform) -> dg.Definitions:
    """The check on each asset, and the sensor; neither where no later month will come."""
    if platform.source.single_snapshot:
        return dg.Definitions()
    checks = [_check(platform, asset) for asset in INPUTS]
    return dg.Definitions(asset_checks=checks, sensors=[_sensor(platform)])


def _check(platform: Platform, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=CHECK,
        description="By its deadline, each month is there and not older than its inputs.",
    )
    def up_to_date(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        graph = context.job_def.asset_layer.asset_graph.source_asset_graph
        return Months(platform, context.instance, graph, datetime.now(UTC)).check(asset)

    return up_to_date


def _sensor(platform: Platform) -> dg.SensorDefinition:
    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports months that are not there, or not up to date, by their deadlines.",
    )
    def deadlines(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        now = datetime.now(UTC)
        events = new_results(Months(platform, context.instance, graph, now, asks_source=True))
        return dg.SensorResult(asset_events=events) if events else dg.SkipReason("nothing new")

    return deadlines


def new_results(months: Months) -> list[dg.AssetCheckEvaluation]:
    """Returns the results of the check, as events without a run, that differ from the latest ones.

    A month is reported once when it is late, whatever it is late for, and once when it is there.
    """
    events = []
    for asset in INPUTS:
        result = months.check(asset)
        latest = latest_result(months.instance, dg.AssetCheckKey(AssetKey(asset), CHECK))
        before = late_months(latest.result.metadata if latest else {})
        # Texts may change with each answer of a source; the months and their states count.
        if _states_of(late_months(result.metadata)) != _states_of(before):
            events.append(
                dg.AssetCheckEvaluation(
                    asset_key=AssetKey(asset),
                    check_name=CHECK,
                    passed=result.passed,
                    description=result.description,
                    severity=result.severity,
                    metadata=result.metadata,
                )
            )
    return events


def states(metadata: Mapping[str, Any]) -> Mapping[str, tuple[State, str]]:
    """Returns the months in the metadata of a result, each with its state and text."""
    return _STATES.validate_python(metadata[MONTHS].value if MONTHS in metadata else {})


def late_months(metadata: Mapping[str, Any] | None) -> Mapping[str, tuple[State, str]]:
    """Returns those of `states` that are late."""
    return {month: state for month, state in states(metadata or {}).items() if state[1]}


def _states_of(months: Mapping[str, tuple[State, str]]) -> dict[str, State]:
    return {month: state for month, (state, _) in months.items()}
