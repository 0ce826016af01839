import numpy as np
import pandas as pd
import pytest

from churn_assets.contracts.loading import SHIPPED_NAMES, load_contract
from churn_assets.core.data.features import derive_features, model_columns, model_frame, requests
from churn_assets_tests.core.typed_rows import typed_rows


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_the_model_sees_its_inputs_and_nothing_else(name: str) -> None:
    contract = load_contract(name)
    frame = typed_rows(contract, 20).assign(churned=True, other=1)
    inputs = model_frame(frame, contract)
    assert tuple(inputs) == contract.model_inputs
    assert contract.label.name not in inputs
    assert contract.id.name not in inputs
    columns = model_columns(frame, contract)
    assert {values.dtype.kind for values in columns.values()} <= {"f", "O"}


def test_nulls_become_nan_in_numbers_and_categories() -> None:
    contract = load_contract("telecom")
    frame = typed_rows(contract, 3)
    frame.loc[0, ["age", "avg_data_usage"]] = pd.NA
    frame.loc[0, "location"] = pd.NA
    columns = model_columns(frame, contract)
    assert np.isnan(columns["age"][0])
    assert np.isnan(columns["avg_data_usage"][0])
    assert isinstance(columns["location"][0], float)
    assert np.isnan(columns["location"][0])


def test_a_derived_feature_of_a_null_is_null() -> None:
    contract = load_contract("telecom")
    frame = typed_rows(contract, 2)
    frame.loc[0, "usage_days"] = pd.NA
    derived = derive_features(frame, contract)
    assert np.isnan(derived["idle_share"][0])
    assert derived["idle_share"][1] == 1 - frame["usage_days"][1] / 31


def test_rows_become_request_bodies_of_plain_values() -> None:
    contract = load_contract("ibm_telco")
    frame = typed_rows(contract, 2).assign(customer_id=["1", "2"])
    frame.loc[0, "total_charges"] = np.nan
    first, _ = requests(frame, contract)
    assert first["total_charges"] is None
    assert type(first["tenure"]) is int
    assert type(first["female"]) is bool
    assert list(first) == ["customer_id", *(column.name for column in contract.features)]
