"""Fields of the model card: estimates of the report, and the score distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contracts.card import Estimate
from churn_assets.core.evaluation.card import estimates, score_distribution
from churn_assets.core.evaluation.metrics import Interval

PROBABILITIES = st.lists(
    st.one_of(st.sampled_from((0.0, 0.1, 0.25, 1.0)), st.floats(0, 1)), min_size=1, max_size=60
)


@given(PROBABILITIES)
def test_bins_are_within_the_probabilities_and_none_is_empty(probabilities: list[float]) -> None:
    found = score_distribution(probabilities)
    assert all(0 < edge < 1 for edge in found.edges)
    assert list(found.edges) == sorted(set(found.edges))
    assert all(share > 0 for share in found.shares)
    assert sum(found.shares) == pytest.approx(1)


@given(PROBABILITIES)
def test_stability_index_of_the_same_customers_is_zero(probabilities: list[float]) -> None:
    found = score_distribution(probabilities)
    bins = np.searchsorted(found.edges, probabilities, side="right")
    counts = np.bincount(bins, minlength=len(found.shares))
    assert found.stability_index(tuple(counts.tolist())) == pytest.approx(0, abs=1e-12)


def test_without_ties_each_bin_has_a_tenth() -> None:
    found = score_distribution(np.linspace(0.05, 0.95, 1000))
    assert len(found.edges) == 9
    assert found.shares == pytest.approx([0.1] * 10, abs=0.0011)


def test_ties_stay_together() -> None:
    found = score_distribution([0.1] * 50 + [0.2] * 30 + [0.7] * 20)
    assert found.edges == (0.2, 0.7)
    assert found.shares == (0.5, 0.3, 0.2)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_one_score_for_all_is_one_bin(probability: float) -> None:
    found = score_distribution([probability] * 5)
    assert (found.edges, found.shares) == ((), (1.0,))


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no probabilities"):
        score_distribution([])


def test_undefined_metrics_stay_undefined() -> None:
    found = estimates(
        {
            "accuracy": Interval(value=0.9, low=0.8, high=0.95),
            "roc_auc": Interval(value=float("nan"), low=None, high=None),
        }
    )
    assert found == {
        "accuracy": Estimate(value=0.9, low=0.8, high=0.95),
        "roc_auc": Estimate(value=None),
    }
