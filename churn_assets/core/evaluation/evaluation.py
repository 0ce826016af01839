"""Evaluation report of a model on test rows, and the checks on it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pydantic import Field

from churn_assets.contracts.contract import MONTH, Contract, Frozen
from churn_assets.core.data.leaks import Association, listed, stored
from churn_assets.core.evaluation.curves import BestThreshold, Curves, best_threshold, curves
from churn_assets.core.evaluation.metrics import (
    Floats,
    Interval,
    Metrics,
    Scored,
    bootstrap,
    row_gain,
)
from churn_assets.core.evaluation.slices import Slice, customers_of, evaluate_slices
from churn_assets.core.limits import Limits
from churn_assets.core.verdict import Finite, Verdict, not_judged, shown


class About(Frozen):
    """Model and data that a report is about, as far as the caller knows."""

    model_version: str = ""
    mlflow_run_id: str = ""
    table_versions: dict[str, int] = Field(default_factory=dict)
    baseline_feature: str = ""


class Profit(Frozen):
    """Money per customer in `currency`, over all customers whether they get an offer or not.

    Attributes:
        threshold: Probability from which an offer pays by the contract (Elkan, 2001).
        contacted_share: Share of customers at or above the threshold.
        per_customer: Profit at the threshold.
        best: Best threshold in hindsight, an upper bound on the profit of any other threshold.
        everybody: Profit if all customers get an offer. Contacting nobody brings 0.
    """

    currency: str
    threshold: float
    contacted_share: float
    per_customer: Interval
    best: BestThreshold
    everybody: float

    @property
    def per_1000_customers(self) -> Interval:
        values = self.per_customer.model_dump().items()
        return Interval(**{key: None if value is None else 1000 * value for key, value in values})


class Comparison(Frozen):
    """Comparison of the model with the simple baseline on the same resamples.

    Attributes:
        log_loss_saved: Baseline minus model, in nats a row; positive if the model is better.
        auc_gained: Model minus baseline.
    """

    baseline_log_loss: Finite
    baseline_auc: Finite
    log_loss_saved: Interval
    auc_gained: Interval


class EvaluationReport(Frozen):
    """All results of a model's evaluation; `model_dump_json` converts them to JSON.

    Attributes:
        associations: Every feature and pair that leaks the label, and the strongest others; empty
            in reports of earlier versions.
    """

    contract_name: str
    contract_version: str
    about: About
    rows: int
    positives: int
    months: tuple[str, ...]
    resamples: int
    metrics: dict[str, Interval]
    slices: tuple[Slice, ...]
    curves: Curves
    profit: Profit
    baseline: Comparison
    associations: tuple[Association, ...] = ()
    limits: Limits

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdicts of all checks on the report by name."""
        checks = (
            auc_above_floor,
            model_not_too_good,
            well_calibrated,
            no_weak_slice,
            beats_simple_baseline,
        )
        return {check.__name__: check(self) for check in checks}


def evaluate(
    test: pd.DataFrame,
    probabilities: Floats,
    baseline: Floats,
    contract: Contract,
    limits: Limits,
    *,
    associations: Sequence[Association] = (),
    resamples: int = 500,
    seed: int = 0,
    about: About | None = None,
) -> EvaluationReport:
    """Evaluates a model on test rows.

    Args:
        test: Typed rows with the label, the features and, if there are months, "month". Rows with
            the same id are drawn together in the resamples.
        probabilities: Churn probabilities of these rows by the model, (n,).
        baseline: Churn probabilities of these rows by the simple baseline, (n,).
        associations: Features and pairs by their association with the label in the training set.
        resamples: Number of bootstrap resamples for each interval, at least 1.

    Raises:
        ValueError: There are no rows, a label is null, or a probability is missing or not in
            [0, 1].
    """
    y = labels_of(test, contract)
    model = Scored.of(y, checked_probabilities(probabilities, y), contract.economics)
    simple = Scored.of(y, checked_probabilities(baseline, y), contract.economics)
    metrics = bootstrap(
        lambda weights: _paired(model, simple, weights),
        len(y),
        customers=customers_of(test, contract),
        resamples=resamples,
        seed=seed,
    )
    comparison = Comparison(
        baseline_log_loss=metrics.pop("baseline_log_loss").value,
        baseline_auc=metrics.pop("baseline_auc").value,
        log_loss_saved=metrics.pop("log_loss_saved"),
        auc_gained=metrics.pop("auc_gained"),
    )
    p = np.asarray(probabilities, dtype=np.float64)
    return EvaluationReport(
        contract_name=contract.name,
        contract_version=contract.version,
        about=about or About(),
        rows=len(y),
        positives=int(y.sum()),
        months=months_of(test),
        resamples=resamples,
        metrics=metrics,
        slices=tuple(evaluate_slices(test, y, p, contract, limits, resamples, seed)),
        curves=curves(y, p, contract.economics),
        profit=_profit(y, p, contract, metrics["profit_per_customer"]),
        baseline=comparison,
        associations=stored(associations, limits),
        limits=limits,
    )


