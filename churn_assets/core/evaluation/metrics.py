"""Classification metrics for many weightings of the same rows at once.

A bootstrap resample is a weighting: how often each row was drawn. The rows are sorted by score
once; after that every metric of a thousand resamples is a handful of matrix operations, where
`sklearn.metrics` would sort a thousand times. The values are those of `sklearn.metrics`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from churn_assets.contracts.contract import Economics, Frozen
from churn_assets.core.verdict import Finite

Floats = NDArray[np.float64]
Metrics = dict[str, Floats]

MOST_CALIBRATION_BINS = 10
LEAST_ROWS_OF_A_BIN = 100
"""Chance alone moves the churn rate of smaller bins by as much as a model may be wrong."""

TOP_SHARES = (10, 20, 30)
"""Percent of the customers, highest score first, on whom lift, recall and precision are taken."""

MOST_CELLS = 200_000
"""Resamples times rows that are worked on at once: 1.6 MB an array, which a cache holds."""

PROFIT_TERM = 3
"""Column of `Scored.terms` with the profit of each row."""

METRICS = (
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "calibration_error",
    "accuracy",
    "profit_per_customer",
    *(f"{kind}_top_{share}" for kind in ("lift", "recall", "precision") for share in TOP_SHARES),
)


class Interval(Frozen):
    """A value with its 95% bootstrap interval; null where it cannot be computed."""

    value: Finite
    low: Finite
    high: Finite


@dataclass(frozen=True)
class Scored:
    """Rows with labels and probabilities, sorted and grouped once for `metrics`.

    Attributes:
        order: row numbers by falling probability, (n,).
        starts: where in that order each distinct probability begins, (g,).
        labels: 0.0 or 1.0 in that order, (n,).
        terms: what each row adds to the metrics that are means and to the calibration bins, in
            the order of the caller's rows, (n, 4 + bins).
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    labels: Floats
    terms: Floats

    @classmethod
    def of(cls, labels: ArrayLike, probabilities: ArrayLike, economics: Economics) -> "Scored":
        """Prepares rows.

        Args:
            labels: booleans or 0 and 1, (n,).
            probabilities: of the positive class, (n,).
        """
        y = np.asarray(labels, dtype=np.float64)
        p = np.asarray(probabilities, dtype=np.float64)
        order = np.argsort(-p, kind="stable")
        starts = np.flatnonzero(np.diff(p[order], prepend=np.inf))
        bins = np.eye(MOST_CALIBRATION_BINS)[calibration_bins(p)] * (y - p)[:, None]
        right = (p >= economics.break_even_probability) == (y > 0)
        means = (row_log_loss(y, p), (y - p) ** 2, right, row_profit(y, p, economics))
        return cls(order, starts, y[order], np.column_stack((*means, bins)))

    def auc_and_profit(self, weights: Floats) -> Metrics:
        """`roc_auc` and `profit_per_customer` as in `metrics`, in half of the time."""
        both, positive = self._drawn(weights)
        profits = self.terms[:, PROFIT_TERM]
        return {
            "roc_auc": _auc(both, positive, np.cumsum(positive, axis=1)),
            "profit_per_customer": weights @ profits / weights.sum(axis=1),
        }

    def metrics(self, weights: Floats) -> Metrics:
        """Every metric of `METRICS` for each weighting.

        Args:
            weights: non-negative, one row of the matrix a weighting, (b, n).

        Returns:
            Arrays (b,) by name; NaN where a metric needs a class that has no weight.
        """
        both, positive = self._drawn(weights)
        cumulated, hits = np.cumsum(both, axis=1), np.cumsum(positive, axis=1)
        total, positives = cumulated[:, -1], hits[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = (weights @ self.terms) / total[:, None]
            precision = np.divide(hits, cumulated, out=np.zeros_like(hits), where=cumulated > 0)
            result = {
                "roc_auc": _auc(both, positive, hits),
                "pr_auc": np.einsum("ij,ij->i", positive, precision) / positives,
                "log_loss": sums[:, 0],
                "brier": sums[:, 1],
                "calibration_error": np.abs(sums[:, 4:]).sum(axis=1),
                "accuracy": sums[:, 2],
                "profit_per_customer": sums[:, PROFIT_TERM],
            }
            for share in TOP_SHARES:
                found = _hits_at(share / 100 * total, cumulated, hits)
                result[f"recall_top_{share}"] = found / positives
                result[f"precision_top_{share}"] = found / (share / 100 * total)
                result[f"lift_top_{share}"] = found / positives / (share / 100)
        return {name: result[name] for name in METRICS}

    def _drawn(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of all rows, and of the positives among them, at each distinct probability."""
        drawn = weights[:, self.order]
        return self._by_score(drawn), self._by_score(drawn * self.labels)

    def _by_score(self, weights: Floats) -> Floats:
        """Sums columns of the same probability: ties have no order among them."""
        if len(self.starts) == len(self.order):
            return weights
        summed: Floats = np.add.reduceat(weights, self.starts, axis=1)
        return summed


def _auc(both: Floats, positive: Floats, hits: Floats) -> Floats:
    """Share of pairs of a positive and a negative in which the positive is above; ties are half."""
    negative = both - positive
    beaten = np.einsum("ij,ij->i", negative, hits - positive / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = beaten / (hits[:, -1] * negative.sum(axis=1))
    return result


def _hits_at(depth: Floats, cumulated: Floats, hits: Floats) -> Floats:
    """Weight of the positives among the best `depth` of the weight, linear within a tie."""
    rows = np.arange(len(depth))
    last = np.minimum((cumulated < depth[:, None]).sum(axis=1), cumulated.shape[1] - 1)
    before = np.maximum(last - 1, 0)
    first = last == 0
    done = np.where(first, 0.0, cumulated[rows, before])
    found = np.where(first, 0.0, hits[rows, before])
    within = (depth - done) / (cumulated[rows, last] - done)
    result: Floats = found + np.clip(within, 0.0, 1.0) * (hits[rows, last] - found)
    return result


def calibration_bins(probabilities: Floats) -> NDArray[np.intp]:
    """Bin of each row: ten bins of equally many rows, fewer below 1,000 rows; ties stay together.

    Bins of equal mass estimate the error with less bias than bins of equal width (Roelofs et al.,
    "Mitigating bias in calibration error estimation", AISTATS 2022).
    """
    count = int(np.clip(len(probabilities) // LEAST_ROWS_OF_A_BIN, 1, MOST_CALIBRATION_BINS))
    edges = np.quantile(probabilities, np.arange(1, count) / count, method="inverted_cdf")
    return np.searchsorted(edges, probabilities, side="left")


def row_log_loss(labels: Floats, probabilities: Floats) -> Floats:
    """Log loss of each row, in nats, probabilities clipped like sklearn's, (n,)."""
    eps = np.finfo(np.float64).eps
    p = np.clip(probabilities, eps, 1 - eps)
    loss: Floats = -np.where(labels > 0, np.log(p), np.log1p(-p))
    return loss


def row_gain(labels: Floats, economics: Economics) -> Floats:
    """What an offer to each customer brings on average, its cost taken off, (n,)."""
    saved = economics.acceptance_rate * economics.value_of_kept_customer
    gain: Floats = labels * saved - economics.cost_of_offer
    return gain


def row_profit(labels: Floats, probabilities: Floats, economics: Economics) -> Floats:
    """The gain of each customer if offers go to all at or above the break-even, (n,)."""
    contacted = probabilities >= economics.break_even_probability
    profit: Floats = contacted * row_gain(labels, economics)
    return profit


def bootstrap_weights(
    rows: int,
    resamples: int,
    seed: int,
    customers: NDArray[np.intp] | None = None,
    classes: Floats | None = None,
) -> Iterator[Floats]:
    """How often each row is drawn in each resample, in chunks (b, rows) that bound the memory.

    Customers are drawn with replacement, all rows of each together, for a customer's rows are
    alike. Without `classes` the number of positives varies, as it would in another month. With
    them those who ever left and those who never did are drawn apart, as many as there are: two
    models are compared on the mix of customers that is at hand. The same arguments give the same
    draws, whatever the model.

    Args:
        customers: the customer of each row as a number from 0 on, (rows,); None where each row
            is another customer's.
        classes: labels, 0.0 or 1.0, (rows,).
    """
    random = np.random.default_rng(seed)
    units = rows if customers is None else int(customers.max()) + 1
    strata = _strata(units, customers, classes)
    size = max(1, MOST_CELLS // rows)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        weights = np.empty((count, units))
        for members in strata:
            weights[:, members] = _times_drawn(random, count, len(members))
        yield weights if customers is None else weights[:, customers]


def _strata(
    units: int, customers: NDArray[np.intp] | None, classes: Floats | None
) -> list[NDArray[np.intp]]:
    """Groups of customers that are drawn apart."""
    if classes is None:
        return [np.arange(units)]
    owners = np.arange(units) if customers is None else customers
    left = np.bincount(owners, weights=classes, minlength=units) > 0
    return [np.flatnonzero(group) for group in (left, ~left) if group.any()]


def _times_drawn(random: np.random.Generator, count: int, units: int) -> NDArray[np.intp]:
    """How often each of some units is drawn in each of `count` resamples, (count, units)."""
    drawn = random.integers(units, size=(count, units))
    drawn += np.arange(count)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)


def bootstrap(
    statistics: Callable[[Floats], Metrics],
    rows: int,
    *,
    resamples: int,
    seed: int,
    customers: NDArray[np.intp] | None = None,
    classes: Floats | None = None,
) -> dict[str, Interval]:
    """Values on the rows as they are, with 95% percentile intervals.

    See Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        statistics: from weights (b, rows) to arrays (b,) by name, as `Scored.metrics`.
        rows: how many rows there are, at least one.
        customers, classes: as `bootstrap_weights` takes them.

    Returns:
        Intervals by name. Resamples in which a value is undefined are left out of its interval.
    """
    values = statistics(np.ones((1, rows)))
    draws = bootstrap_weights(rows, resamples, seed, customers, classes)
    chunks = [statistics(weights) for weights in draws]
    return {
        name: _interval(name, float(value[0]), np.concatenate([chunk[name] for chunk in chunks]))
        for name, value in values.items()
    }


def _interval(name: str, value: float, draws: Floats) -> Interval:
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Interval(value=value, low=None, high=None)
    if name == "calibration_error":
        # An absolute error grows with any noise, so resamples overstate it: centre them again.
        draws = np.maximum(draws - (np.median(draws) - value), 0.0)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value=value, low=low, high=high)
