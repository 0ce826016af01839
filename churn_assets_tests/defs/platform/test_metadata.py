import numpy as np
import pandas as pd

from churn_assets.contracts.loading import load_contract
from churn_assets.defs.platform.metadata import SHOWN_ROWS, column_schema, table

TELECOM = load_contract("telecom")


def columns(**options: bool) -> dict[str, object]:
    schema = column_schema(TELECOM, TELECOM.snapshot, **options)["dagster/column_schema"]
    return {column.name: column for column in schema.columns}


def test_columns_come_from_the_contract() -> None:
    shown = columns(derived=True)
    assert next(iter(shown)) == "customer_id"
    assert list(shown)[-1] == "month"
    tenure, age = shown["tenure"], shown["age"]
    assert (tenure.type, age.type, shown["avg_data_usage"].type) == ("int", "int", "float")
    assert age.description == "Age (full years); whole number from 18 up to 110"
    assert set(age.tags) == {"personal", "sensitive"}
    assert shown["avg_call_minutes"].constraints.nullable
    assert set(shown["idle_share"].tags) == {"derived"}


def test_columns_of_a_table_as_delivered_are_text() -> None:
    assert {column.type for column in columns(text=True).values()} == {"string"}


def test_a_frame_becomes_a_table_of_plain_values() -> None:
    frame = pd.DataFrame(
        {"n": np.arange(50), "x": 0.5, "b": True, "t": pd.array(["a", None] * 25, "string")}
    )
    shown = table(frame)
    assert len(shown.records) == SHOWN_ROWS
    assert shown.records[1].data == {"n": 1, "x": 0.5, "b": True, "t": None}
    assert [column.type for column in shown.schema.columns] == ["int", "float", "bool", "string"]