def months_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Returns the sorted months of the rows; empty if the rows have no month."""
    return tuple(sorted(set(rows[MONTH].dropna().astype(str)))) if MONTH in rows else ()


def labels_of(test: pd.DataFrame, contract: Contract) -> Floats:
    """Returns the labels of test rows, 0.0 or 1.0, (n,).

    Raises:
        ValueError: There are no rows, or a label is null.
    """
    labels = test[contract.label.name]
    if not len(labels):
        raise ValueError("there are no test rows to evaluate on")
    if labels.isna().any():
        raise ValueError(f"{int(labels.isna().sum())} test rows have no label")
    return labels.to_numpy(dtype=np.float64)


def checked_probabilities(probabilities: Floats, labels: Floats) -> Floats:
    """Returns the probabilities of the rows with these labels as an array, (n,).

    Raises:
        ValueError: Their number differs from that of the labels, or one is missing or not in
            [0, 1].
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != labels.shape:
        raise ValueError(f"probabilities have shape {p.shape} for {len(labels)} rows")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must be numbers from 0 to 1")
    return p


def _paired(model: Scored, simple: Scored, weights: Floats) -> Metrics:
    """Returns the model's metrics and its differences to the baseline on the same resamples."""
    metrics, baseline = model.metrics(weights), simple.metrics(weights)
    return metrics | {
        "baseline_log_loss": baseline["log_loss"],
        "baseline_auc": baseline["roc_auc"],
        "log_loss_saved": baseline["log_loss"] - metrics["log_loss"],
        "auc_gained": metrics["roc_auc"] - baseline["roc_auc"],
    }


def _profit(y: Floats, p: Floats, contract: Contract, per_customer: Interval) -> Profit:
    threshold = contract.economics.break_even_probability
    return Profit(
        currency=contract.economics.currency,
        threshold=threshold,
        contacted_share=float((p >= threshold).mean()),
        per_customer=per_customer,
        best=best_threshold(y, p, contract.economics),
        everybody=float(row_gain(y, contract.economics).mean()),
    )


def auc_above_floor(report: EvaluationReport) -> Verdict:
    """The model's ROC AUC is high enough; a value at the limit passes."""
    auc, floor = report.metrics["roc_auc"], report.limits.min_auc
    numbers: dict[str, float | int | str] = {"limit": floor}
    if auc.value is None:
        text = "ROC AUC is undefined: all test rows are of one class."
        return Verdict(False, text, {"value": "undefined", **numbers})
    return Verdict(
        auc.value >= floor,
        f"ROC AUC is {shown(auc.value)} (95% interval {shown(auc.low)} to {shown(auc.high)}); "
        f"it must be at least {floor:g}.",
        {"value": auc.value, **numbers},
    )


