"""Distances between two samples of one feature."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_assets.contracts.contract import Frozen, Kind
from churn_assets.core.evaluation.metrics import Floats
from churn_assets.core.verdict import Finite

PSI_BINS = 10
PSI_FLOOR = 1e-4
"""Share that replaces an empty bin, for the logarithm in the stability index."""
MAX_EXACT_ROWS = 100
"""Rows per sample up to which the Kolmogorov-Smirnov p-value is exact, not asymptotic."""
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
        top: Most frequent known values of a category or flag.
    """

    known: int
    null_share: Finite
    mean: Finite = None
    top: tuple[Share, ...] = ()


@dataclass(frozen=True)
class Shift:
    """Both samples of a feature and their distance; None where a sample has no known values.

    Attributes:
        statistic: Test statistic: the Kolmogorov-Smirnov distance, or chi squared.
        effect: Distance from 0 (the same) to 1 (nothing in common): the Kolmogorov-Smirnov distance
            of numbers, the total variation distance of categories and flags.
        psi: Population stability index over deciles of training, or categories.
        unseen_share: Share of the month's rows whose category is not in the training data.
        unseen: Those categories, at most 10, most frequent first.
    """

    training: SampleSummary
    month: SampleSummary
    statistic: float | None = None
    p_value: float | None = None
    effect: float | None = None
    psi: float | None = None
    unseen_share: float = 0.0
    unseen: tuple[str, ...] = ()


def measure_shift(training: pd.Series, month: pd.Series, kind: Kind) -> Shift:
    """Compares the known values of two typed columns of the same kind."""
    return _numbers(training, month) if kind == "number" else _categories(training, month)


def _numbers(training: pd.Series, month: pd.Series) -> Shift:
    from scipy.stats import ks_2samp  # a second to import

    before, now = (_sorted_known(values) for values in (training, month))
    found = Shift(
        SampleSummary(known=len(before), null_share=_null_share(training), mean=_mean(before)),
        SampleSummary(known=len(now), null_share=_null_share(month), mean=_mean(now)),
    )
    if not len(before) or not len(now):
        return found
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


def _categories(training: pd.Series, month: pd.Series) -> Shift:
    from scipy.stats import chi2_contingency  # a second to import

    before, now = (_counts(values) for values in (training, month))
    unseen = now[~now.index.isin(before.index)]
    found = Shift(
        SampleSummary(known=int(before.sum()), null_share=_null_share(training), top=_top(before)),
        SampleSummary(known=int(now.sum()), null_share=_null_share(month), top=_top(now)),
        unseen_share=float(unseen.sum() / max(len(month), 1)),
        unseen=tuple(unseen.index[:MAX_NAMES]),
    )
    if before.empty or now.empty:
        return found
    counts = pd.concat([before, now], axis=1).fillna(0).to_numpy(dtype=np.float64).T
    test = chi2_contingency(counts, correction=False)
    return replace(
        found,
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        effect=float(np.abs(np.diff(_shares(counts), axis=0)).sum() / 2),
        psi=_psi(counts),
    )


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
