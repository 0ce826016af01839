"""The model card: stability index of served probabilities, validation, and risk categories."""

from datetime import UTC, datetime
from math import log, nan, nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_assets.contracts.card import PSI_FLOOR, Estimate, ModelCard, ScoreDistribution

QUARTERS = ScoreDistribution(edges=(0.1, 0.2, 0.5), shares=(0.25, 0.25, 0.25, 0.25))

COUNTS = st.integers(1, 12).flatmap(
    lambda bins: st.tuples(
        *(
            st.lists(st.integers(0, 10_000), min_size=bins, max_size=bins).filter(any)
            for _ in range(2)
        )
    )
)


def distribution(counts: list[int]) -> ScoreDistribution:
    """Returns a score distribution with these counts of rows in its bins."""
    bins = len(counts)
    return ScoreDistribution(
        edges=tuple(number / bins for number in range(1, bins)),
        shares=tuple(count / sum(counts) for count in counts),
    )


def card(**changes: Any) -> ModelCard:
    return ModelCard(
        **{
            "name": "churn_telecom",
            "version": "3",
            "chosen": "boosting",
            "contract_name": "telecom",
            "contract_version": "1.0.0",
            "contract_fingerprint": "0123456789ab",
            "threshold": 0.3,
            "built_at": datetime(2026, 7, 1, tzinfo=UTC),
            "mlflow_run_id": "run",
            "dagster_run_id": "",
            "table_versions": {"training_set": 3},
            "test_months": ("2026-05",),
            "test_rows": 100,
            "metrics": {"accuracy": Estimate(value=0.9, low=0.85, high=0.95)},
            "scores": QUARTERS,
        }
        | changes
    )


def index_by_hand(served: list[float], tested: list[float]) -> float:
    """Returns Siddiqi's sum, computed bin by bin."""
    total = 0.0
    for actual, expected in zip(served, tested, strict=True):
        actual, expected = max(actual, PSI_FLOOR), max(expected, PSI_FLOOR)
        total += (actual - expected) * log(actual / expected)
    return total


def test_index_matches_the_published_formula() -> None:
    # 0.4, 0.3, 0.2, 0.1 against four quarters, by hand.
    expected = 0.15 * log(1.6) + 0.05 * log(1.2) - 0.05 * log(0.8) - 0.15 * log(0.4)
    assert QUARTERS.stability_index((40, 30, 20, 10)) == pytest.approx(expected, rel=1e-12)


def test_an_empty_bin_counts_as_the_floor() -> None:
    tested = ScoreDistribution(edges=(0.5,), shares=(1.0, 0.0))
    expected = 2 * (1 - PSI_FLOOR) * log(1 / PSI_FLOOR)
    assert tested.stability_index((0, 7)) == pytest.approx(expected, rel=1e-12)


@given(COUNTS)
def test_index_follows_an_independent_calculation(both: tuple[list[int], list[int]]) -> None:
    served, tested = both
    shares = [[count / sum(counts) for count in counts] for counts in both]
    found = distribution(tested).stability_index(tuple(served))
    assert found == pytest.approx(index_by_hand(*shares), rel=1e-9, abs=1e-12)


@given(COUNTS)
def test_index_is_never_negative_and_the_same_both_ways(
    both: tuple[list[int], list[int]],
) -> None:
    one, other = both
    found = distribution(one).stability_index(tuple(other))
    assert found >= 0
    assert found == pytest.approx(distribution(other).stability_index(tuple(one)), abs=1e-12)


@given(COUNTS, st.integers(1, 1000))
def test_index_depends_on_shares_not_on_the_number_served(
    both: tuple[list[int], list[int]], times: int
) -> None:
    served, tested = both
    found = distribution(tested)
    more = tuple(times * count for count in served)
    assert found.stability_index(more) == pytest.approx(
        found.stability_index(tuple(served)), abs=1e-12
    )


