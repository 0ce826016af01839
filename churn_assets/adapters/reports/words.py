"""What the numbers of a report are called, and mean, for people."""

from churn_assets.core.evaluation.metrics import TOP_SHARES, Interval
from churn_assets.core.verdict import Verdict

VERDICTS = {
    "auc_above_floor": "Ranks customers well",
    "well_calibrated": "Probabilities can be taken at face value",
    "no_weak_slice": "Works for every group",
    "beats_simple_baseline": "Better than a simple table",
    "no_feature_drift": "Features are as in training",
    "no_new_categories": "No new categories",
    "nulls_as_in_training": "Nulls are as in training",
    "no_prediction_drift": "Scores spread as when tested",
    "performance_holds": "As good as when tested",
    "served_traffic_as_training": "Served traffic is as in training",
}

_BY_SHARE = {
    "lift": "Churn rate among the {0}% with the highest scores, over the churn rate of all.",
    "recall": "Share of all leavers who are among the {0}% with the highest scores.",
    "precision": "Churn rate among the {0}% with the highest scores.",
}

METRICS = {
    "roc_auc": (
        "ROC AUC",
        "Chance that a leaver has a higher score than a stayer: 0.5 is guessing, 1 is perfect.",
    ),
    "pr_auc": (
        "PR AUC",
        "Average precision over all recalls; guessing gives the churn rate.",
    ),
    "log_loss": (
        "Log loss",
        "Surprise at what came, in nats a customer; lower is better.",
    ),
    "brier": (
        "Brier score",
        "Mean squared error of the probabilities; lower is better.",
    ),
    "calibration_error": (
        "Calibration error",
        "Mean gap between foreseen and actual churn rate over groups of equal size.",
    ),
    "accuracy": (
        "Accuracy",
        "Share who did as foretold, if all at or above the break-even probability should leave.",
    ),
    "profit_per_customer": (
        "Profit per customer",
        "Expected money if all customers at or above the break-even probability get an offer.",
    ),
    **{
        f"{kind}_top_{share}": (f"{kind.capitalize()}, top {share}%", sentence.format(share))
        for kind, sentence in _BY_SHARE.items()
        for share in TOP_SHARES
    },
}

NOTHING = "-"
"""Stands where there is no number."""

SOURCES = {"scores": "scores", "served": "answers of the service"}

TESTS = {"kolmogorov_smirnov": "Kolmogorov-Smirnov", "chi_squared": "Chi squared"}


def number(value: float | None, digits: int = 3) -> str:
    """A number with thousands separated; a dash where there is none."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash where there is none."""
    return NOTHING if share is None else f"{share:.{digits}%}"


def p_value(value: float | None) -> str:
    """A p-value with as many digits as it deserves."""
    if value is None:
        return NOTHING
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def interval(one: Interval, digits: int = 3) -> str:
    """A value with its 95% interval."""
    if one.value is None or one.low is None:
        return number(one.value, digits)
    return f"{number(one.value, digits)} ({number(one.low, digits)} to {number(one.high, digits)})"


def headline(verdicts: dict[str, Verdict]) -> str:
    """How many checks passed, in a few words."""
    failed = sum(not verdict.passed for verdict in verdicts.values())
    if not failed:
        return f"All {len(verdicts)} checks passed"
    return f"{failed} of {len(verdicts)} checks failed"
