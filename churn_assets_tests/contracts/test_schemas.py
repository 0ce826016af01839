import pandas as pd
import pandera.pandas as pa
import pytest

from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.schemas import dtypes, feature_schema, label_schema, raw_schema, typed


def test_dtypes_cover_every_column_of_the_features() -> None:
    contract = load_contract("telecom")
    assert set(feature_schema(contract).columns) <= set(dtypes(contract))


def test_dtypes_lost_in_storage_are_imposed_again() -> None:
    contract = load_contract("telecom")
    lost = pd.DataFrame({"tenure": [1.0, 2.0], "gender": ["Male", None], "other": [1, 2]})
    back = typed(lost, contract)
    assert back["tenure"].dtype == "Int64"
    assert back["gender"].dtype == pd.StringDtype("pyarrow")
    assert back["other"].dtype == "int64"


def test_a_raw_snapshot_must_have_every_column() -> None:
    contract = load_contract("telecom")
    with pytest.raises(pa.errors.SchemaError, match="not in dataframe"):
        raw_schema(contract).validate(pd.DataFrame({"customer_id": ["a"]}, dtype="string[pyarrow]"))


def test_label_ids_are_unique() -> None:
    contract = load_contract("telecom")
    twice = pd.DataFrame({"customer_id": ["a", "a"], "churned": [True, False], "month": "2026-01"})
    with pytest.raises(pa.errors.SchemaError, match="duplicate"):
        label_schema(contract).validate(typed(twice, contract))
