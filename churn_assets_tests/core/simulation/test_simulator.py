"""The simulated operator is deterministic, in a steady state, consistent and predictable."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from churn_assets.contracts.loading import load_contract
from churn_assets.core.simulation import population
from churn_assets.core.simulation.population import hazard
from churn_assets.core.simulation.scenarios import NEW_CITY, WALLET, Scenario
from churn_assets.core.simulation.simulator import Simulator

CONTRACT = load_contract("telecom")
MONTHS = [str(month) for month in pd.period_range("2024-01", "2025-06", freq="M")]
SCENARIOS = get_args(Scenario)
NUMBERS = [column.name for column in CONTRACT.features if column.kind == "number"]


@pytest.fixture(scope="module")
def stable() -> Simulator:
    """Returns an operator of 20,000 customers without faulty rows."""
    return Simulator(dirt=0.0)


def same(one: Simulator, other: Simulator, month: str) -> None:
    assert_frame_equal(one.snapshot(month), other.snapshot(month))
    assert_frame_equal(one.labels(month), other.labels(month))
    assert_series_equal(one.true_hazard(month), other.true_hazard(month))


@settings(max_examples=12, deadline=None)
@given(
    requested=st.lists(st.sampled_from(MONTHS), min_size=1, max_size=6),
    customers=st.integers(1, 200),
    seed=st.integers(0, 2**40),
    scenario=st.sampled_from(SCENARIOS),
    begin=st.sampled_from([None, "2023-06", "2024-05"]),
)
def test_the_order_of_calls_does_not_matter(
    requested: list[str], customers: int, seed: int, scenario: Scenario, begin: str | None
) -> None:
    def fresh() -> Simulator:
        return Simulator(customers, seed, scenario, begin)

    used = fresh()
    for month in requested:
        used.labels(month)
    for month in {requested[0], requested[-1]}:
        same(used, fresh(), month)


def test_the_cache_is_bounded() -> None:
    operator = Simulator(customers=50)
    for month in [*MONTHS, *MONTHS[::-1], *MONTHS[::3]]:
        operator.labels(month)
        assert len(operator._cache) <= 3


def test_a_caller_cannot_change_later_results() -> None:
    operator = Simulator(customers=50, dirt=0.0)
    frame, labels = operator.snapshot("2024-03"), operator.labels("2024-03")
    frame.loc[:, "tenure"] = 0
    labels.loc[:, "churned"] = True
    same(operator, Simulator(customers=50, dirt=0.0), "2024-03")


def results() -> str:
    operator = Simulator(customers=300, seed=4, scenario="dirty")
    frames = operator.snapshot("2024-04"), operator.labels("2024-04")
    return "".join(frame.to_csv() for frame in frames) + operator.true_hazard("2024-04").to_csv()


def test_results_are_the_same_in_every_process() -> None:
    program = [f"from {Simulator.__module__} import Simulator", inspect.getsource(results)]
    command = [sys.executable, "-c", "\n".join([*program, "print(end=results())"])]
    other = subprocess.run(command, capture_output=True, text=True, check=True)
    assert other.stdout == results()


def test_seeds_differ() -> None:
    one, other = Simulator(500, seed=0, dirt=0.0), Simulator(500, seed=1, dirt=0.0)
    assert not one.snapshot("2024-01").equals(other.snapshot("2024-01"))


def test_equality_and_hash_ignore_earlier_calls() -> None:
    used = Simulator(customers=50)
    used.labels("2024-02")
    assert used == Simulator(customers=50)
    assert hash(used) == hash(Simulator(customers=50))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_months_before_the_scenario_are_those_of_stable(scenario: Scenario) -> None:
    stable, moved = Simulator(2_000), Simulator(2_000, 0, scenario, "2024-04")
    same(stable, moved, "2024-01")
    same(stable, moved, "2024-03")
    assert scenario == "stable" or not stable.snapshot("2024-04").equals(moved.snapshot("2024-04"))


@pytest.mark.parametrize("scenario", ["unit_bug", "new_category", "dirty"])
def test_scenarios_of_the_delivery_keep_labels_and_hazard(scenario: Scenario) -> None:
    stable, moved = Simulator(2_000), Simulator(2_000, 0, scenario)
    assert_frame_equal(stable.labels("2024-05"), moved.labels("2024-05"))
    assert_series_equal(stable.true_hazard("2024-05"), moved.true_hazard("2024-05"))


def test_labels_agree_with_the_next_snapshot(stable: Simulator) -> None:
    for month, following in pairwise(MONTHS[:5]):
        before = stable.snapshot(month).set_index("customer_id")
        after = stable.snapshot(following).set_index("customer_id")
        labels = stable.labels(month).set_index("customer_id")["churned"]
        assert before.index.equals(labels.index)
        stayed = labels.index[~labels]
        assert not after.index.isin(labels.index[labels]).any()
        assert (after.loc[stayed, "tenure"] == before.loc[stayed, "tenure"] + 1).all()
        assert (after.loc[stayed, "age"] - before.loc[stayed, "age"]).isin([0, 1]).all()
        assert (after.loc[stayed, "gender"] == before.loc[stayed, "gender"]).all()
        new = after.index.difference(before.index)
        assert len(new) == labels.sum()
        assert (after.loc[new, ["tenure", "late_payments"]] == 0).all(axis=None)
        assert after["late_payments"].le(after["tenure"]).all()


def test_no_id_is_ever_used_for_two_customers() -> None:
    operator = Simulator(customers=300, dirt=0.0)
    gone: set[str] = set()
    for month in MONTHS:
        labels = operator.labels(month)
        ids = set(labels["customer_id"])
        assert len(ids) == 300
        assert not ids & gone
        assert labels["customer_id"].is_monotonic_increasing
        assert labels["customer_id"].str.fullmatch(r"C\d{8}").all()
        gone |= set(labels.loc[labels["churned"], "customer_id"])
    assert gone


def test_labels_are_drawn_from_the_hazard(stable: Simulator) -> None:
    true = np.concatenate([stable.true_hazard(month) for month in MONTHS[::3]])
    churned = np.concatenate([stable.labels(month)["churned"] for month in MONTHS[::3]])
    assert 0.04 < true.mean() < 0.05
    # Calibrated as a whole and in every tenth of risk, to four standard errors.
    tenth = pd.qcut(true, 10, labels=False)
    for mask in [np.ones(len(true), dtype=bool), *(tenth == k for k in range(10))]:
        error = np.sqrt((true[mask] * (1 - true[mask])).sum()) / mask.sum()
        assert abs(true[mask].mean() - churned[mask].mean()) < 4 * error
    assert 0.80 < roc_auc_score(churned, true) < 0.84


def test_the_hazard_is_a_function_of_the_snapshot_alone(stable: Simulator) -> None:
    frame = stable.snapshot("2024-06")
    columns = {name: frame[name].to_numpy() for name in NUMBERS}
    columns["contract_type"] = codes(frame["contract_type"], population.CONTRACTS)
    columns["payment_method"] = codes(frame["payment_method"], population.PAYMENTS)
    np.testing.assert_allclose(hazard(columns), stable.true_hazard("2024-06"), rtol=1e-12)
    assert "hazard" not in frame


def codes(texts: pd.Series, words: tuple[str, ...]) -> np.ndarray:
    return np.array([words.index(text) for text in texts])


def test_clean_rows_honour_the_contract(stable: Simulator) -> None:
    for month in MONTHS[::5]:
        frame = stable.snapshot(month)
        assert list(frame) == [column.name for column in CONTRACT.snapshot]
        assert len(frame) == 20_000
        assert frame["customer_id"].is_unique
        for column in CONTRACT.snapshot:
            values = frame[column.name]
            assert column.nullable or values.notna().all()
            assert column.ge is None or (values.dropna() >= column.ge).all()
            assert column.le is None or (values.dropna() <= column.le).all()
            assert column.values is None or values.isin(column.values).all()
            expected = "int64" if column.whole else "float64"
            assert values.dtype == (expected if column.kind == "number" else "string[pyarrow]")
        assert 0.005 < frame["avg_call_minutes"].isna().mean() < 0.015


@pytest.mark.parametrize(
    ("scenario", "low", "high"), [("stable", 0.001, 0.006), ("dirty", 0.05, 0.07)]
)
def test_a_share_of_rows_is_spoiled(scenario: Scenario, low: float, high: float) -> None:
    clean = Simulator(dirt=0.0).snapshot("2024-02")
    frame = Simulator(scenario=scenario).snapshot("2024-02")
    kept = frame.drop_duplicates("customer_id", keep=False).astype(object)
    whole = kept.merge(clean.astype(object), how="inner")
    assert low < 1 - len(whole) / len(clean) < high
    assert len(clean) <= len(frame) < 1.01 * len(clean)


def test_a_price_shock_moves_bills_and_drives_customers_away() -> None:
    calm = Simulator(10_000, dirt=0.0)
    shock = Simulator(10_000, 0, "price_shock", "2024-05", dirt=0.0)
    name = "avg_monthly_charges"
    bills = [operator.snapshot("2024-05")[name] for operator in (calm, shock)]
    np.testing.assert_allclose(bills[1], 1.3 * bills[0], atol=0.011)
    assert ks_2samp(*bills).statistic > 0.15
    left = [operator.labels("2024-05")["churned"].mean() for operator in (calm, shock)]
    assert left[1] > 1.7 * left[0]
    assert shock.true_hazard("2024-04").mean() == calm.true_hazard("2024-04").mean()
    # The bills do not explain all: a model that knows the formula still predicts too little.
    frame = shock.snapshot("2024-05")
    columns = {n: frame[n].to_numpy() for n in NUMBERS} | {
        "contract_type": codes(frame["contract_type"], population.CONTRACTS),
        "payment_method": codes(frame["payment_method"], population.PAYMENTS),
    }
    assert shock.true_hazard("2024-05").mean() > 1.4 * hazard(columns).mean()


def test_the_effect_of_a_price_shock_fades() -> None:
    shock = Simulator(5_000, 0, "price_shock", "2024-05", dirt=0.0)
    assert shock.true_hazard("2024-05").mean() > shock.true_hazard("2025-06").mean() + 0.02


def test_a_unit_bug_breaks_the_limit_of_most_rows() -> None:
    truth = Simulator(2_000, dirt=0.0).snapshot("2024-03")["avg_data_usage"]
    delivered = Simulator(2_000, 0, "unit_bug", dirt=0.0).snapshot("2024-03")["avg_data_usage"]
    np.testing.assert_array_equal(delivered, 1024 * truth)
    assert (delivered > CONTRACT["avg_data_usage"].le).mean() > 0.9


def test_new_categories_appear_from_their_month() -> None:
    operator = Simulator(10_000, 0, "new_category", "2024-03", dirt=0.0)
    before, after = operator.snapshot("2024-02"), operator.snapshot("2024-03")
    assert not (before["location"] == NEW_CITY).any()
    assert not (before["payment_method"] == WALLET).any()
    assert (after["location"] == NEW_CITY).mean() == pytest.approx(0.08, abs=0.005)
    assert (after["payment_method"] == WALLET).mean() == pytest.approx(0.01, abs=0.003)
    assert WALLET not in (CONTRACT["payment_method"].values or ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Simulator(customers=0), "customers is 0: must be at least 1"),
        (lambda: Simulator(seed=-1), "seed is -1: must be at least 0"),
        (lambda: Simulator(scenario="storm"), "scenario is 'storm': must be one of stable"),  # type: ignore[arg-type]
        (lambda: Simulator(dirt=1.1), "dirt is 1.1: must be a share"),
        (lambda: Simulator(since="2024"), "month is '2024': must look like 2024-01"),
        (lambda: Simulator(scenario_month="2024-13"), "month is '2024-13'"),
        (lambda: Simulator(10).snapshot("2023-12"), "month 2023-12 is before 2024-01"),
        (lambda: Simulator(10).labels("2023-12"), "month 2023-12 is before 2024-01"),
        (lambda: Simulator(10).true_hazard("03/2024"), "month is '03/2024'"),
    ],
)
def test_invalid_settings_and_months_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_operator_may_have_a_single_customer() -> None:
    frame = Simulator(customers=1, dirt=0.0).snapshot("2025-06")
    assert len(frame) == 1


def test_the_first_month_can_be_moved() -> None:
    same_world = Simulator(100, since="2020-01", dirt=0.0), Simulator(100, dirt=0.0)
    assert_frame_equal(same_world[0].snapshot("2020-03"), same_world[1].snapshot("2024-03"))
