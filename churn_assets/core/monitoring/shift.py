"""Distances between two samples of one feature."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_assets.contracts.contract import Frozen, Kind
from churn_assets.core.evaluation.metrics import Floats
from churn_assets.core.limits import Limits
from churn_assets.core.verdict import Finite, finite

Bools = NDArray[np.bool_]

PSI_BINS = 10
PSI_FLOOR = 1e-4
"""Share that replaces an empty bin, for the logarithm in the stability index."""
MAX_EXACT_ROWS = 100
"""Rows per sample up to which the Kolmogorov-Smirnov p-value is exact, not asymptotic."""
SPREAD_QUANTILES = (0.005, 0.995)
"""Quantiles of both samples together at which numbers are clipped before their spread is measured:
a few wrong values must not decide it."""
MAX_NAMES = 10
TOP_VALUES = 3


class Share(Frozen):
    """A value of a category or flag, and the share of the known rows that have it."""

    value: str
    share: float


class SampleSummary(Frozen):
    """Summary of a feature in one of the two samples.

    Attributes:
        known: Number of rows that are not null.
        null_share: Share of null rows; None where there are no rows.
        mean: Mean of a number; None for other kinds.
        spread: Standard deviation of a number, of the values clipped to `SPREAD_QUANTILES`; None
            for other kinds, and where the other sample has no known values.
        top: Most frequent known values of a category or flag.
    """

    known: int
    null_share: Finite
    mean: Finite = None
    spread: Finite = None
    top: tuple[Share, ...] = ()


@dataclass(frozen=True)
class Shift:
    """Both samples of a feature and their distance; None where a sample has no known values.

    Attributes:
        statistic: Test statistic: the Kolmogorov-Smirnov distance, or chi squared.
        effect: Distance from 0 (the same) to 1 (nothing in common): the Kolmogorov-Smirnov distance
            of numbers, the total variation distance of categories and flags.
        psi: Population stability index over deciles of training, or categories.
        null_p_value: p-value of Fisher's exact test that nulls are equally frequent; None where
            neither sample has nulls, or one has no rows.
        spread_change: Change of a number's spread, as a share of the larger spread: -1 if it fell
            to 0, 1 if it was 0 in training, 0 if it is the same.
        spread_p_value: p-value of the test of Brown and Forsythe (1974) that the spreads are equal;
            None where a sample has too few known values to judge.
        unseen_share: Share of the month's rows whose category is not, or hardly, in the training
            data.
        unseen: Those categories, at most 10, most frequent first.
        vanished_share: Share of the training rows whose category is not, or hardly, in the month,
            beyond chance.
        vanished: Those categories, at most 10, most frequent first.
    """

    training: SampleSummary
    month: SampleSummary
    statistic: float | None = None
    p_value: float | None = None
    effect: float | None = None
    psi: float | None = None
    null_p_value: float | None = None
    spread_change: float | None = None
    spread_p_value: float | None = None
    unseen_share: float = 0.0
    unseen: tuple[str, ...] = ()
    vanished_share: float = 0.0
    vanished: tuple[str, ...] = ()


def measure_shift(training: pd.Series, month: pd.Series, kind: Kind, limits: Limits) -> Shift:
    """Compares the nulls and the known values of two typed columns of the same kind."""
    compare = _numbers if kind == "number" else _categories
    return replace(compare(training, month, limits), null_p_value=_null_p_value(training, month))


def _numbers(training: pd.Series, month: pd.Series, limits: Limits) -> Shift:
    from scipy.stats import ks_2samp  # a second to import

    before, now = (_sorted_known(values) for values in (training, month))
    found = Shift(
        SampleSummary(known=len(before), null_share=_null_share(training), mean=_mean(before)),
        SampleSummary(known=len(now), null_share=_null_share(month), mean=_mean(now)),
    )
    if not len(before) or not len(now):
        return found
    found = _with_spread(found, before, now, limits)
    # scipy's default is exact up to 10,000 rows, where it takes seconds.
    exact = max(len(before), len(now)) <= MAX_EXACT_ROWS
    test = ks_2samp(before, now, method="exact" if exact else "asymp")
    edges = np.unique(np.quantile(before, np.arange(1, PSI_BINS) / PSI_BINS))
    counts = np.array(
        [
            np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
            for known in (before, now)
        ]
    )
    distance = float(test.statistic)
    return replace(
        found,
        statistic=distance,
        p_value=float(test.pvalue),
        effect=distance,
        psi=_psi(counts),
    )


def _with_spread(found: Shift, before: Floats, now: Floats, limits: Limits) -> Shift:
    """Adds the spread of two sorted samples, and its change with a p-value."""
    from scipy.stats import levene  # a second to import

    both = np.concatenate([before, now])
    low, high = np.quantile(both, SPREAD_QUANTILES, method="inverted_cdf")
    before, now = np.clip(before, low, high), np.clip(now, low, high)
    spreads = _spread(before), _spread(now)
    largest = max(spreads)
    p_value = None
    if largest and min(len(before), len(now)) >= limits.min_spread_values:
        with np.errstate(divide="ignore", invalid="ignore"):
            p_value = finite(float(levene(before, now, center="median").pvalue))
    return replace(
        found,
        training=found.training.model_copy(update={"spread": spreads[0]}),
        month=found.month.model_copy(update={"spread": spreads[1]}),
        spread_change=(spreads[1] - spreads[0]) / largest if largest else 0.0,
        spread_p_value=p_value,
    )


def _spread(known: Floats) -> float:
    """Standard deviation of sorted values; exactly 0 where all are the same."""
    return float(known.std()) if known[0] < known[-1] else 0.0


def _categories(training: pd.Series, month: pd.Series, limits: Limits) -> Shift:
    from scipy.stats import chi2_contingency  # a second to import

    before, now = (_counts(values) for values in (training, month))
    names = before.index.union(now.index, sort=False)
    counts = np.array(
        [sample.reindex(names, fill_value=0) for sample in (before, now)], dtype=np.float64
    )
    vanished = _vanished(counts, limits)
    unseen = _vanished(counts[::-1], limits) | (counts[0] == 0)
    found = Shift(
        SampleSummary(known=int(before.sum()), null_share=_null_share(training), top=_top(before)),
        SampleSummary(known=int(now.sum()), null_share=_null_share(month), top=_top(now)),
        unseen_share=float(counts[1][unseen].sum() / max(len(month), 1)),
        unseen=_most_frequent(names, counts[1] * unseen),
        vanished_share=float(counts[0][vanished].sum() / max(len(training), 1)),
        vanished=_most_frequent(names, counts[0] * vanished),
    )
    if before.empty or now.empty:
        return found
    test = chi2_contingency(counts, correction=False)
    return replace(
        found,
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        effect=float(np.abs(np.diff(_shares(counts), axis=0)).sum() / 2),
        psi=_psi(counts),
    )


def _vanished(counts: Floats, limits: Limits) -> Bools:
    """Marks the categories of the first sample that the second one lacks, beyond chance.

    Given the rows of a category in both samples, those in the second one are binomial if its rate
    is the same in both (Przyborowski and Wilenski, 1940). The p-values are corrected for the number
    of categories (Bonferroni).

    Args:
        counts: Known rows of each sample by category, (2, categories).
    """
    from scipy.stats import binom  # a second to import

    rows = counts.sum(axis=1, keepdims=True)
    if not rows.all():
        return np.zeros(counts.shape[1], dtype=np.bool_)
    shares = counts / rows
    p_values = binom.cdf(counts[1], counts.sum(axis=0), float(rows[1, 0] / rows.sum()))
    few = shares[1] <= limits.max_vanished_remainder * shares[0]
    marked: Bools = few & (p_values * counts.shape[1] <= limits.max_drift_p_value)
    return marked


def _most_frequent(names: pd.Index, counts: Floats) -> tuple[str, ...]:
    """At most `MAX_NAMES` names with rows, most frequent first."""
    order = np.argsort(-counts, kind="stable")[:MAX_NAMES]
    return tuple(names[order[counts[order] > 0]])


def _null_p_value(training: pd.Series, month: pd.Series) -> float | None:
    from scipy.stats import fisher_exact  # a second to import

    nulls = [int(values.isna().sum()) for values in (training, month)]
    if not any(nulls) or training.empty or month.empty:
        return None
    known = [len(values) - count for values, count in zip((training, month), nulls, strict=True)]
    return float(fisher_exact(np.array([nulls, known])).pvalue)


def _sorted_known(values: pd.Series) -> Floats:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known: Floats = np.sort(numbers[~np.isnan(numbers)])
    return known


def _counts(values: pd.Series) -> pd.Series:
    """Number of rows by known value (as text), most frequent first."""
    counts = values.value_counts().astype(np.int64)
    counts.index = pd.Index([str(value) for value in counts.index], dtype=object)
    return counts.sort_values(ascending=False, kind="stable")


def _mean(known: Floats) -> float | None:
    return float(known.mean()) if len(known) else None


def _top(counts: pd.Series) -> tuple[Share, ...]:
    shares = (counts / counts.sum()).head(TOP_VALUES)
    return tuple(Share(value=str(value), share=float(share)) for value, share in shares.items())


def _null_share(values: pd.Series) -> float | None:
    return float(values.isna().mean()) if len(values) else None


def _shares(counts: NDArray[Any]) -> Floats:
    """Counts (2, bins) as shares of each sample."""
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _psi(counts: NDArray[Any]) -> float:
    """Population stability index of counts (2, bins); Siddiqi, "Credit Risk Scorecards" (2006)."""
    p, q = np.maximum(_shares(counts), PSI_FLOOR)
    return float(((q - p) * np.log(q / p)).sum())
