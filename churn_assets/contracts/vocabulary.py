"""Vocabulary of contract files: base class, terms and column helpers.

A contract is one `pandera.DataFrameModel` whose fields are declared with these helpers::

    class Shop(CustomerContract):
        \"\"\"Customers of the shop at the close of a month.\"\"\"

        customer_id: str = customer_id("Number of the customer")
        visits: int = number("Visits in the month", ge=0, le=500)
        plan: str = category("Tariff", "basic", "plus")
        churned: bool = label("Closed the account within the next month")

        __terms__ = Terms(
            economics=Economics(
                value_of_kept_customer=200, cost_of_offer=10, acceptance_rate=0.3
            )
        )

Limits become pandera checks; checks that a contract adds itself (`@pa.check`,
`@pa.dataframe_check`) are applied as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pandera.pandas as pa

from churn_assets.contracts.contract import TEXT_LIMIT, Economics, Kind, Role

__all__ = [
    "CustomerContract",
    "Economics",
    "Terms",
    "Values",
    "category",
    "customer_id",
    "flag",
    "ignored",
    "label",
    "month",
    "number",
]

Values = Any
"""Input and output of a derived feature: an array of shape (n,), or a scalar for one customer."""

METADATA_KEY = "churn"
"""Key under which the helpers store their arguments in the metadata of a pandera field."""


@dataclass(frozen=True)
class Terms:
    """Terms of a contract beyond its columns.

    Attributes:
        economics: Economic terms; there is no default.
        horizon_months: Months after the snapshot within which leaving counts as churn.
        version: Version of the contract; raise it when the meaning of a column changes.
        derived: Functions that compute one feature each, row by row, with arithmetic and numpy
            only; their parameter names are columns.
        source: Source of the data if CHURN_SOURCE is not set.
    """

    economics: Economics | None = None
    horizon_months: int = 1
    version: str = "1.0.0"
    derived: tuple[Callable[..., Any], ...] = ()
    source: str = "file"


class CustomerContract(pa.DataFrameModel):
    """Base of contracts. Terms are a dunder because pandera treats other attributes as columns."""

    __terms__: ClassVar[Terms] = Terms()


def customer_id(description: str, *, source_name: str = "", personal: bool = True) -> Any:
    """Declares the column with the customer's id, unique within a month."""
    return _field("id", "text", description, source_name, personal=personal)


def month(description: str, *, source_name: str = "") -> Any:
    """Declares the column with the month of a row (YYYY-MM, or a date in the month)."""
    return _field("month", "text", description, source_name)


def label(description: str, *, source_name: str = "") -> Any:
    """Declares the label: whether the customer left within the horizon; null while unknown."""
    return _field("label", "flag", description, source_name, nullable=True)


def number(
    description: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    unit: str = "",
    nullable: bool = False,
    personal: bool = False,
    sensitive: bool = False,
    bands: tuple[float, ...] = (),
    source_name: str = "",
    **misplaced: object,
) -> Any:
    """Declares a numeric feature; annotate it `int` for whole numbers, otherwise `float`.

    Args:
        ge: Smallest allowed value.
        le: Largest allowed value.
        bands: Increasing cut points; the evaluation reports on each band between them.
    """
    return _field(
        "feature", "number", description, source_name, nullable=nullable, personal=personal,
        sensitive=sensitive, ge=ge, le=le, unit=unit, bands=bands, misplaced=misplaced,
    )  # fmt: skip


def category(
    description: str,
    *values: str,
    nullable: bool = False,
    personal: bool = False,
    sensitive: bool = False,
    sliced: bool = False,
    source_name: str = "",
    **misplaced: object,
) -> Any:
    """Declares a categorical feature: the listed values, or any text if none is listed."""
    return _field(
        "feature", "category", description, source_name, nullable=nullable, personal=personal,
        sensitive=sensitive, sliced=sliced, values=values or None, misplaced=misplaced,
    )  # fmt: skip


def flag(
    description: str,
    *,
    nullable: bool = False,
    personal: bool = False,
    sensitive: bool = False,
    sliced: bool = False,
    source_name: str = "",
    **misplaced: object,
) -> Any:
    """Declares a yes-or-no feature; sources may write true/false, yes/no or 1/0."""
    return _field(
        "feature", "flag", description, source_name, nullable=nullable, personal=personal,
        sensitive=sensitive, sliced=sliced, misplaced=misplaced,
    )  # fmt: skip


def ignored(description: str, *, personal: bool = False, source_name: str = "") -> Any:
    """Declares a column that is kept as text and that no model uses."""
    return _field("ignored", "text", description, source_name, nullable=True, personal=personal)


def _field(
    role: Role,
    kind: Kind,
    description: str,
    source_name: str,
    *,
    nullable: bool = False,
    ge: float | None = None,
    le: float | None = None,
    values: tuple[str, ...] | None = None,
    **extra: Any,
) -> Any:
    declared = {"role": role, "kind": kind, "ge": ge, "le": le, "values": values, **extra}
    return pa.Field(
        nullable=nullable,
        description=description,
        ge=ge,
        le=le,
        isin=None if values is None else list(values),
        str_length={"max_value": TEXT_LIMIT} if role == "id" or kind == "category" else None,
        metadata={METADATA_KEY: {**declared, "source_name": source_name}},
    )
