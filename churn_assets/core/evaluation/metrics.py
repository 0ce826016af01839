"""Classification metrics for many weightings of the same rows at once.

A bootstrap resample is a weighting: the number of times that each row was drawn. The rows are
sorted by score once; after that every metric of a thousand resamples takes a few matrix operations,
whereas `sklearn.metrics` would sort a thousand times. The values equal those of `sklearn.metrics`.
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
"""In smaller bins chance alone moves the churn rate by as much as a model may be wrong."""

TOP_SHARES = (10, 20, 30)
"""Percentages of customers, highest score first, at which lift, recall and precision are taken."""

MOST_CELLS = 200_000
"""Maximum resamples times rows of a chunk: 1.6 MB an array, which fits into a cache."""

PROFIT_TERM = 3
"""Column of `Scored.terms` with the profit of each row."""
FIRST_BIN_TERM = 4
"""First of the columns of `Scored.terms` with the calibration bins; they are the last columns."""

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
        order: Row numbers in descending order of probability, (n,).
        starts: Position in that order at which each distinct probability begins, (g,).
        labels: Labels in that order, 0.0 or 1.0, (n,).
        terms: Contributions of each row to the metrics that are means and to the calibration bins,
            in the order of the caller's rows, (n, 4 + bins).
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    labels: Floats
    terms: Floats

    @classmethod
    def of(cls, labels: ArrayLike, probabilities: ArrayLike, economics: Economics) -> "Scored":
        """Sorts and groups rows.

        Args:
            labels: Booleans or 0 and 1, (n,).
            probabilities: Probabilities of the positive class, (n,).
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
        """Computes `roc_auc` and `profit_per_customer` as in `metrics`, in half of the time."""
        both, positive = self._drawn(weights)
        profits = self.terms[:, PROFIT_TERM]
        return {
            "roc_auc": _auc(both, positive, np.cumsum(positive, axis=1)),
            "profit_per_customer": weights @ profits / weights.sum(axis=1),
        }

    def metrics(self, weights: Floats) -> Metrics:
        """Computes every metric of `METRICS` for each weighting.

        Args:
            weights: Non-negative weights, one weighting per row of the matrix, (b, n).

        Returns:
            Arrays (b,) by name; NaN if a metric needs a class that has no weight.
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
                "calibration_error": np.abs(sums[:, FIRST_BIN_TERM:]).sum(axis=1),
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
        """Returns the weight of all rows and of the positives at each distinct probability."""
        drawn = weights[:, self.order]
        return self._by_score(drawn), self._by_score(drawn * self.labels)

    def _by_score(self, weights: Floats) -> Floats:
        """Sums the columns of equal probability, because ties have no order."""
        if len(self.starts) == len(self.order):
            return weights
        summed: Floats = np.add.reduceat(weights, self.starts, axis=1)
        return summed


def _auc(both: Floats, positive: Floats, hits: Floats) -> Floats:
    """Returns the share of positive-negative pairs with the positive above; ties count half."""
    negative = both - positive
    beaten = np.einsum("ij,ij->i", negative, hits - positive / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = beaten / (hits[:, -1] * negative.sum(axis=1))
    return result


def _hits_at(depth: Floats, cumulated: Floats, hits: Floats) -> Floats:
    """Returns the weight of the positives in the top `depth` of the weight, linear in a tie."""
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
    """Returns the bin of each row: ten equally large bins, fewer below 1,000 rows; ties share one.

    Bins of equal mass estimate the error with less bias than bins of equal width (Roelofs et al.,
    "Mitigating bias in calibration error estimation", AISTATS 2022).
    """
    count = int(np.clip(len(probabilities) // LEAST_ROWS_OF_A_BIN, 1, MOST_CALIBRATION_BINS))
    edges = np.quantile(probabilities, np.arange(1, count) / count, method="inverted_cdf")
    return np.searchsorted(edges, probabilities, side="left")


def row_log_loss(labels: Floats, probabilities: Floats) -> Floats:
    """Returns the log loss of each row in nats, with probabilities clipped as in sklearn, (n,)."""
    eps = np.finfo(np.float64).eps
    p = np.clip(probabilities, eps, 1 - eps)
    loss: Floats = -np.where(labels > 0, np.log(p), np.log1p(-p))
    return loss


def row_gain(labels: Floats, economics: Economics) -> Floats:
    """Returns the expected gain of an offer to each customer, net of its cost, (n,)."""
    saved = economics.acceptance_rate * economics.value_of_kept_customer
    gain: Floats = labels * saved - economics.cost_of_offer
    return gain


def row_profit(labels: Floats, probabilities: Floats, economics: Economics) -> Floats:
    """Returns the gain of each customer if all at or above the break-even get an offer, (n,)."""
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
    """Yields how often each row is drawn in each resample, in chunks (b, rows) to limit memory.

    Customers are drawn with replacement, each with all of its rows, because the rows of a customer
    are similar. Without `classes` the number of positives varies, as it would in another month.
    With `classes`, customers who ever left and customers who never left are drawn separately, in
    their actual numbers, so that two models are compared on the actual mix of customers. The same
    arguments give the same draws, whatever the model.

    Args:
        customers: Customer of each row as a number from 0, (rows,); None if each row is of a
            different customer.
        classes: Labels, 0.0 or 1.0, (rows,).
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
    """Returns the groups of customers that are drawn separately."""
    if classes is None:
        return [np.arange(units)]
    owners = np.arange(units) if customers is None else customers
    left = np.bincount(owners, weights=classes, minlength=units) > 0
    return [np.flatnonzero(group) for group in (left, ~left) if group.any()]


def _times_drawn(random: np.random.Generator, count: int, units: int) -> NDArray[np.intp]:
    """Returns how often each unit is drawn in each of `count` resamples, (count, units)."""
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
    """Computes values on the original rows, with 95% percentile intervals.

    See Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        statistics: Function of weights (b, rows) to arrays (b,) by name, such as `Scored.metrics`.
        rows: Number of rows, at least one.
        customers, classes: As in `bootstrap_weights`.

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
        # Any noise increases an absolute error, so resamples overstate it: centre them again.
        draws = np.maximum(draws - (np.median(draws) - value), 0.0)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value=value, low=low, high=high)
