"""The simple baseline: the churn rate by the best single column."""

import numpy as np
import pandas as pd
import pytest

from churn_assets.contracts.loading import load_contract
from churn_assets.core.modelling.baseline import Baseline, fit_baseline
from churn_assets_tests.core.typed_rows import TEXT, typed_rows, with_labels

CONTRACT = load_contract("telecom")


def labelled_by_category() -> pd.DataFrame:
    frame = typed_rows(CONTRACT, 2000)
    monthly = (frame["contract_type"] == "Month-to-month").to_numpy(bool)
    labels = np.random.default_rng(1).random(2000) < np.where(monthly, 0.6, 0.1)
    return frame.assign(churned=pd.array(labels, dtype="boolean"))


def test_the_most_predictive_number_is_found() -> None:
    frame, hazard = with_labels(typed_rows(CONTRACT, 4000), CONTRACT, "avg_monthly_charges")
    baseline = fit_baseline(frame, CONTRACT)
    assert baseline.feature == "avg_monthly_charges"
    assert np.abs(baseline.predict(frame) - hazard).mean() < 0.05


def test_the_most_predictive_category_is_found() -> None:
    frame = labelled_by_category()
    baseline = fit_baseline(frame, CONTRACT)
    assert baseline.feature == "contract_type"
    rates = frame.groupby("contract_type")["churned"].mean()
    for value, rate in rates.items():
        assert baseline.rates[str(value)] == pytest.approx(float(rate), abs=0.03)


def test_a_flag_can_be_the_most_predictive_input() -> None:
    contract = load_contract("ibm_telco")
    frame = typed_rows(contract, 1000)
    frame = frame.assign(churned=frame["partner"])
    assert fit_baseline(frame, contract).feature == "partner"


def test_nulls_and_unseen_categories_get_a_rate() -> None:
    frame = labelled_by_category()
    baseline = fit_baseline(frame, CONTRACT)
    values = pd.Series(["Monthly", None, "One year"], dtype=TEXT)
    found = baseline.predict(pd.DataFrame({"contract_type": values}))
    assert found[:2].tolist() == [baseline.overall] * 2
    assert found[2] == baseline.rates["One year"]


def test_null_numbers_get_the_overall_rate() -> None:
    frame, _ = with_labels(typed_rows(CONTRACT, 1000), CONTRACT, "avg_call_minutes")
    frame.loc[:99, "avg_call_minutes"] = np.nan
    baseline = fit_baseline(frame, CONTRACT)
    assert baseline.feature == "avg_call_minutes"
    assert set(baseline.predict(frame)[:100]) == {baseline.overall}


@pytest.mark.parametrize("label", [True, False])
def test_probabilities_are_never_zero_or_one(label: bool) -> None:
    frame = typed_rows(CONTRACT, 50)
    frame = frame.assign(churned=pd.array([label] * 50, dtype="boolean"))
    found = fit_baseline(frame, CONTRACT).predict(frame)
    assert found.dtype == np.float64
    assert ((found > 0) & (found < 1)).all()


def test_columns_of_nulls_only_do_no_harm() -> None:
    frame = labelled_by_category()
    frame["avg_call_minutes"] = np.nan
    frame["location"] = pd.Series([None] * len(frame), dtype=TEXT)
    assert fit_baseline(frame, CONTRACT).feature == "contract_type"


def test_baseline_round_trips_through_json() -> None:
    frame = labelled_by_category()
    baseline = fit_baseline(frame, CONTRACT)
    read = Baseline.model_validate_json(baseline.model_dump_json())
    assert (read.predict(frame) == baseline.predict(frame)).all()


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no training rows"):
        fit_baseline(labelled_by_category().iloc[:0], CONTRACT)
