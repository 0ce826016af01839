"""Data contract as plain frozen data: the single definition from which all else is derived.

This module needs neither pandas nor pandera, so that the service can read a contract from JSON.
`loading.py` builds a `Contract` from the file that a team writes.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Role = Literal["id", "month", "label", "feature", "ignored"]
Kind = Literal["text", "number", "category", "flag"]

NUMBER_LIMIT = 1e15
"""Largest absolute value that is accepted as a measurement; it also bounds the arithmetic."""

TEXT_LIMIT = 100
"""Maximum length of an id or a category, in characters."""

MONTH = "month"
"""Name of the partition column in every table of the lake."""


class Frozen(BaseModel):
    """Base of immutable models without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Economics(Frozen):
    """Economic terms of a retention offer, in one currency.

    Attributes:
        value_of_kept_customer: Margin saved when a customer who would have left stays.
        cost_of_offer: Cost of one retention offer, accepted or not.
        acceptance_rate: Share of customers about to leave who stay because of the offer, in (0, 1].
        currency: ISO 4217 code.
    """

    value_of_kept_customer: float = Field(gt=0)
    cost_of_offer: float = Field(gt=0)
    acceptance_rate: float = Field(gt=0, le=1)
    currency: str = "EUR"

    @property
    def break_even_probability(self) -> float:
        """Churn probability from which an offer pays for itself.

        At this probability the expected gain equals the cost (Elkan, "The foundations of
        cost-sensitive learning", IJCAI 2001). It is 1.0 if an offer never pays.
        """
        return min(1.0, self.cost_of_offer / (self.acceptance_rate * self.value_of_kept_customer))


class Column(Frozen):
    """One column of the customer snapshot.

    Attributes:
        source_name: Name of the column in the source.
        whole: Whether the number has no fractional part.
        values: Allowed categories, or None if the contract leaves them open.
        personal: Whether the column identifies or describes a person; such data must be deleted
            on that person's request.
        sensitive: Whether the model is monitored for unequal quality across this attribute.
        bands: Cut points that turn a number into slices of the evaluation.
        sliced: Whether the evaluation reports on each value of the column.
    """

    name: str
    source_name: str
    role: Role
    kind: Kind
    description: str
    unit: str = ""
    whole: bool = False
    ge: float | None = None
    le: float | None = None
    values: tuple[str, ...] | None = None
    nullable: bool = False
    personal: bool = False
    sensitive: bool = False
    bands: tuple[float, ...] = ()
    sliced: bool = False

    @property
    def limits(self) -> str:
        """Rule on the column's values, in words."""
        if self.values is not None:
            return "one of " + ", ".join(self.values)
        if self.kind == "flag":
            return "true or false"
        if self.role == "month":
            return "YYYY-MM, or a date in the month"
        if self.role == "ignored":
            return "text"
        if self.kind != "number":
            return f"text of 1 to {TEXT_LIMIT} characters"
        noun = "whole number" if self.whole else "number"
        low = "" if self.ge is None else f" from {self.ge:g}"
        high = "" if self.le is None else f" up to {self.le:g}"
        return noun + low + high


class DerivedFeature(Frozen):
    """A number computed from other columns by the same function in the graph and in the service."""

    name: str
    inputs: tuple[str, ...]
    description: str
    source_code: str
    function: Callable[..., Any] | None = Field(default=None, exclude=True, repr=False)

    @property
    def bound(self) -> Callable[..., Any]:
        """The bound function.

        Raises:
            ValueError: No function is bound yet.
        """
        if self.function is None:
            raise ValueError(f"derived feature {self.name!r} has no function: call with_functions")
        return self.function


class Contract(Frozen):
    """A data contract. `docs/data-dictionary.md` describes the shipped contracts."""

    name: str
    version: str
    description: str
    horizon_months: int
    economics: Economics
    columns: tuple[Column, ...]
    derived: tuple[DerivedFeature, ...] = ()
    source: str
    model: Any = Field(default=None, exclude=True, repr=False)

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def _of_role(self, *roles: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role in roles)

    @property
    def id(self) -> Column:
        return self._of_role("id")[0]

    @property
    def label(self) -> Column:
        return self._of_role("label")[0]

    @property
    def month(self) -> Column | None:
        """Column with the month of a row, if the source has one."""
        return next(iter(self._of_role("month")), None)

    @property
    def snapshot(self) -> tuple[Column, ...]:
        """Columns that a source delivers for a customer; the label follows later, once known."""
        return self._of_role("id", "feature", "ignored")

    @property
    def features(self) -> tuple[Column, ...]:
        """Columns that a model may use, without derived features."""
        return self._of_role("feature")

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the model's numeric inputs (float64): numbers, flags, derived features."""
        own = (column.name for column in self.features if column.kind != "category")
        return (*own, *(feature.name for feature in self.derived))

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the model's categorical inputs."""
        return tuple(column.name for column in self.features if column.kind == "category")

    @property
    def model_inputs(self) -> tuple[str, ...]:
        """Names of all model inputs; drift is monitored on each of them."""
        return (*self.numbers, *self.categories)

    @property
    def slices(self) -> tuple[Column, ...]:
        """Columns whose values or bands define the slices of the evaluation."""
        return tuple(c for c in self.features if c.sensitive or c.sliced or c.bands)

    @property
    def fingerprint(self) -> str:
        """Hash of the contract; it changes when any part of the contract changes."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def derive(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Computes every derived feature.

        Args:
            columns: Values of the contract's features by name: arrays of shape (n,), or scalars
                for one customer. Numbers and flags are float64 with NaN for null.

        Returns:
            Float64 values of the same shape by feature name; NaN if a value is not finite or is
            beyond `NUMBER_LIMIT`.
        """
        return {feature.name: _apply(feature, columns) for feature in self.derived}

    def derived_module(self) -> str:
        """Returns the source code of a module with all derived features, for use without pandas."""
        head = '"""Derived features, copied from the contract word for word."""\n'
        return "\n\n".join(
            [head + "from __future__ import annotations\n\nimport numpy as np\n"]
            + [feature.source_code for feature in self.derived]
        )

    def with_functions(self, module: object) -> "Contract":
        """Returns this contract with its derived features bound to the functions of `module`."""
        bound = (f.model_copy(update={"function": getattr(module, f.name)}) for f in self.derived)
        return self.model_copy(update={"derived": tuple(bound)})


def _apply(feature: DerivedFeature, columns: Mapping[str, Any]) -> Any:
    # A Python float would raise an error where an array gives inf; numpy scalars act like arrays.
    inputs = [
        np.float64(value) if isinstance(value := columns[name], int | float) else value
        for name in feature.inputs
    ]
    with np.errstate(all="ignore"):
        result = np.asarray(feature.bound(*inputs), dtype=np.float64)
        return np.where(np.abs(result) <= NUMBER_LIMIT, result, np.nan)[()]


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a function's parameters, in order."""
    return tuple(inspect.signature(function).parameters)
