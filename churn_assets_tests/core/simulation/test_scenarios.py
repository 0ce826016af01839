"""Spoiled rows have known faults and the requested share, and nothing else changes."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.contract import NUMBER_LIMIT, TEXT_LIMIT, Column
from churn_assets.contracts.loading import load_contract
from churn_assets.core.simulation import scenarios
from churn_assets.core.simulation.scenarios import FAULTS, delivered, spoil

CONTRACT = load_contract("telecom")
ROW = {
    "customer_id": "C00000001", "age": 40, "gender": "Male", "location": "Easton",
    "contract_type": "One year", "payment_method": "Credit card", "avg_data_usage": 12.5,
    "avg_call_minutes": 100.0, "usage_days": 20, "avg_monthly_charges": 45.9, "late_payments": 1,
    "tenure": 0,
}  # fmt: skip


def rows(count: int) -> pd.DataFrame:
    frame = pd.DataFrame([ROW] * count, columns=list(ROW))
    return frame.assign(customer_id=[f"C{number:08}" for number in range(1, count + 1)])


def honours(value: object, column: Column) -> bool:
    """Whether a cell honours its column under strict parsing: no fault may pass as a value."""
    text = str(value).strip()
    if column.kind != "number":
        listed = column.values is None or text in column.values
        return listed and 0 < len(text) <= TEXT_LIMIT
    try:
        number = float(text)
    except ValueError:
        return False
    low = -math.inf if column.ge is None else column.ge
    high = math.inf if column.le is None else column.le
    return low <= number <= high and abs(number) <= NUMBER_LIMIT


def is_bad(frame: pd.DataFrame) -> pd.Series:
    """Returns a mask of rows with a cell that breaks the contract or with a repeated id."""
    cells = {
        column.name: frame[column.name].map(lambda value, c=column: honours(value, c))
        for column in CONTRACT.snapshot
    }
    return ~pd.DataFrame(cells).all(axis=1) | frame["customer_id"].duplicated(keep=False)


def test_a_clean_row_is_clean() -> None:
    assert not is_bad(rows(3)).any()


@pytest.mark.parametrize(
    "kind", range(len(FAULTS)), ids=[f"{i}-{name}" for i, (name, _) in enumerate(FAULTS)]
)
@pytest.mark.parametrize("seed", range(5))
def test_every_fault_breaks_the_contract(kind: int, seed: int) -> None:
    name, fault = FAULTS[kind]
    assert not honours(fault(ROW[name], np.random.default_rng(seed)), CONTRACT[name])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 60), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_spoiling_keeps_the_other_rows_their_order_and_the_argument(
    count: int, share: float, seed: int
) -> None:
    clean = rows(count)
    before = clean.copy(deep=True)
    spoiled = spoil(clean, share, np.random.default_rng(seed))
    pd.testing.assert_frame_equal(clean, before)
    pd.testing.assert_frame_equal(spoiled, spoil(clean, share, np.random.default_rng(seed)))
    good = spoiled[~is_bad(spoiled)]
    expected = clean.set_index("customer_id").loc[list(good["customer_id"])].reset_index()
    assert good.astype(object).reset_index(drop=True).equals(expected.astype(object)[list(ROW)])
    assert good["customer_id"].is_monotonic_increasing
    assert count <= len(spoiled) <= 2 * count
    assert list(spoiled.index) == list(range(len(spoiled)))


def test_share_0_spoils_no_row_and_share_1_every_row() -> None:
    clean = rows(500)
    pd.testing.assert_frame_equal(spoil(clean, 0.0, np.random.default_rng(0)), clean)
    assert is_bad(spoil(clean, 1.0, np.random.default_rng(0))).all()


def test_the_share_is_met_and_every_kind_of_fault_occurs() -> None:
    clean = rows(20_000)
    spoiled = spoil(clean, 0.06, np.random.default_rng(3))
    bad = is_bad(spoiled)
    assert spoiled.loc[bad, "customer_id"].replace("", None).nunique() > 1_000
    # A repeated row counts as one spoiled row and two bad rows.
    repeated = len(spoiled) - len(clean)
    assert (bad.sum() - repeated) / len(clean) == pytest.approx(0.06, abs=0.006)
    assert repeated == pytest.approx(0.06 * len(clean) / (len(FAULTS) + 1), rel=0.5)
    for name in {name for name, _ in FAULTS}:
        assert (spoiled[name].map(lambda v, c=CONTRACT[name]: not honours(v, c))).any()


def test_the_unit_bug_changes_only_data_usage() -> None:
    clean = rows(10)
    frame = delivered(clean, "unit_bug")
    assert frame["avg_data_usage"].tolist() == [12.5 * 1024] * 10
    pd.testing.assert_frame_equal(
        frame.drop(columns="avg_data_usage"), clean.drop(columns="avg_data_usage")
    )


def test_new_categories_are_a_lasting_trait_of_a_few() -> None:
    clean = rows(20_000)
    frame = delivered(clean, "new_category")
    moved = frame["location"] == scenarios.NEW_CITY
    switched = frame["payment_method"] == scenarios.WALLET
    assert moved.mean() == pytest.approx(0.08, abs=0.002)
    assert switched.mean() == pytest.approx(0.01, abs=0.001)
    assert (moved & switched).mean() == pytest.approx(0.0008, abs=0.0005)
    some = delivered(clean.iloc[500:600], "new_category")
    pd.testing.assert_frame_equal(some, frame.iloc[500:600])


@pytest.mark.parametrize("scenario", ["stable", "price_shock", "dirty"])
def test_other_scenarios_deliver_true_values(scenario: scenarios.Scenario) -> None:
    pd.testing.assert_frame_equal(delivered(rows(10), scenario), rows(10))


def test_only_a_price_shock_moves_prices_and_its_effect_fades() -> None:
    assert scenarios.price_factor("price_shock") == 1.3
    later = [scenarios.extra_log_odds("price_shock", month) for month in range(24)]
    assert later == sorted(later, reverse=True)
    assert later[0] > 0.5
    assert later[-1] < 0.05
    for scenario in ("stable", "unit_bug", "new_category", "dirty"):
        assert scenarios.price_factor(scenario) == 1.0
        assert scenarios.extra_log_odds(scenario, 0) == 0.0


def test_dirty_is_under_the_limit_on_quarantined_rows_and_above_the_usual() -> None:
    assert scenarios.faulty_share("stable", 0.003) == 0.003
    assert scenarios.faulty_share("dirty", 0.003) == 0.06
    assert scenarios.faulty_share("dirty", 0.2) == 0.2
