"""Request model of one customer, and the conversion of requests to scorer inputs.

Free of pandas and pandera, like `contract.py`, because the serving process imports this module.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from churn_assets.contracts.contract import NUMBER_LIMIT, TEXT_LIMIT, Column, Contract

Value = float | str | None

NON_BLANK = r"[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""Pattern of a character that the graph does not trim; `\\S` differs between regex dialects."""


def request_model(contract: Contract) -> type[BaseModel]:
    """Builds the request model of one customer: the id and all features, with their limits.

    Types are strict: "12" and true are not numbers. A nullable feature may be null or left out,
    with the same meaning. All other fields are required, and unknown fields are refused.

    Returns:
        Model class whose JSON schema is OpenAPI 3.0, with an example.
    """
    columns = (contract.id, *contract.features)
    # Errors end up in logs, so they must not repeat the refused value, which may be personal.
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


class RequestFeatures:
    """Conversion of requests to scorer inputs; create it once per contract.

    Args:
        contract: Contract with its derived features bound to functions.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._categories = tuple(c.name for c in contract.features if c.kind == "category")
        self._numbers = tuple(c.name for c in contract.features if c.kind != "category")
        self._derived = [(f.name, f.bound, f.inputs) for f in contract.derived]
        self._inputs: dict[str, type] = {
            name: object if name in self._categories else np.float64
            for feature in contract.derived
            for name in feature.inputs
        }

    def row(self, customer: BaseModel) -> dict[str, Value]:
        """Converts one customer, for `Scorer.score_one`.

        Args:
            customer: Instance of `request_model(contract)`.

        Returns:
            All `contract.model_inputs` by name: numbers and flags as float, categories as text,
            None for null. Derived features are float with NaN for null, bit for bit as
            `derive_features` computes them for a column.
        """
        given = customer.__dict__
        row: dict[str, Value] = {
            name: None if (value := given[name]) is None else float(value) for name in self._numbers
        }
        self._derive(given, row)
        for name in self._categories:
            row[name] = given[name]
        return row

    def columns(self, customers: Sequence[BaseModel]) -> dict[str, NDArray[Any]]:
        """Converts many customers, for `Scorer.score`: arrays of shape (n,) by input name."""
        given = [customer.__dict__ for customer in customers]
        columns: dict[str, NDArray[Any]] = {
            name: np.array([one[name] for one in given], dtype=np.float64) for name in self._numbers
        } | {
            name: np.array([one[name] for one in given], dtype=object) for name in self._categories
        }
        derived = self._contract.derive(columns)
        # A function that does not depend on any column returns one value for all rows.
        return columns | {
            name: np.broadcast_to(values, len(given)) for name, values in derived.items()
        }

    def _derive(self, given: Mapping[str, Any], row: dict[str, Value]) -> None:
        """Applies the rule of `Contract.derive` to one customer, at a fifth of its cost."""
        # Arrays of one row, not scalars: numpy may round a scalar's power or logarithm differently.
        inputs: dict[str, NDArray[Any]] = {
            name: np.array([given[name]], dtype=kind) for name, kind in self._inputs.items()
        }
        with np.errstate(all="ignore"):
            for name, function, parameters in self._derived:
                result = function(*[inputs[parameter] for parameter in parameters])
                value = np.asarray(result, dtype=np.float64).item(0)
                row[name] = value if abs(value) <= NUMBER_LIMIT else math.nan


def features(customer: BaseModel, contract: Contract) -> dict[str, Value]:
    """Converts one customer to scorer inputs, for a single use of `RequestFeatures`."""
    return RequestFeatures(contract).row(customer)


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
            str,
            Field(
                min_length=1, max_length=TEXT_LIMIT, pattern=rf"^{NON_BLANK}([\s\S]*{NON_BLANK})?$"
            ),
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
    """Converts 12.0 to 12: both are integers in JSON Schema, which has one kind of number."""
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
