"""The sensors that start runs: deliveries, reasons to train again, automation conditions.

The sensor that sends alerts is in `alerting/alerts.py`: it starts nothing.
"""

from datetime import UTC, datetime

import dagster as dg

from churn_assets.adapters.sources.source import SourceError
from churn_assets.defs.assets.deliveries import new_deliveries, nothing_new
from churn_assets.defs.assets.retraining import REASONS, event_of, open_reasons
from churn_assets.defs.platform.platform import Platform

RUNNING = dg.DefaultSensorStatus.RUNNING
"""Every sensor runs from the start; a person may stop it in the UI."""


def definitions(platform: Platform) -> dg.Definitions:
    """The three sensors."""
    sensors = (_deliveries(platform), _retraining_reasons(platform), _automation(platform))
    return dg.Definitions(sensors=sensors)


def _deliveries(platform: Platform) -> dg.SensorDefinition:
    @dg.sensor(
        name="deliveries",
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        default_status=RUNNING,
        description="Asks the source for the version of each month, and reports new versions.",
    )
    def deliveries(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        events: list[dg.AssetMaterialization] = []
        try:
            for event in new_deliveries(platform, context.instance):
                events.append(event)
        except SourceError as error:
            if not events:
                raise
            # The next tick has no event left, so it raises the error of the other months.
            context.log.warning(str(error))
        if not events:
            return dg.SkipReason(nothing_new(platform, context.instance))
        if others := platform.months_without_partition:
            context.log.warning(others)
        return dg.SensorResult(asset_events=events)

    return deliveries


def _retraining_reasons(platform: Platform) -> dg.SensorDefinition:
    @dg.sensor(
        name=REASONS,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        default_status=RUNNING,
        description="Reports new reasons to train the model again.",
    )
    def retraining_reasons(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        reasons = open_reasons(platform, context.instance, datetime.now(UTC))
        if isinstance(reasons, str):
            return dg.SkipReason(reasons)
        return dg.SensorResult(asset_events=[event_of(reasons)])

    return retraining_reasons


def _automation(platform: Platform) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        default_status=RUNNING,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        description="Requests every asset whose condition holds.",
        # A run a month, with the checks of that month, rather than backfills without a deadline.
        emit_backfills=False,
    )
