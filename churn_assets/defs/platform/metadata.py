"""Metadata of tables for the UI: their columns, and data frames as inline tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.contracts.contract import MONTH, Column, Contract
from churn_assets.contracts.schemas import SOURCE_ROW

SHOWN_ROWS = 30

PLATFORM_COLUMNS = {
    MONTH: ("string", "Month whose close the row describes, YYYY-MM"),
    SOURCE_ROW: ("int", "Position of the row in the delivery of the source"),
    "reasons": ("string", "JSON list of every rule that the row broke: column, value, rule"),
    "split": ("string", "Split of the row: training, calibration or test"),
    "churn_probability": ("float", "Probability that the customer leaves"),
    "risk_category": (
        "string",
        "high from the probability at which an offer pays, medium from half of it, else low",
    ),
    "expected_value": ("float", "Expected profit of an offer to the customer"),
    "rank": ("int", "1 is the customer most likely to leave; ties by id"),
    "model_version": ("string", "Version of the registered model that computed the probability"),
    "prediction_id": ("string", "Id of the prediction, as in the response to the caller"),
    "time": ("timestamp", "Time of the request, in UTC"),
    "endpoint": ("string", "Route of the service that was called"),
    "key_id": ("string", "Id of the caller's API key; empty where the service needs no keys"),
    "degraded": ("bool", "True if the fallback scorer made the prediction"),
    "customer": ("string", "Pseudonym of the customer's id"),
    "pod": ("string", "Pod that made the prediction; empty where it is unknown"),
    "release": ("string", "Helm release of the pod; empty where it is unknown"),
    "template_hash": ("string", "Hash of the pod's template; empty where it is unknown"),
    "role": ("string", "Role of the pod in a rollout: canary, stable, preview, active, or empty"),
    "file": ("string", "File of the prediction log"),
    "end": ("int", "Position in the file, in bytes, after the line"),
}


def column_schema(
    contract: Contract,
    columns: Iterable[Column],
    *,
    derived: bool = False,
    text: bool = False,
    platform: Iterable[str] = (MONTH,),
) -> Mapping[str, Any]:
    """Returns the metadata of the Columns tab: names, types, descriptions and tags of columns.

    Args:
        derived: Whether the table has the derived features.
        text: Whether the values are text, as delivered.
        platform: Names of the columns that the platform adds to those of the contract.
    """
    shown = [_column(column, text=text) for column in columns]
    if derived:
        shown += [
            dg.TableColumn(f.name, "float", description=f.description, tags={"derived": ""})
            for f in contract.derived
        ]
    shown += [dg.TableColumn(name, *_typed(name)) for name in platform]
    return {"dagster/column_schema": dg.TableSchema(columns=shown)}


def table(frame: pd.DataFrame) -> dg.MetadataValue:
    """Returns the first rows of a frame, as a table that the UI shows inline."""
    records = frame.head(SHOWN_ROWS).astype(object).where(frame.head(SHOWN_ROWS).notna(), None)
    columns = [dg.TableColumn(str(name), _kind(frame[name])) for name in frame]
    rows = [
        dg.TableRecord({str(k): _plain(v) for k, v in row.items()})
        for row in records.to_dict("records")
    ]
    return dg.MetadataValue.table(rows, schema=dg.TableSchema(columns=columns))


def _column(column: Column, *, text: bool) -> dg.TableColumn:
    kinds = {"number": "int" if column.whole else "float", "flag": "bool"}
    marks = {"personal": column.personal, "sensitive": column.sensitive}
    unit = f" ({column.unit})" if column.unit else ""
    return dg.TableColumn(
        column.name,
        "string" if text else kinds.get(column.kind, "string"),
        description=f"{column.description}{unit}; {column.limits}",
        constraints=dg.TableColumnConstraints(
            nullable=text or (column.nullable and column.role != "label")
        ),
        tags={name: "" for name, marked in marks.items() if marked},
    )


def _typed(name: str) -> tuple[str, str]:
    return PLATFORM_COLUMNS[name]


def _kind(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values):
        return "bool"
    if pd.api.types.is_integer_dtype(values):
        return "int"
    return "float" if pd.api.types.is_float_dtype(values) else "string"


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
