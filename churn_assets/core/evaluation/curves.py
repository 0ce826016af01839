"""Curves of an evaluation, thinned out for plotting."""

import numpy as np
from numpy.typing import NDArray

from churn_assets.contracts.contract import Economics, Frozen
from churn_assets.core.evaluation.metrics import Floats, calibration_bins, row_gain

MOST_POINTS = 200


class Curve(Frozen):
    """Points of a line plot; x and y have the same length."""

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()


class CalibrationBin(Frozen):
    """Customers of similar probability, with predicted and observed churn rate.

    Attributes:
        low, high: 95% interval of the churn rate (Wilson, 1927).
    """

    rows: int
    mean_probability: float
    churn_rate: float
    low: float
    high: float


class Curves(Frozen):
    """The curves of one evaluation, each as x and y.

    Attributes:
        roc: False positive rate, true positive rate; empty if a class has no rows.
        precision_recall: Recall, precision; empty without positives.
        gains: Share of customers contacted, highest probability first; share of all churned
            customers among them.
        lift: Share of customers contacted; churn rate among them over the churn rate of all.
        profit: Threshold; profit per customer if all at or above it get an offer.
        calibration: Groups of about equally many customers in ascending order of probability.
    """

    roc: Curve
    precision_recall: Curve
    gains: Curve
    lift: Curve
    profit: Curve
    calibration: tuple[CalibrationBin, ...]


class BestThreshold(Frozen):
    """Threshold with the highest profit on the evaluated rows; None means to contact nobody."""

    threshold: float | None
    profit_per_customer: float


def curves(labels: Floats, probabilities: Floats, economics: Economics) -> Curves:
    """Computes the curves of labels (0.0 or 1.0) and probabilities, both (n,)."""
    thresholds, rows, hits = _by_threshold(labels, probabilities)
    total, positives = rows[-1], hits[-1]
    negatives = total - positives
    share, empty = rows / total, Curve()
    ranked = positives > 0
    return Curves(
        roc=_from_zero((rows - hits) / negatives, hits / positives)
        if ranked and negatives > 0
        else empty,
        precision_recall=_thinned(hits / positives, hits / rows) if ranked else empty,
        gains=_from_zero(share, hits / positives) if ranked else empty,
        lift=_thinned(share, hits / rows / (positives / total)) if ranked else empty,
        profit=_thinned(thresholds, _profits(rows, hits, economics) / total),
        calibration=_calibration(labels, probabilities),
    )


def best_threshold(labels: Floats, probabilities: Floats, economics: Economics) -> BestThreshold:
    """Returns the best threshold in hindsight: optimistic, because it was chosen on these rows."""
    thresholds, rows, hits = _by_threshold(labels, probabilities)
    profits = _profits(rows, hits, economics) / rows[-1]
    best = int(np.argmax(profits))
    if profits[best] <= 0:
        return BestThreshold(threshold=None, profit_per_customer=0.0)
    return BestThreshold(threshold=thresholds[best], profit_per_customer=profits[best])


def _by_threshold(labels: Floats, probabilities: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns descending distinct probabilities, rows and positives at or above each, all (g,)."""
    order = np.argsort(-probabilities, kind="stable")
    p = probabilities[order]
    last = np.flatnonzero(np.diff(p, append=-np.inf))
    rows = (last + 1).astype(np.float64)
    return p[last], rows, np.cumsum(labels[order])[last]


def _profits(rows: Floats, hits: Floats, economics: Economics) -> Floats:
    """Returns the profit over all customers at each threshold, (g,)."""
    miss, hit = row_gain(np.array([0.0, 1.0]), economics)
    profits: Floats = hits * hit + (rows - hits) * miss
    return profits


def _from_zero(x: Floats, y: Floats) -> Curve:
    return _thinned(np.concatenate([[0.0], x]), np.concatenate([[0.0], y]))


def _thinned(x: Floats, y: Floats) -> Curve:
    """Returns at most `MOST_POINTS` evenly spaced points, including the first and the last."""
    count = min(len(x), MOST_POINTS)
    kept: NDArray[np.intp] = np.linspace(0, len(x) - 1, count).round().astype(np.intp)
    return Curve(x=tuple(x[kept].tolist()), y=tuple(y[kept].tolist()))


def _calibration(labels: Floats, probabilities: Floats) -> tuple[CalibrationBin, ...]:
    bins = calibration_bins(probabilities)
    return tuple(
        _calibration_bin(labels[bins == number], probabilities[bins == number])
        for number in np.unique(bins)
    )


def _calibration_bin(labels: Floats, probabilities: Floats) -> CalibrationBin:
    from scipy.stats import binomtest  # takes a second to import

    interval = binomtest(int(labels.sum()), len(labels)).proportion_ci(method="wilson")
    return CalibrationBin(
        rows=len(labels),
        mean_probability=probabilities.mean(),
        churn_rate=labels.mean(),
        low=interval.low,
        high=interval.high,
    )
