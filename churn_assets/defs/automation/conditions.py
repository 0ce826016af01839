"""Automation conditions of the assets, each with a name and a sentence that explains it.

Every condition has two parts. The trigger stays set from its event until the asset is requested or
materialised, so that one event leads to one request, whatever the result of the run. The rest says
whether the asset may be materialised now: its inputs exist, none of them is in progress, and none
has a failed blocking check.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster import AssetSelection, AutomationCondition

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
from churn_assets.defs.platform.dagster_internals import (
    BuiltinAutomationCondition,
    DepsAutomationCondition,
)
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings

Condition = BuiltinAutomationCondition[Any]

TWO_MONTHS = timedelta(days=62)
"""The window includes the month before the latest: its last predictions come after its close."""


@dataclass(frozen=True)
class Automation:
    """Condition under which the daemon materialises an asset.

    Attributes:
        name: Name of the condition, as the UI shows it.
        sentence: Explanation of the condition.
    """

    name: str
    sentence: str
    condition: Condition

    def labelled(self) -> Condition:
        return self.condition.with_label(self.name)


def automated(definitions: dg.Definitions, platform: Platform) -> dg.Definitions:
    """Returns the definitions with the condition and the freshness policy of every asset."""
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
    """Returns the automation of every asset that the daemon materialises, by asset name."""
    factories = {
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
    by_asset = {name: create() for name, create in factories.items()}
    by_asset[traffic.TRAFFIC] = daily(settings.automation.traffic_cron)
    if settings.promotion.approval == "auto":
        by_asset[promotion.PROMOTED] = model_evaluated()
    return by_asset


def delivered() -> Automation:
    """Condition of the assets that are pulled from the source."""
    return Automation(
        "delivered", "The source delivered the month, for the first time or again.", _on(_updated())
    )


def inputs_updated() -> Automation:
    """Condition of the assets that follow every update of an input."""
    return Automation("inputs_updated", "An input of the asset was materialised.", _on(_updated()))


def settled() -> Automation:
    """Condition of the training set, whose inputs are many months."""
    raw, labels, features = (
        AssetSelection.assets(name) for name in (sources.RAW, sources.LABELS, validation.FEATURES)
    )
    waits = AutomationCondition.any_deps_match(
        _on_its_way() | AutomationCondition.any_deps_match(_on_its_way()).allow(raw)
    ).with_label("a_delivered_month_is_on_its_way")
    exists = AutomationCondition.any_deps_match(~AutomationCondition.missing())
    return Automation(
        "settled",
        "Features or labels of a month were materialised, and no delivered month is still pending.",
        _on(_updated(), ready=exists.allow(labels) & exists.allow(features) & ~waits),
    )


def reason_to_train() -> Automation:
    """Condition of the model: newer data alone does not lead to a training."""
    reason = AssetSelection.assets(retraining.REASONS)
    reported = AutomationCondition.any_deps_match(AutomationCondition.newly_updated()).allow(reason)
    return Automation(
        "reason_to_train",
        "There is no model yet, or a reason to train again was reported.",
        _on(reported, ready=~AutomationCondition.any_deps_missing().ignore(reason)),
    )


def model_trained() -> Automation:
    """Condition of the evaluation, which reads the rows of its model and ignores newer rows."""
    rows = AssetSelection.assets(training.ROWS)
    return Automation("model_trained", "A model was trained.", _on(_updated().ignore(rows)))


def model_evaluated() -> Automation:
    """Condition of the promotion."""
    return Automation(
        "model_evaluated",
        "A challenger was evaluated; the run decides whether it is promoted.",
        _on(_updated().allow(AssetSelection.assets(evaluation.REPORT))),
    )


def not_scored() -> Automation:
    """Condition of the scores: a new champion does not score delivered months again."""
    champion = AssetSelection.assets(promotion.PROMOTED)
    return Automation(
        "not_scored",
        "The month has no scores yet, or its features were materialised again.",
        _on(_updated().ignore(champion)),
    )


def month_changed() -> Automation:
    """Condition of the drift report.

    The report waits for labels that are delivered and not materialised yet, and for no others: the
    labels of a month come one horizon later.
    """
    champion = AssetSelection.assets(promotion.PROMOTED)
    labels = AssetSelection.assets(sources.LABELS)
    waits = AutomationCondition.any_deps_match(_on_its_way()).allow(labels)
    return Automation(
        "month_changed",
        "Features, scores, traffic or labels of the month were materialised.",
        _on(
            _updated().ignore(champion),
            ready=~AutomationCondition.any_deps_missing().ignore(labels) & ~waits,
        ),
    )


def daily(cron: str) -> Automation:
    """Condition of the traffic, which the service logs all the time."""
    recent = AutomationCondition.in_latest_time_window(TWO_MONTHS)
    clock = AutomationCondition.cron_tick_passed(cron) & recent
    return Automation(
        "daily",
        f"The schedule `{cron}` (UTC) has ticked, for the latest month and the one before; or the "
        "month's features were materialised.",
        _on(clock | _updated()),
    )


def _updated() -> DepsAutomationCondition[Any]:
    return AutomationCondition.any_deps_updated()


def _on_its_way() -> Condition:
    """Condition that an asset will be materialised: its inputs exist, and it did not fail."""
    never = (
        AutomationCondition.missing()
        & ~AutomationCondition.any_deps_missing()
        & ~AutomationCondition.execution_failed()
    )
    return (never | AutomationCondition.any_deps_updated()).with_label("on_its_way")


def _on(trigger: Condition, ready: Condition | None = None) -> Condition:
    """Returns the condition of an asset with a trigger.

    A missing asset triggers too. The trigger is remembered until the asset is requested or
    materialised; the asset is requested as soon as nothing prevents it.

    Args:
        trigger: Event that leads to a request.
        ready: Condition of the inputs; by default that all of them exist.
    """
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
