"""What an evaluation leaves on the card of its model."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from churn_assets.contracts.card import Estimate, ScoreDistribution
from churn_assets.core.evaluation.metrics import Interval

DECILES = np.arange(1, 10) / 10


def estimates(metrics: Mapping[str, Interval]) -> dict[str, Estimate]:
    """The metrics of a report as the card has them."""
    return {
        name: Estimate(value=one.value, low=one.low, high=one.high) for name, one in metrics.items()
    }


def score_distribution(probabilities: ArrayLike) -> ScoreDistribution:
    """How probabilities spread, by their deciles.

    Equal probabilities share a bin, so that with ties there are fewer bins, none of them empty.

    Args:
        probabilities: of one row at least, (n,) in [0, 1].

    Raises:
        ValueError: there are no rows.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not len(p):
        raise ValueError("there are no probabilities to spread")
    found = np.unique(np.quantile(p, DECILES, method="inverted_cdf"))
    # An edge opens the bin above it: at the least probability it would leave none below.
    edges = found[(found > p.min()) & (found < 1)]
    counts = np.bincount(np.searchsorted(edges, p, side="right"), minlength=len(edges) + 1)
    return ScoreDistribution(edges=tuple(edges.tolist()), shares=tuple((counts / len(p)).tolist()))
