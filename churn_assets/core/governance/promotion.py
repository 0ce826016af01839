"""Promotion policies: whether a challenger replaces the champion.

Both models score the same test rows, and the bootstrap draws the same rows for both. Sampling noise
affects both alike, so the difference between them remains (Efron and Tibshirani, "An Introduction
to the Bootstrap", 1993, chapters 13 and 16).
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from churn_assets.contracts.contract import Contract, Frozen
from churn_assets.core.data.leaks import listed
from churn_assets.core.evaluation.evaluation import (
    EvaluationReport,
    auc_above_floor,
    beats_simple_baseline,
    checked_probabilities,
    features_behind,
    labels_of,
    model_not_too_good,
)
from churn_assets.core.evaluation.metrics import Floats, Interval, Metrics, Scored, bootstrap
from churn_assets.core.evaluation.slices import customers_of
from churn_assets.core.policies import PromotionPolicy
from churn_assets.core.verdict import Finite, Verdict, shown

PolicyName = Literal["first", "superior", "fresh"]


class Comparison(Frozen):
    """Challenger and champion on the same test rows.

    Attributes:
        rows: Number of test rows.
        positives: Number of test rows with churned customers.
        auc_gained: ROC AUC of the challenger minus that of the champion.
        profit_gained: The same difference of the expected profit per customer, in `currency`.
        cost_of_offer: Cost from the contract; the profit margin is a multiple of it.
    """

    rows: int
    positives: int
    resamples: int
    challenger_auc: Finite
    champion_auc: Finite
    auc_gained: Interval
    challenger_profit: Finite
    champion_profit: Finite
    profit_gained: Interval
    currency: str
    cost_of_offer: float


def compare(
    test: pd.DataFrame,
    challenger: Floats,
    champion: Floats,
    contract: Contract,
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> Comparison:
    """Compares two models by a paired bootstrap that is stratified by class.

    Churned and retained customers are drawn separately, all rows of a customer together.

    Args:
        test: Typed rows with the label; neither model may have been trained on them.
        challenger, champion: Churn probabilities of these rows, (n,).
        resamples: Number of resamples for each interval, at least 1.

    Raises:
        ValueError: No rows, a null label, or probabilities that are missing or not in [0, 1].
    """
    y = labels_of(test, contract)
    ours, theirs = (
        Scored.of(y, checked_probabilities(p, y), contract.economics)
        for p in (challenger, champion)
    )
    found = bootstrap(
        lambda weights: _differences(ours, theirs, weights),
        len(y),
        customers=customers_of(test, contract),
        classes=y,
        resamples=resamples,
        seed=seed,
    )
    all_rows = np.ones((1, len(y)))
    alone = [{k: v[0] for k, v in one.auc_and_profit(all_rows).items()} for one in (ours, theirs)]
    return Comparison(
        rows=len(y),
        positives=int(y.sum()),
        resamples=resamples,
        challenger_auc=alone[0]["roc_auc"],
        champion_auc=alone[1]["roc_auc"],
        auc_gained=found["roc_auc"],
        challenger_profit=alone[0]["profit_per_customer"],
        champion_profit=alone[1]["profit_per_customer"],
        profit_gained=found["profit_per_customer"],
        currency=contract.economics.currency,
        cost_of_offer=contract.economics.cost_of_offer,
    )


def _differences(ours: Scored, theirs: Scored, weights: Floats) -> Metrics:
    other = theirs.auc_and_profit(weights)
    return {name: values - other[name] for name, values in ours.auc_and_profit(weights).items()}


def policy_for(challenger_recipe: str, champion_recipe: str | None) -> PolicyName:
    """Returns the policy: a new recipe must be better, the same recipe not much worse.

    Args:
        champion_recipe: None where there is no champion.
    """
    if champion_recipe is None:
        return "first"
    return "fresh" if challenger_recipe == champion_recipe else "superior"


def first(report: EvaluationReport, policy: PromotionPolicy) -> Verdict:
    """Policy without a champion: the quality floor, better than the baseline, and profitable.

    The floor is the only one of the three that a person cannot approve: see `approvable`.
    """
    floor = auc_above_floor(report)
    pays = {
        "beats_simple_baseline": beats_simple_baseline(report),
        "earns_money": earns_money(report, policy),
    }
    failed = [name for name, verdict in pays.items() if verdict.outcome != "passed"]
    text = f"There is no champion yet. {floor.description}"
    if failed:
        # Who decides about a model that does not pay needs all of its numbers.
        text += f" Failed: {', '.join(failed)}. "
        text += " ".join(verdict.description for verdict in pays.values())
    numbers: dict[str, float | int | str] = {
        **floor.numbers,
        "failed": ", ".join(failed) or "none",
        "log_loss_saved_low": pays["beats_simple_baseline"].numbers["value"],
        **pays["earns_money"].numbers,
    }
    return Verdict(floor.outcome == "passed" and not failed, text, numbers)


def earns_money(report: EvaluationReport, policy: PromotionPolicy) -> Verdict:
    """The expected profit of 1,000 customers is above its limit; an undefined one is not.

    The estimate counts, and the interval is only shown. Chance is judged by the comparison with
    the baseline; a lower bound of money as well would refuse good models with few test rows.
    """
    profit, limit = report.profit.per_1000_customers, policy.first_profit
    numbers: dict[str, float | int | str] = {
        "profit_per_1000": _number(profit.value),
        "profit_per_1000_low": _number(profit.low),
        "profit_per_1000_high": _number(profit.high),
        "profit_limit": limit,
    }
    if profit.value is None:
        return Verdict(False, "The expected profit of its offers is undefined.", numbers)
    verb = "lose" if profit.value < 0 else "earn"
    text = (
        f"Its offers are expected to {verb} {abs(profit.value):.2f} {report.profit.currency} per "
        f"1,000 customers (95% interval {shown(profit.low, 2)} to {shown(profit.high, 2)}); they "
        f"must earn more than {limit:g}."
    )
    return Verdict(_above(profit.value, limit), text, numbers)


def approvable(name: PolicyName, report: EvaluationReport, verdict: Verdict) -> bool:
    """Whether a person's approval promotes a challenger that would not be promoted without it.

    So it is for a challenger that its policy promotes, unless it may know the label. And for a
    first champion that reaches the quality floor: no better model serves, and a person may want
    the ranks, or know better economics. Any other refusal needs an override.

    Args:
        verdict: Verdict of the policy on the challenger.
    """
    if verdict.passed:
        return not unless_label_is_known(verdict, report).passed
    return name == "first" and auc_above_floor(report).passed


def unless_label_is_known(verdict: Verdict, report: EvaluationReport) -> Verdict:
    """Returns the verdict of a policy, or a refusal where the model may know the label.

    It may if a feature of its training set leaks the label, or one alone gives most of a ROC AUC
    above its limit: such a model is good in every test, and of no use for customers to come.
    """
    leaking = [one for one in report.associations if one.leaks(report.limits)]
    behind = features_behind(report)
    if not leaking and not behind:
        return verdict
    # A policy names what failed by itself; this belongs to the same list.
    failed = [name for name in (str(verdict.numbers.get("failed", "none")),) if name != "none"]
    reasons = []
    if behind:
        failed.append("model_not_too_good")
        reasons.append(model_not_too_good(report).description)
    if leaking:
        failed.append("no_feature_knows_the_label")
        reasons.append(f"{listed([one.described(report.limits) for one in leaking])}.")
    suspected = dict.fromkeys(one.name for one in (*behind, *leaking))
    return replace(
        verdict,
        passed=False,
        description=f"The model may know the label: {' '.join(reasons)} {verdict.description}",
        numbers=verdict.numbers
        | {"failed": ", ".join(failed), "suspected_features": ", ".join(suspected)},
    )


def superior(comparison: Comparison, policy: PromotionPolicy) -> Verdict:
    """Policy for a new recipe: the ROC AUC is significantly better, the profit not much worse.

    Each lower 95% bound must be above its limit; a bound at the limit does not pass.
    """
    return _judged("superior", comparison, 0.0, policy)


def fresh(comparison: Comparison, policy: PromotionPolicy) -> Verdict:
    """Policy for the champion's recipe on newer data: ROC AUC and profit are not much worse.

    Each lower 95% bound must be above its limit; a bound at the limit does not pass. This is a
    test of non-inferiority, as in Wellek, "Testing statistical hypotheses of equivalence and
    noninferiority" (2010): a challenger that was not shown to be good enough does not pass.
    """
    return _judged("fresh", comparison, -policy.auc_margin, policy)


def judge(
    name: PolicyName,
    report: EvaluationReport,
    comparison: Comparison | None,
    policy: PromotionPolicy,
) -> Verdict:
    """Returns the verdict of a policy.

    Args:
        report: Evaluation of the challenger.
        comparison: Comparison with the champion; None where there is no champion, or its scorer
            cannot score the challenger's rows.
    """
    if name == "first":
        return first(report, policy)
    if comparison is None:
        text = f"Policy {name!r} needs a comparison, but the champion cannot score these rows."
        return Verdict(False, text, {"policy": name})
    return {"superior": superior, "fresh": fresh}[name](comparison, policy)


def _judged(
    name: PolicyName, comparison: Comparison, auc_limit: float, policy: PromotionPolicy
) -> Verdict:
    auc, profit = comparison.auc_gained, comparison.profit_gained
    profit_limit = -policy.profit_margin * comparison.cost_of_offer
    numbers: dict[str, float | int | str] = {
        "policy": name,
        "value": _number(auc.low),
        "limit": auc_limit,
        "auc_gained": _number(auc.value),
        "profit_gained": _number(profit.value),
        "profit_gained_low": _number(profit.low),
        "profit_limit": profit_limit,
        "test_rows": comparison.rows,
    }
    text = (
        f"By policy {name!r}: ROC AUC {_gained(auc, 4)}, the lower bound must be above "
        f"{auc_limit:g}; expected profit of a customer {_gained(profit, 3)} "
        f"{comparison.currency}, the lower bound must be above {profit_limit:g}."
    )
    return Verdict(_above(auc.low, auc_limit) and _above(profit.low, profit_limit), text, numbers)


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _number(value: float | None) -> float | str:
    return "undefined" if value is None else value


def _gained(one: Interval, digits: int) -> str:
    value = "undefined" if one.value is None else f"{one.value:+.{digits}f}"
    return f"{value} (95% interval {shown(one.low, digits)} to {shown(one.high, digits)})"
