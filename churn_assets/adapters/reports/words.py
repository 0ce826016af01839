"""Labels, explanations and number formats of the reports."""

from collections import Counter

from churn_assets.core.evaluation.metrics import TOP_SHARES, Interval
from churn_assets.core.verdict import Outcome, Verdict

VERDICTS = {
    "auc_above_floor": "Ranks customers well",
    "model_not_too_good": "Not too good to be true",
    "well_calibrated": "Probabilities are calibrated",
    "no_weak_slice": "Works for every group",
    "beats_simple_baseline": "Better than a simple baseline",
    "no_feature_drift": "Features are as in training",
    "no_new_categories": "No new or vanished categories",
    "nulls_as_in_training": "Nulls are as in training",
    "no_prediction_drift": "Scores are distributed as in the test",
    "performance_holds": "Performance is as in the test",
    "served_traffic_as_training": "Served traffic is as in training",
}

_BY_SHARE = {
    "lift": "Churn rate among the {0}% with the highest scores, over the churn rate of all.",
    "recall": "Share of all churned customers who are among the {0}% with the highest scores.",
    "precision": "Churn rate among the {0}% with the highest scores.",
}

METRICS = {
    "roc_auc": (
        "ROC AUC",
        "Chance that a churned customer has a higher score than a retained one: 0.5 is guessing, "
        "1 is perfect.",
    ),
    "pr_auc": (
        "PR AUC",
        "Average precision over all recalls; guessing gives the churn rate.",
    ),
    "log_loss": (
        "Log loss",
        "Mean negative log-likelihood of the outcomes, in nats per customer; lower is better.",
    ),
    "brier": (
        "Brier score",
        "Mean squared error of the probabilities; lower is better.",
    ),
    "calibration_error": (
        "Calibration error",
        "Mean gap between predicted and actual churn rate over groups of equal size.",
    ),
    "accuracy": (
        "Accuracy",
        "Share of correct predictions, if churn is predicted at or above the break-even "
        "probability.",
    ),
    "profit_per_customer": (
        "Profit per customer",
        "Expected profit if all customers at or above the break-even probability get an offer.",
    ),
    **{
        f"{kind}_top_{share}": (f"{kind.capitalize()}, top {share}%", sentence.format(share))
        for kind, sentence in _BY_SHARE.items()
        for share in TOP_SHARES
    },
}

STYLES: dict[Outcome, str] = {"passed": "good", "failed": "bad", "not judged": "open"}
"""CSS class of each outcome of a check."""

NO_VALUE = "-"
"""Shown where there is no number."""

SOURCES = {"scores": "scores", "served": "predictions of the service"}

TESTS = {"kolmogorov_smirnov": "Kolmogorov-Smirnov", "chi_squared": "Chi squared"}


def number(value: float | None, digits: int = 3) -> str:
    """A number with thousands separated; a dash where there is none."""
    return NO_VALUE if value is None else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash where there is none."""
    return NO_VALUE if share is None else f"{share:.{digits}%}"


def p_value(value: float | None) -> str:
    """A p-value with four decimals; a dash where there is none."""
    if value is None:
        return NO_VALUE
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def interval(one: Interval, digits: int = 3) -> str:
    """A value with its 95% interval."""
    if one.value is None or one.low is None:
        return number(one.value, digits)
    return f"{number(one.value, digits)} ({number(one.low, digits)} to {number(one.high, digits)})"


def headline(verdicts: dict[str, Verdict]) -> str:
    """Numbers of failed, or else of passed checks, and of those not judged, as a short text."""
    outcomes = Counter(verdict.outcome for verdict in verdicts.values())
    state: Outcome = "failed" if outcomes["failed"] else "passed"
    if outcomes["passed"] == len(verdicts):
        return f"All {len(verdicts)} checks passed"
    not_judged = f", {outcomes['not judged']} not judged" if outcomes["not judged"] else ""
    return f"{outcomes[state]} of {len(verdicts)} checks {state}{not_judged}"


def worst(verdicts: dict[str, Verdict]) -> Outcome:
    """The outcome of all checks together: a failed one counts first, then one not judged."""
    found = {verdict.outcome for verdict in verdicts.values()}
    order: tuple[Outcome, ...] = ("failed", "not judged")
    return next((outcome for outcome in order if outcome in found), "passed")
