"""Pandera schemas of the tables, derived from a contract."""

from typing import Any

import pandas as pd
import pandera.pandas as pa

from churn_assets.contracts.contract import MONTH, Column, Contract

TEXT = pd.StringDtype("pyarrow")
SOURCE_ROW = "source_row"
"""Position of a row in the source's delivery, from 0; it decides which duplicate is kept."""


def dtypes(contract: Contract) -> dict[str, Any]:
    """Returns the dtype of every column of the typed tables by name."""
    own: dict[str, Any] = {column.name: _dtype(column) for column in contract.columns}
    return own | {feature.name: "float64" for feature in contract.derived} | {MONTH: TEXT}


def typed(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Returns `frame` with the contract's dtypes, because storage does not keep all of them."""
    known = dtypes(contract)
    return frame.astype({name: known[name] for name in frame if name in known})


def raw_schema(contract: Contract) -> pa.DataFrameSchema:
    """Returns the schema of a snapshot as pulled: every column of the contract as text."""
    columns = {c.name: pa.Column(TEXT, nullable=True) for c in contract.snapshot}
    return pa.DataFrameSchema(
        columns | {SOURCE_ROW: pa.Column("int64", unique=True)}, strict=True, name="raw_customers"
    )


def customer_schema(contract: Contract) -> pa.DataFrameSchema:
    """Returns the schema of typed rows: limits of the contract and checks that it adds itself."""
    schema: pa.DataFrameSchema = contract.model.to_schema()
    snapshot = {column.name: column for column in contract.snapshot}
    schema = schema.remove_columns([name for name in schema.columns if name not in snapshot])
    return schema.update_columns(
        {name: {"dtype": _dtype(column)} for name, column in snapshot.items()}
    )


def feature_schema(contract: Contract) -> pa.DataFrameSchema:
    """Returns the schema of `validated_features`: typed rows, unique ids, derived features."""
    schema = customer_schema(contract).update_column(contract.id.name, unique=True)
    derived = {f.name: pa.Column("float64", nullable=True) for f in contract.derived}
    schema = schema.add_columns(derived | {MONTH: pa.Column(TEXT)})
    schema.strict = True
    return schema


def label_schema(contract: Contract) -> pa.DataFrameSchema:
    """Returns the schema of `churn_labels`: unique ids, and whether the customer left."""
    return pa.DataFrameSchema(
        {
            contract.id.name: pa.Column(TEXT, unique=True),
            contract.label.name: pa.Column("boolean"),
            MONTH: pa.Column(TEXT),
        },
        strict=True,
        name="churn_labels",
    )


def _dtype(column: Column) -> Any:
    if column.kind == "number":
        return "Int64" if column.whole else "float64"
    return "boolean" if column.kind == "flag" else TEXT