def model_not_too_good(report: EvaluationReport) -> Verdict:
    """The model's ROC AUC is plausible; a value at the limit passes.

    Above the limit the model probably knows the label. Where one feature or pair gives most of the
    ROC AUC (`features_behind`), that is a fault, and a person must promote the model.
    """
    auc, limits = report.metrics["roc_auc"].value, report.limits
    numbers: dict[str, float | int | str] = {
        "limit": limits.max_auc, "share_limit": limits.max_auc_share_of_one_feature,
    }  # fmt: skip
    if auc is None:
        why = f"ROC AUC is undefined; it may be at most {limits.max_auc:g}."
        return not_judged(why, {"value": "undefined", **numbers})
    numbers |= {"value": auc}
    said = f"ROC AUC is {auc:.3f}; up to {limits.max_auc:g} it is plausible."
    if auc <= limits.max_auc:
        return Verdict(True, said, numbers)
    behind = features_behind(report)
    share = f"more than {limits.max_auc_share_of_one_feature:.0%} of what the model has above 0.5"
    if behind:
        each = listed([f"{one.name} has {one.auc:.3f}" for one in behind])
        numbers |= {"features": ", ".join(one.name for one in behind)}
        return Verdict(False, f"{said} Alone, out of fold, {each}: {share}.", numbers)
    if not report.associations:
        return Verdict(False, f"{said} The report does not have that of each feature.", numbers)
    best = max(report.associations, key=lambda one: one.auc)
    said += f" No feature or pair alone has {share}; the best, {best.name}, has {best.auc:.3f}."
    return Verdict(False, said, numbers)


def features_behind(report: EvaluationReport) -> list[Association]:
    """Returns the features that alone give most of a ROC AUC above its limit, or else such pairs.

    Most is a share of what the ROC AUC has above 0.5, which is chance. None at or below the limit.
    """
    auc, limits = report.metrics["roc_auc"].value, report.limits
    if auc is None or auc <= limits.max_auc:
        return []
    most = limits.max_auc_share_of_one_feature * (auc - 0.5)
    found = [one for one in report.associations if one.auc - 0.5 > most]
    return [one for one in found if len(one.features) == 1] or found


def well_calibrated(report: EvaluationReport) -> Verdict:
    """The model's calibration error is low enough; a value at the limit passes."""
    error, limit = report.metrics["calibration_error"], report.limits.max_calibration_error
    if error.value is None:
        why = "the calibration error is undefined; it needs test rows with probabilities."
        return not_judged(why, {"value": "undefined", "limit": limit})
    return Verdict(
        error.value <= limit,
        f"Probabilities are off by {shown(error.value)} on average (95% interval "
        f"{shown(error.low)} to {shown(error.high)}); it may be at most {limit:g}.",
        {"value": error.value, "limit": limit},
    )


def no_weak_slice(report: EvaluationReport) -> Verdict:
    """No slice has a low ROC AUC; not judged if no slice is large enough."""
    judged = [one for one in report.slices if one.judged]
    weak = [f"{one.column} {one.value}" for one in judged if one.weak]
    bounds = [one.metrics["roc_auc"].high for one in judged]
    lowest = min((bound for bound in bounds if bound is not None), default=None)
    limit, least = report.limits.min_slice_auc, report.limits.min_slice_rows_of_each_class
    numbers: dict[str, float | int | str] = {
        "value": "undefined" if lowest is None else lowest,
        "limit": limit,
        "slices_judged": len(judged),
        "slices_not_judged": len(report.slices) - len(judged),
        "weak_slices": ", ".join(weak),
    }
    if not judged:
        few = f"none of {len(report.slices)} slices has as many"
        missing = few if report.slices else "the contract has no slices"
        why = f"{missing}; a slice needs {least:,} churned and {least:,} retained customers."
        return not_judged(why, numbers)
    found = f"weak: {', '.join(weak)}" if weak else "none is weak"
    return Verdict(
        not weak,
        f"Of {len(judged)} slices judged, {found}. The lowest upper bound of a slice's ROC AUC "
        f"is {shown(lowest)}; it must be at least {limit:g}.",
        numbers,
    )


def beats_simple_baseline(report: EvaluationReport) -> Verdict:
    """The model's log loss is below that of the simple baseline, beyond chance."""
    saved, limit = report.baseline.log_loss_saved, report.limits.min_gain_over_baseline
    return Verdict(
        saved.low is not None and saved.low > limit,
        f"Against the simple baseline the model saves {shown(saved.value, 4)} log loss a row; "
        f"the lower 95% bound is {shown(saved.low, 4)} and must be above {limit:g}.",
        {
            "value": "undefined" if saved.low is None else saved.low,
            "limit": limit,
            "log_loss_saved": "undefined" if saved.value is None else saved.value,
        },
    )
