"""When the daemon makes each asset: named conditions, each with a sentence of what it means.

Every condition has two parts. A trigger stays set from the moment its event happens until the
asset is requested or made, so that one event leads to one request, whatever becomes of the run.
The rest says whether the asset may be made now: what it is made from is there, nothing of that is
on its way, and no blocking check of it failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster import AssetSelection, AutomationCondition
from dagster._core.definitions.declarative_automation.automation_condition import (
    BuiltinAutomationCondition,
)
from dagster._core.definitions.declarative_automation.operators import DepsAutomationCondition

from churn_assets.defs.assets import (
    bentos,
    drift,
    evaluation,
    promotion,
    retraining,
    scores,
    sources,
    traffic,
    training,
    validation,
)
from churn_assets.defs.automation.freshness import freshness_policies
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings

Condition = BuiltinAutomationCondition[Any]

TWO_MONTHS = timedelta(days=62)
"""Reaches into the month before the latest one, as its last predictions come after its close."""


@dataclass(frozen=True)
class Automation:
    """When an asset is made of itself.

    Attributes:
        name: of the condition, as the UI shows it.
        sentence: what it means.
    """

    name: str
    sentence: str
    condition: Condition

    def labelled(self) -> Condition:
        return self.condition.with_label(self.name)


def definitions(platform: Platform) -> dg.Definitions:
    """The sensor that evaluates the conditions; it runs unless it is stopped in the UI."""
    sensor = dg.AutomationConditionSensorDefinition(
        "automation",
        target=AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        description="Asks for every asset whose condition holds.",
        # A run a month, with the checks of that month, rather than backfills without a deadline.
        emit_backfills=False,
    )
    return dg.Definitions(sensors=[sensor])


def automated(definitions: dg.Definitions, platform: Platform) -> dg.Definitions:
    """The definitions with the condition and the freshness policy of every asset."""
    conditions = automations(platform.settings)
    policies = freshness_policies(platform)

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        condition = conditions[name].labelled() if name in conditions else None
        return spec.replace_attributes(
            automation_condition=condition, freshness_policy=policies.get(name)
        )

    return definitions.map_asset_specs(func=attach)


def automations(settings: Settings) -> Mapping[str, Automation]:
    """The automation of every asset that the daemon makes, by the asset's name."""
    made = {
        sources.RAW: delivered,
        sources.LABELS: delivered,
        validation.FEATURES: inputs_updated,
        validation.QUARANTINE: inputs_updated,
        training.ROWS: settled,
        training.MODEL: reason_to_train,
        evaluation.REPORT: model_trained,
        bentos.BENTO: inputs_updated,
        scores.SCORES: not_scored,
        drift.REPORT: month_changed,
    }
    found = {name: automation() for name, automation in made.items()}
    found[traffic.TRAFFIC] = daily(settings.automation.traffic_cron)
    if settings.promotion.approval == "auto":
        found[promotion.PROMOTED] = model_evaluated()
    return found


def delivered() -> Automation:
    """For what is pulled from the source."""
    return Automation(
        "delivered", "The source delivered the month, for the first time or anew.", _on(_updated())
    )


def inputs_updated() -> Automation:
    """For what follows from its inputs alone."""
    return Automation("inputs_updated", "Something it is made from was made anew.", _on(_updated()))


def settled() -> Automation:
    """For the training set, which is made from many months."""
    raw, labels, features = (
        AssetSelection.assets(name) for name in (sources.RAW, sources.LABELS, validation.FEATURES)
    )
    waits = AutomationCondition.any_deps_match(
        _on_its_way() | AutomationCondition.any_deps_match(_on_its_way()).allow(raw)
    ).with_label("a_delivered_month_is_on_its_way")
    there = AutomationCondition.any_deps_match(~AutomationCondition.missing())
    return Automation(
        "settled",
        "A labelled month was made anew, and no delivered month is still on its way.",
        _on(_updated(), ready=there.allow(labels) & there.allow(features) & ~waits),
    )


def reason_to_train() -> Automation:
    """For the model: never merely because there is newer data."""
    reason = AssetSelection.assets(retraining.REASONS)
    asked = AutomationCondition.any_deps_match(AutomationCondition.newly_updated()).allow(reason)
    return Automation(
        "reason_to_train",
        "There is no model yet, or a reason to train again was found.",
        _on(asked, ready=~AutomationCondition.any_deps_missing().ignore(reason)),
    )


def model_trained() -> Automation:
    """For the evaluation, which is of the very rows that its model was made from."""
    rows = AssetSelection.assets(training.ROWS)
    return Automation("model_trained", "A model was trained.", _on(_updated().ignore(rows)))


def model_evaluated() -> Automation:
    """For the promotion."""
    return Automation(
        "model_evaluated",
        "A challenger was evaluated; whether it has earned it is decided in the run.",
        _on(_updated().allow(AssetSelection.assets(evaluation.REPORT))),
    )


def not_scored() -> Automation:
    """For the scores: another champion does not write delivered months anew."""
    champion = AssetSelection.assets(promotion.PROMOTED)
    return Automation(
        "not_scored",
        "The month has no scores yet, or its features were made anew.",
        _on(_updated().ignore(champion)),
    )


def month_changed() -> Automation:
    """For the drift report. Labels come a horizon later: it waits for those that came already."""
    champion = AssetSelection.assets(promotion.PROMOTED)
    labels = AssetSelection.assets(sources.LABELS)
    waits = AutomationCondition.any_deps_match(_on_its_way()).allow(labels)
    return Automation(
        "month_changed",
        "Features, scores, traffic or labels of the month were made anew.",
        _on(
            _updated().ignore(champion),
            ready=~AutomationCondition.any_deps_missing().ignore(labels) & ~waits,
        ),
    )


def daily(cron: str) -> Automation:
    """For the traffic: the service writes all the time."""
    recent = AutomationCondition.in_latest_time_window(TWO_MONTHS)
    clock = AutomationCondition.cron_tick_passed(cron) & recent
    return Automation(
        "daily",
        f"The clock said `{cron}` (UTC), for the latest month and the one before; or the month's "
        "features were made anew.",
        _on(clock | _updated()),
    )


def _updated() -> DepsAutomationCondition[Any]:
    return AutomationCondition.any_deps_updated()


def _on_its_way() -> Condition:
    """It will be made: all it is made from is there, and it did not fail before."""
    never = (
        AutomationCondition.missing()
        & ~AutomationCondition.any_deps_missing()
        & ~AutomationCondition.execution_failed()
    )
    return (never | AutomationCondition.any_deps_updated()).with_label("on_its_way")


def _on(trigger: Condition, ready: Condition | None = None) -> Condition:
    """The trigger or its absence, remembered until handled, and nothing that speaks against it."""
    handled = (
        AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
    ).with_label("handled")
    wanted = (AutomationCondition.newly_missing() | trigger).since(handled).with_label("wanted")
    inputs = ready if ready is not None else ~AutomationCondition.any_deps_missing()
    gate_shut = AutomationCondition.any_deps_match(
        AutomationCondition.any_checks_match(AutomationCondition.check_failed(), blocking_only=True)
    ).with_label("gate_shut")
    return (
        wanted
        & inputs.with_label("inputs_there")
        & ~gate_shut
        & ~AutomationCondition.any_deps_in_progress()
        & ~AutomationCondition.in_progress()
    )
