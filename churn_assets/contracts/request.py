"""What the service accepts for one customer, and what the scorer is given of it.

Like `contract.py`, free of pandas and pandera: the process that serves imports this module.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from churn_assets.contracts.contract import NUMBER_LIMIT, TEXT_LIMIT, Column, Contract


def request_model(contract: Contract) -> type[BaseModel]:
    """The request for one customer: the id and every feature, under the contract's limits.

    Types are strict: "12" and true are no numbers. A nullable feature may be null or left out,
    which is the same; any other must be there, and nothing else may be.

    Returns:
        A model class whose JSON schema is OpenAPI 3.0, with an example.
    """
    columns = (contract.id, *contract.features)
    # A refused value may be personal, so errors do not repeat it: they end up in logs.
    config = ConfigDict(
        title="Customer",
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra={"example": {column.name: _example(column) for column in columns}},
    )
    fields: dict[str, Any] = {column.name: _field(column) for column in columns}
    return create_model("Customer", __config__=config, __doc__=contract.description, **fields)


def features(customer: BaseModel, contract: Contract) -> dict[str, float | str | None]:
    """One customer as the scorer takes it.

    Args:
        customer: an instance of `request_model(contract)`.
        contract: with its derived features bound to functions.

    Returns:
        Every one of `contract.model_inputs` by name: numbers and flags as float, categories as
        text, None for null; derived features, the same to the bit as `derive_features` gives a
        column, as float with NaN for null.
    """
    own = {column.name: _value(customer, column) for column in contract.features}
    categories = set(contract.categories)
    # Arrays of one row, not scalars: numpy may round a scalar's power or logarithm differently.
    row: dict[str, Any] = {
        name: np.array([own[name]], dtype=object if name in categories else np.float64)
        for feature in contract.derived
        for name in feature.inputs
    }
    derived: dict[str, float | str | None] = {
        name: float(value[0]) for name, value in contract.derive(row).items()
    }
    values = own | derived
    return {name: values[name] for name in contract.model_inputs}


def _value(customer: BaseModel, column: Column) -> float | str | None:
    value = getattr(customer, column.name)
    return value if value is None or column.kind == "category" else float(value)


def _field(column: Column) -> Any:
    described = f"{column.description} ({column.unit})" if column.unit else column.description
    extra: dict[str, Any] = {"nullable": True} if column.nullable else {}
    field = Field(description=described, examples=[_example(column)], json_schema_extra=extra)
    if column.nullable:
        return (Annotated[_type(column) | None, field], None)
    return (Annotated[_type(column), field], ...)


def _type(column: Column) -> Any:
    if column.values is not None:
        return Literal[column.values]
    if column.kind == "flag":
        return bool
    if column.kind != "number":
        # The graph reads blank text as null, and quarantines text with spaces around it.
        return Annotated[
            str, Field(min_length=1, max_length=TEXT_LIMIT, pattern=r"^\S([\s\S]*\S)?$")
        ]
    low, high = _bounds(column)
    if column.whole:
        limits = Field(ge=math.ceil(low), le=math.floor(high))
        return Annotated[int, limits, BeforeValidator(_whole)]
    return Annotated[float, Field(ge=low, le=high)]


def _bounds(column: Column) -> tuple[float, float]:
    low = -NUMBER_LIMIT if column.ge is None else max(column.ge, -NUMBER_LIMIT)
    high = NUMBER_LIMIT if column.le is None else min(column.le, NUMBER_LIMIT)
    return low, high


def _whole(value: Any) -> Any:
    """JSON has one kind of number: to its schema 12.0 is an integer like 12."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _example(column: Column) -> Any:
    if column.values is not None:
        return column.values[0]
    if column.kind == "flag":
        return True
    if column.kind != "number":
        return "C-1" if column.role == "id" else "any"
    low, high = _bounds(column)
    if column.bands:
        value = column.bands[len(column.bands) // 2]
    elif column.ge is not None and column.le is not None:
        value = low + (high - low) / 4
    else:
        value = min(max(1.0, low), high)
    return math.ceil(value) if column.whole else float(value)
