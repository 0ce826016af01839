"""Drift of one month against the training data: features, scores, traffic and performance."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import pandas as pd

from churn_assets.contracts.contract import Contract, Frozen
from churn_assets.core.data.features import derive_features
from churn_assets.core.evaluation.metrics import Interval
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.feature_drift import (
    FeatureDrift,
    compare_features,
    nulls_changed,
)
from churn_assets.core.monitoring.performance import RealisedPerformance, performance_holds
from churn_assets.core.scoring.scores import PredictionDrift, score_distribution_as_tested
from churn_assets.core.scoring.traffic import feature_columns
from churn_assets.core.verdict import Verdict, not_judged

RETRAINING_CHECKS: Mapping[str, Literal["drift", "performance"]] = {
    "no_feature_drift": "drift",
    "no_new_categories": "drift",
    "nulls_as_in_training": "drift",
    "no_prediction_drift": "drift",
    "performance_holds": "performance",
}
"""Checks whose failure is a reason to retrain. The check of served traffic is not one of them:
wrong requests to the service are no reason to train again."""


class ServedDrift(Frozen):
    """Drift of a month's served traffic against training.

    Attributes:
        rows: Number of predictions.
        features: All features except personal ones: the log holds only their pseudonyms.
    """

    rows: int
    features: tuple[FeatureDrift, ...]


class DriftReport(Frozen):
    """Comparison of one month with the model's training data; JSON by `model_dump_json`.

    Attributes:
        name: The month.
        model_version: Version of the model that scored the month.
        predictions: Drift of that model's scores; null where the month was not scored.
        served: Drift of the served traffic; null where there is no traffic.
        tested_auc: ROC AUC of that model on its test rows.
        performance: Realised performance of every scored month whose labels are known.
    """

    name: str
    contract_name: str
    contract_version: str
    training_rows: int
    month_rows: int
    features: tuple[FeatureDrift, ...]
    limits: Limits
    model_version: str = ""
    made_at: datetime | None = None
    predictions: PredictionDrift | None = None
    served: ServedDrift | None = None
    tested_auc: Interval | None = None
    performance: tuple[RealisedPerformance, ...] = ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict of every check by name."""
        checks = (
            no_feature_drift, no_new_categories, nulls_as_in_training, no_prediction_drift,
            served_traffic_as_training,
        )  # fmt: skip
        held = performance_holds(self.performance, self.model_version, self.tested_auc, self.limits)
        return {check.__name__: check(self) for check in checks} | {"performance_holds": held}


def compare_month(
    training: pd.DataFrame,
    month: pd.DataFrame,
    contract: Contract,
    limits: Limits,
    *,
    name: str,
    model_version: str = "",
    made_at: datetime | None = None,
    predictions: PredictionDrift | None = None,
    served: ServedDrift | None = None,
    tested_auc: Interval | None = None,
    performance: tuple[RealisedPerformance, ...] = (),
) -> DriftReport:
    """Compares a month's features with training; the other parts of the report are passed in.

    Args:
        training: Typed rows with the contract's features and derived features.
        month: Typed rows likewise.
        name: The month's name in the report.
    """
    return DriftReport(
        name=name,
        contract_name=contract.name,
        contract_version=contract.version,
        training_rows=len(training),
        month_rows=len(month),
        features=compare_features(training, month, contract, limits),
        limits=limits,
        model_version=model_version,
        made_at=made_at,
        predictions=predictions,
        served=served,
        tested_auc=tested_auc,
        performance=performance,
    )


def compare_traffic(
    training: pd.DataFrame, traffic: pd.DataFrame, contract: Contract, limits: Limits
) -> ServedDrift | None:
    """Compares the served traffic with training; None where there is no traffic.

    Args:
        training: Typed rows with the contract's features and derived features.
        traffic: Rows of `served_traffic`.
    """
    if traffic.empty:
        return None
    seen = _without_personal(contract)
    columns = {column: name for name, column in feature_columns(contract).items()}
    named = traffic[list(columns)].rename(columns=columns)
    found = compare_features(training, derive_features(named, seen), seen, limits)
    return ServedDrift(rows=len(traffic), features=found)


def _without_personal(contract: Contract) -> Contract:
    """The contract without its personal features and the features derived from them."""
    hidden = {column.name for column in contract.features if column.personal}
    return contract.model_copy(
        update={
            "columns": tuple(c for c in contract.columns if c.name not in hidden),
            "derived": tuple(f for f in contract.derived if not hidden.intersection(f.inputs)),
        }
    )


