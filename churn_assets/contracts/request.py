"""What the service accepts for one customer, and what the scorer is given of it.

Like `contract.py`, free of pandas and pandera: the process that serves imports this module.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from churn_assets.contracts.contract import NUMBER_LIMIT, TEXT_LIMIT, Column, Contract

Value = float | str | None

INK = r"[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""A character that the graph does not trim. Dialects of patterns differ in what `\\S` is."""


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


class RequestFeatures:
    """Turns requests into what the scorer takes; made once for a contract.

    Args:
        contract: with its derived features bound to functions.
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
        """One customer, for `Scorer.score_one`.

        Args:
            customer: an instance of `request_model(contract)`.

        Returns:
            Every one of `contract.model_inputs` by name: numbers and flags as float, categories as
            text, None for null; derived features, the same to the bit as `derive_features` gives a
            column, as float with NaN for null.
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
        """Many customers, for `Scorer.score`: arrays of shape (n,) by input name."""
        given = [customer.__dict__ for customer in customers]
        columns: dict[str, NDArray[Any]] = {
            name: np.array([one[name] for one in given], dtype=np.float64) for name in self._numbers
        } | {
            name: np.array([one[name] for one in given], dtype=object) for name in self._categories
        }
        derived = self._contract.derive(columns)
        # A function of no column, or of none that varies, gives one value for all.
        return columns | {
            name: np.broadcast_to(values, len(given)) for name, values in derived.items()
        }

    def _derive(self, given: Mapping[str, Any], row: dict[str, Value]) -> None:
        """The rule of `Contract.derive` for one customer, at a fifth of its cost."""
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
    """One customer as the scorer takes it, where `RequestFeatures` would be used only once."""
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
            str, Field(min_length=1, max_length=TEXT_LIMIT, pattern=rf"^{INK}([\s\S]*{INK})?$")
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