@given(COUNTS)
def test_index_of_identical_shares_is_zero(both: tuple[list[int], list[int]]) -> None:
    assert distribution(both[0]).stability_index(tuple(both[0])) == 0


@pytest.mark.parametrize("counts", [(), (1,), (1, 1, 1), (1, 1, 1, 1, 1), (0, 0, 0, 0)])
def test_counts_with_wrong_bins_or_without_customers_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counts must have 4 bins and at least one customer"):
        QUARTERS.stability_index(counts)


@pytest.mark.parametrize(
    ("edges", "shares", "rule"),
    [
        ((0.5,), (1.0,), "1 edges need 2 shares"),
        ((0.5,), (0.5, 0.25, 0.25), "1 edges need 2 shares"),
        ((), (), "0 edges need 1 shares"),
        ((0.5, 0.5), (0.2, 0.3, 0.5), "edges must increase"),
        ((0.5, 0.4), (0.2, 0.3, 0.5), "edges must increase"),
        ((0.0,), (0.5, 0.5), "between 0 and 1"),
        ((1.0,), (0.5, 0.5), "between 0 and 1"),
        ((nan,), (0.5, 0.5), "edges must increase"),
        ((0.5,), (-0.1, 1.1), "must not be negative"),
        ((0.5,), (0.5, 0.49), "must sum to 1"),
        ((0.5,), (0.5, 0.51), "must sum to 1"),
        ((0.5,), (0.5, nan), "must sum to 1"),
    ],
)
def test_edges_and_shares_must_fit(
    edges: tuple[float, ...], shares: tuple[float, ...], rule: str
) -> None:
    with pytest.raises(ValidationError, match=rule):
        ScoreDistribution(edges=edges, shares=shares)


@pytest.mark.parametrize(
    ("edges", "shares"),
    [
        ((), (1.0,)),
        ((nextafter(0, 1), nextafter(1, 0)), (0.0, 1.0, 0.0)),
        ((0.5,), (1 / 3, 2 / 3)),
        (tuple(number / 10 for number in range(1, 10)), (0.1,) * 10),
    ],
)
def test_valid_edges_and_shares_are_accepted(
    edges: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    found = ScoreDistribution(edges=edges, shares=shares)
    assert (found.edges, found.shares) == (edges, shares)


@pytest.mark.parametrize(
    ("probability", "risk"),
    [
        (0.0, "low"),
        (nextafter(0.15, 0), "low"),
        (0.15, "medium"),
        (nextafter(0.15, 1), "medium"),
        (nextafter(0.3, 0), "medium"),
        (0.3, "high"),
        (nextafter(0.3, 1), "high"),
        (1.0, "high"),
    ],
)
def test_high_risk_starts_at_the_threshold_and_medium_at_its_half(
    probability: float, risk: str
) -> None:
    assert card(threshold=0.3).risk_category(probability) == risk


def test_where_an_offer_always_pays_everyone_is_at_high_risk() -> None:
    assert card(threshold=0.0).risk_category(0.0) == "high"


def test_where_an_offer_never_pays_only_certainty_is_high() -> None:
    found = card(threshold=1.0)
    assert [found.risk_category(p) for p in (nextafter(1, 0), 1.0)] == ["medium", "high"]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_risk_rises_with_the_probability(threshold: float, one: float, other: float) -> None:
    order = ("low", "medium", "high")
    found = card(threshold=threshold)
    low, high = (order.index(found.risk_category(p)) for p in sorted((one, other)))
    assert low <= high


def test_card_round_trips_through_json() -> None:
    written = card(metrics={"accuracy": Estimate(value=0.9), "roc_auc": Estimate(value=None)})
    assert ModelCard.model_validate_json(written.model_dump_json()) == written


@pytest.mark.parametrize(
    "told", [{"threshold": -0.01}, {"threshold": 1.01}, {"test_rows": 0}, {"surprise": 1}]
)
def test_invalid_card_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        card(**told)
