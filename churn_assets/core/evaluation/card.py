"""Conversion of evaluation results to the fields of the model card."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from churn_assets.contracts.card import Estimate, ScoreDistribution
from churn_assets.core.evaluation.metrics import Interval

DECILES = np.arange(1, 10) / 10


def estimates(metrics: Mapping[str, Interval]) -> dict[str, Estimate]:
    """Converts the metrics of a report to the estimates of the card."""
    return {
        name: Estimate(value=one.value, low=one.low, high=one.high) for name, one in metrics.items()
    }


def score_distribution(probabilities: ArrayLike) -> ScoreDistribution:
    """Returns the distribution of probabilities over bins between their deciles.

    Equal probabilities share a bin, so that with ties there are fewer bins, none of them empty.

    Args:
        probabilities: Probabilities of at least one row, (n,) in [0, 1].

    Raises:
        ValueError: There are no rows.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not len(p):
        raise ValueError("there are no probabilities to divide into bins")
    found = np.unique(np.quantile(p, DECILES, method="inverted_cdf"))
    # An edge is in the bin above it: at the lowest probability the bin below would be empty.
    edges = found[(found > p.min()) & (found < 1)]
    counts = np.bincount(np.searchsorted(edges, p, side="right"), minlength=len(edges) + 1)
    return ScoreDistribution(edges=tuple(edges.tolist()), shares=tuple((counts / len(p)).tolist()))
