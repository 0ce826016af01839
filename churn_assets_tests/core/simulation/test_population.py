"""The simulated population is plausible and in a steady state, and is renewed every month."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import ks_2samp

from churn_assets.core.simulation import population
from churn_assets.core.simulation.population import (
    People,
    hazard,
    next_month,
    snapshot_columns,
    steady_state,
)

CATEGORIES = ("gender", "location", "contract_type", "payment_method")


@pytest.fixture(scope="module")
def people() -> People:
    return steady_state(20_000, 0)


def after(people: People, months: int) -> People:
    for month in range(months):
        rng = np.random.default_rng(month)
        left = rng.random(len(people["number"])) < hazard(snapshot_columns(people, 1.0))
        people = next_month(people, left, rng, rng)
    return people


def test_the_population_has_plausible_shares(people: People) -> None:
    frame = pd.DataFrame(snapshot_columns(people, 1.0))
    assert frame["location"].nunique() == len(population.CITIES)
    shares = frame["gender"].value_counts(normalize=True)
    assert shares[population.GENDERS.index("Other")] == pytest.approx(0.02, abs=0.005)
    assert frame["contract_type"].value_counts(normalize=True).min() > 0.15
    assert 10 < frame["avg_monthly_charges"].min() < frame["avg_monthly_charges"].max() < 300


def test_longer_contracts_have_a_lower_hazard(people: People) -> None:
    customers = snapshot_columns(people, 1.0)
    risk = pd.Series(hazard(customers)).groupby(customers["contract_type"]).mean()
    free, one_year, two_years = (risk[code] for code in range(len(population.CONTRACTS)))
    assert two_years < 0.015 < one_year < 0.05 < free


def test_the_population_is_in_its_steady_state(people: People) -> None:
    early, late = (pd.DataFrame(snapshot_columns(some, 1.0)) for some in (people, after(people, 8)))
    for name in early.columns.difference(CATEGORIES):
        assert ks_2samp(early[name].dropna(), late[name].dropna()).statistic < 0.03, name
    for name in CATEGORIES:
        shares = [frame[name].value_counts(normalize=True) for frame in (early, late)]
        assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.03, name


def test_prices_multiply_the_bill_and_nothing_else(people: People) -> None:
    usual, dear = (pd.DataFrame(snapshot_columns(people, prices)) for prices in (1.0, 2.0))
    bill = "avg_monthly_charges"
    np.testing.assert_allclose(dear[bill], 2 * usual[bill], atol=0.011)
    pd.testing.assert_frame_equal(dear.drop(columns=bill), usual.drop(columns=bill))


@settings(max_examples=20, deadline=None)
@given(extra=st.floats(-5, 5))
def test_extra_log_odds_are_added_for_everybody(people: People, extra: float) -> None:
    customers = snapshot_columns(people, 1.0)
    usual, moved = hazard(customers), hazard(customers, extra)
    assert ((usual > 0) & (usual < 1)).all()
    np.testing.assert_allclose(logit(moved), logit(usual) + extra, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(share=st.sampled_from([0.0, 0.1, 1.0]), count=st.integers(1, 50), seed=st.integers(0, 9))
def test_churned_customers_are_replaced_and_others_age(share: float, count: int, seed: int) -> None:
    before, rng = steady_state(count, seed), np.random.default_rng(seed)
    left = rng.random(count) < share
    later = next_month(before, left, rng, rng)
    numbers, retained = later["number"], int((~left).sum())
    assert len(numbers) == count
    assert (np.diff(numbers) > 0).all()
    assert list(numbers[:retained]) == list(before["number"][~left])
    assert (numbers[retained:] > before["number"].max()).all()
    assert (later["tenure"][:retained] == before["tenure"][~left] + 1).all()
    assert (later["age_months"][:retained] == before["age_months"][~left] + 1).all()
    assert (later["tenure"][retained:] == 0).all()
    assert (later["late_bills"][retained:] == 0).all()