def no_feature_drift(report: DriftReport) -> Verdict:
    """No feature drifted."""
    drifted = report.drifted
    effects = [(one.effect, one.name) for one in report.features if one.effect is not None]
    largest, name = max(effects, default=(0.0, ""))
    moved = (one for one in report.features if one.drifted)
    why = "; ".join(f"{one.name}: {', '.join(one.reasons)}" for one in moved)
    return _unless_empty(
        report,
        Verdict(
            not drifted,
            f"{len(drifted)} of {len(report.features)} features drifted"
            + (f": {why}." if why else f"; the largest effect is {largest:.3f}."),
            {
                "value": len(drifted),
                "limit": 0,
                "drifted": ", ".join(drifted),
                "largest_effect": largest,
                "largest_effect_of": name,
                "effect_limit": report.limits.min_drift_effect,
                "p_value_limit": report.limits.max_drift_p_value,
            },
        ),
    )


def no_new_categories(report: DriftReport) -> Verdict:
    """Few rows of the month have a new category, and few of training one that vanished.

    A share at the limit passes. Without known categories in both samples there is nothing to judge.
    """
    known = any(one.kind != "number" and one.effect is not None for one in report.features)
    new = max(report.features, key=lambda one: one.unseen_share)
    gone = max(report.features, key=lambda one: one.vanished_share)
    limit = report.limits.max_unseen_share
    where = f", in {new.name} ({', '.join(new.unseen)})" if new.unseen else ""
    lost = f", in {gone.name} ({', '.join(gone.vanished)})" if gone.vanished else ""
    passed = max(new.unseen_share, gone.vanished_share) <= limit
    numbers: dict[str, float | int | str] = {
        "value": new.unseen_share,
        "limit": limit,
        "feature": new.name if new.unseen else "",
        "unseen": ", ".join(new.unseen),
        "vanished_share": gone.vanished_share,
        "vanished_feature": gone.name if gone.vanished else "",
        "vanished": ", ".join(gone.vanished),
    }
    if passed and not known:
        why = "a category or flag is needed that has values in training and in the month."
        return _unless_empty(report, not_judged(why, numbers))
    return _unless_empty(
        report,
        Verdict(
            passed,
            f"Up to {new.unseen_share:.1%} of the rows have a category that is not, or hardly, in "
            f"the training data{where}, and up to {gone.vanished_share:.1%} of the training rows "
            f"one that is not, or hardly, in the month{lost}; the limit is {limit:.1%}.",
            numbers,
        ),
    )


def nulls_as_in_training(report: DriftReport) -> Verdict:
    """No feature has many more or many fewer nulls than in training; a change at the limit passes.

    A fall that chance explains, as in a month of few rows, passes too.
    """
    limits = report.limits
    worst = max(
        report.features,
        key=lambda one: (nulls_changed(one, limits), abs(one.null_share_rise or 0.0)),
    )
    change, limit = worst.null_share_rise or 0.0, limits.max_null_share_rise
    size, changed = abs(change), nulls_changed(worst, limits)
    where = f", a {'rise' if change > 0 else 'fall'} in {worst.name}" if change else ""
    by_chance = size > limit and not changed and worst.null_p_value is not None
    note = "; chance explains it" if by_chance else ""
    return _unless_empty(
        report,
        Verdict(
            not changed,
            f"The largest change of a feature's nulls is {size:.1%} of the rows{where}; "
            f"the limit is {limit:.1%}{note}.",
            {"value": size, "limit": limit, "feature": worst.name if change else ""},
        ),
    )


def no_prediction_drift(report: DriftReport) -> Verdict:
    """The scores are distributed as on the test rows; not judged where there are no scores."""
    if report.predictions is None:
        return not_judged(
            f"{report.name} was not scored; the scores of customer_scores are needed.",
            {"value": "undefined", "limit": report.limits.max_prediction_psi},
        )
    return score_distribution_as_tested(report.predictions, report.limits)


def served_traffic_as_training(report: DriftReport) -> Verdict:
    """No feature of the served traffic drifted; a month with few predictions is not judged."""
    served, min_rows = report.served, report.limits.min_served_rows
    rows = served.rows if served else 0
    drifted = [one for one in served.features if one.drifted] if served else []
    numbers: dict[str, float | int | str] = {
        "value": len(drifted), "limit": 0, "rows": rows, "min_rows": min_rows,
        "drifted": ", ".join(one.name for one in drifted),
    }  # fmt: skip
    if served is None:
        why = f"the service gave no predictions; {min_rows:,} are needed."
        return not_judged(why, numbers)
    why = "; ".join(f"{one.name}: {', '.join(one.reasons)}" for one in drifted)
    found = (
        f"{rows:,} predictions, {len(drifted)} of {len(served.features)} features are not as in "
        f"training{': ' if why else ''}{why}."
    )
    if rows < min_rows:
        note = f"Months with fewer than {min_rows:,} predictions are not judged."
        return not_judged(f"in {found} {note}", numbers)
    return Verdict(not drifted, f"In {found}", numbers)


def _unless_empty(report: DriftReport, verdict: Verdict) -> Verdict:
    """`verdict`, or that nothing was judged where one of the two samples has no rows."""
    if report.training_rows and report.month_rows:
        return verdict
    empty = "the month" if report.training_rows else "training"
    why = f"there is nothing to compare; {empty} has no rows, at least one is needed."
    return not_judged(why, verdict.numbers)
