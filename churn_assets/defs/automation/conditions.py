"""Automation conditions of the assets, each with a name and a sentence that explains it.

Every condition has two parts. The first says why the asset is wanted: an event happened, or the
asset is past its promise. It stays true until the asset is requested or materialised, so that one
event, or one breach, leads to one request, whatever the result of the run. The second says whether
the asset may be materialised now: its inputs exist, none of them is in progress, and none has a
failed blocking check.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
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
from churn_assets.defs.automation.deadlines import ABOUT_STATE, BY_MONTH
from churn_assets.defs.automation.freshness import freshness_policies, promise_newly_broken
from churn_assets.defs.gates.gates import LEAVES_OUT
from churn_assets.defs.platform.dagster_internals import (
    BuiltinAutomationCondition,
    DepsAutomationCondition,
)
from churn_assets.defs.platform.platform import Platform
from churn_assets.defs.platform.promise_tags import PAST_ITS_PROMISE
from churn_assets.settings import Settings

Condition = BuiltinAutomationCondition[Any]

TWO_MONTHS = timedelta(days=62)
"""The window includes the month before the latest: its last predictions come after its close."""

IN_PART = AssetSelection.assets(sources.LABELS, validation.FEATURES, retraining.REASONS)
"""Inputs of which a part may be missing, or refused, without stopping what reads them."""


@dataclass(frozen=True)
class Automation:
    """Condition under which the daemon materialises an asset.

    Attributes:
        name: Name of the condition, as the UI shows it.
        sentence: Explanation of the condition.
        ignores: Inputs whose updates are no event; those of the others lead to a request.
        also: Another event that leads to a request; None for no other. That the asset newly is
            missing always is one.
        ready: Condition of the inputs; None where all of them have to exist.
        leaves_out: Inputs whose failed checks do not stop the asset.
        broken: Makes the condition that the asset newly breaks its promise, from the condition that
            it is lost; None where it makes no promise.
        automated: Names of the assets that the daemon materialises.
    """

    name: str
    sentence: str
    ignores: Collection[str] = ()
    also: Condition | None = None
    ready: Condition | None = None
    leaves_out: Collection[str] = ()
    broken: Callable[[Condition], Condition] | None = None
    automated: Collection[str] = ()

    def labelled(self) -> Condition:
        """Returns the condition, with its name as the UI shows it."""
        updated = AutomationCondition.any_deps_updated().ignore(self._ignored)
        event = AutomationCondition.newly_missing() | updated
        if self.also is not None:
            event |= self.also
        # One tick may see that the asset was handled, and an event that came after that.
        handled = _handled() & ~(updated & self._inputs_are_newer).with_label("handled_too_early")
        wanted: Condition = event.since(handled).with_label("wanted")
        labels_first: Condition | None = None
        if self.broken is not None:
            wanted |= self._past_its_promise(self.broken).with_label(PAST_ITS_PROMISE)
            # Labels have months of their own, so that they are never made in the same run.
            labels = AssetSelection.assets(sources.LABELS)
            labels_first = self._pending_inputs(self.broken).allow(labels)
        inputs = ~AutomationCondition.any_deps_missing() if self.ready is None else self.ready
        gate_shut = _gate_shut().ignore(AssetSelection.assets(*self.leaves_out))
        condition = (
            wanted
            & inputs.with_label("inputs_there")
            & ~gate_shut.with_label("gate_shut")
            & ~AutomationCondition.any_deps_in_progress()
            & ~AutomationCondition.in_progress()
        )
        if labels_first is not None:
            condition &= ~labels_first.with_label("labels_come_first")
        return condition.with_label(self.name)

    @property
    def _inputs_are_newer(self) -> Condition:
        """Condition that an input was materialised after the asset.

        Where both happened since the last tick, Dagster compares their times. It knows no times of
        a combined condition, such as `any_deps_updated`.
        """
        updated = AutomationCondition.any_deps_match(AutomationCondition.newly_updated())
        return updated.ignore(self._ignored).since(AutomationCondition.newly_updated())

    @property
    def _ignored(self) -> AssetSelection:
        return AssetSelection.assets(*self.ignores)

    def _past_its_promise(self, broken: Callable[[Condition], Condition]) -> Condition:
        """Condition of a request without an event.

        The inputs that are past their promise too, and can be materialised, come first. Dagster
        computes the states of assets one after the other, so a request waits for the next tick. An
        asset that its own check refused is not materialised again from the same input.
        """
        missing, outdated = AutomationCondition.missing(), self._inputs_are_newer
        if self.also is not None:
            outdated |= self.also.since(AutomationCondition.newly_updated())
        lost = (missing | outdated.with_label("outdated")).with_label("lost")
        newly = broken(lost)
        past = newly.since(_handled())
        inputs_first = self._pending_inputs(broken).allow(AssetSelection.assets(*self.automated))
        inputs_first = inputs_first.with_label("inputs_come_first")
        return past & ~newly & ~inputs_first & ~_check_failed()

    def _pending_inputs(
        self, broken: Callable[[Condition], Condition]
    ) -> DepsAutomationCondition[Any]:
        """Condition that an input is past its promise, and nothing stops it."""
        no_input = AutomationCondition.any_deps_missing().ignore(IN_PART)
        stopped = no_input | _gate_shut().ignore(IN_PART) | _check_failed()
        past = broken(AutomationCondition.missing()).since(_handled())
        return AutomationCondition.any_deps_match(past & ~stopped)


def automated(definitions: dg.Definitions, platform: Platform) -> dg.Definitions:
    """Returns the definitions with the condition and the freshness policy of every asset."""
    conditions = automations(platform.settings)
    policies = freshness_policies(platform)

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        condition = conditions[name].labelled() if name in conditions else None
        about = {"freshness": ABOUT_STATE} if name in policies and name in BY_MONTH else {}
        return spec.replace_attributes(
            automation_condition=condition,
            freshness_policy=policies.get(name),
            metadata={**spec.metadata, **about},
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
    broken = partial(promise_newly_broken, settings=settings)
    return {
        name: replace(automation, broken=broken, automated=tuple(by_asset))
        for name, automation in by_asset.items()
    }


def delivered() -> Automation:
    """Condition of the assets that are pulled from the source."""
    return Automation("delivered", "The source delivered the month, for the first time or again.")


def inputs_updated() -> Automation:
    """Condition of the assets that follow every update of an input."""
    return Automation("inputs_updated", "An input of the asset was materialised.")


def settled() -> Automation:
    """Condition of the training set, which leaves out the months whose gate is shut."""
    raw, labels, features = (
        AssetSelection.assets(name) for name in (sources.RAW, sources.LABELS, validation.FEATURES)
    )
    waits = AutomationCondition.any_deps_match(
        _on_its_way() | AutomationCondition.any_deps_match(_on_its_way()).allow(raw)
    ).with_label("a_delivered_month_is_on_its_way")
    usable = AutomationCondition.any_deps_match(~AutomationCondition.missing() & ~_check_failed())
    return Automation(
        "settled",
        "Features or labels of a month were materialised, or a check of a published month failed; "
        "and no delivered month is still pending.",
        also=_month_shut(),
        ready=usable.allow(labels) & usable.allow(features) & ~waits,
        leaves_out=LEAVES_OUT[training.ROWS],
    )


def reason_to_train() -> Automation:
    """Condition of the model: newer data alone does not lead to a training."""
    reason = AssetSelection.assets(retraining.REASONS)
    outdated = AutomationCondition.any_deps_match(
        _month_shut().since(AutomationCondition.newly_updated())
    ).with_label("training_set_has_a_month_whose_check_failed")
    return Automation(
        "reason_to_train",
        "There is no model yet, or a reason to train again was reported.",
        ignores=[training.ROWS],
        ready=~AutomationCondition.any_deps_missing().ignore(reason)
        & ~outdated.allow(AssetSelection.assets(training.ROWS)),
    )


def model_trained() -> Automation:
    """Condition of the evaluation, which reads the rows of its model and ignores newer rows."""
    return Automation("model_trained", "A model was trained.", ignores=[training.ROWS])


def model_evaluated() -> Automation:
    """Condition of the promotion."""
    return Automation(
        "model_evaluated",
        "A challenger was evaluated; the run decides whether it is promoted.",
        ignores=[training.MODEL],
    )


def not_scored() -> Automation:
    """Condition of the scores: a new champion does not score delivered months again."""
    return Automation(
        "not_scored",
        "The month has no scores yet, or its features were materialised again.",
        ignores=[promotion.PROMOTED],
    )


def month_changed() -> Automation:
    """Condition of the drift report.

    The report waits for labels that are delivered and not materialised yet, and for no others: the
    labels of a month come one horizon later. It leaves out labels whose gate is shut.
    """
    labels = AssetSelection.assets(sources.LABELS)
    waits = AutomationCondition.any_deps_match(_on_its_way()).allow(labels)
    return Automation(
        "month_changed",
        "Features, scores, traffic or labels of the month were materialised.",
        ignores=[promotion.PROMOTED],
        ready=~AutomationCondition.any_deps_missing().ignore(labels) & ~waits,
        leaves_out=LEAVES_OUT[drift.REPORT],
    )


def daily(cron: str) -> Automation:
    """Condition of the traffic, which the service logs all the time."""
    recent = AutomationCondition.in_latest_time_window(TWO_MONTHS)
    clock = AutomationCondition.cron_tick_passed(cron) & recent
    return Automation(
        "daily",
        f"The schedule `{cron}` (UTC) has ticked, for the latest month and the one before; or the "
        "month's features were materialised.",
        also=clock,
    )


def _on_its_way() -> Condition:
    """Condition that an asset will be materialised: nothing stops it, and it was not tried yet.

    A run that failed or was cancelled is not waited for, and neither is a check that has to pass.
    """
    untried = AutomationCondition.newly_missing().since(AutomationCondition.newly_requested())
    never = (
        AutomationCondition.missing()
        & ~AutomationCondition.any_deps_missing()
        & ~AutomationCondition.any_deps_match(_check_failed())
        & ~AutomationCondition.execution_failed()
        & (untried | AutomationCondition.in_progress())
    )
    return (never | AutomationCondition.any_deps_updated()).with_label("on_its_way")


def _month_shut() -> Condition:
    """Condition that a blocking check of a month newly fails, whose features or labels are stored.

    The labels of the latest month are not known yet, so that no training set has it.
    """
    labels, features, raw = map(
        AssetSelection.assets, (sources.LABELS, validation.FEATURES, sources.RAW)
    )
    stored, latest = ~AutomationCondition.missing(), AutomationCondition.in_latest_time_window()
    shut = (stored & _check_failed()).newly_true()
    of_raw = stored & AutomationCondition.any_deps_match(shut).allow(raw)
    of_labels = AutomationCondition.any_deps_match(shut | of_raw).allow(labels)
    of_features = AutomationCondition.any_deps_match(
        (stored & _check_failed() & ~latest).newly_true()
    ).allow(features)
    return (of_labels | of_features).with_label("a_stored_month_failed")


def _check_failed() -> Condition:
    return AutomationCondition.any_checks_match(
        AutomationCondition.check_failed(), blocking_only=True
    )


def _gate_shut() -> DepsAutomationCondition[Any]:
    return AutomationCondition.any_deps_match(_check_failed())


def _handled() -> Condition:
    handled = AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
    return handled.with_label("handled")
