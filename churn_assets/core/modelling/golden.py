"""Golden rows: synthetic customers whose probabilities a service must reproduce to be ready."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from churn_assets.contracts.card import GoldenRows
from churn_assets.contracts.contract import NUMBER_LIMIT, Column, Contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.modelling.scorer import Scorer

UNSEEN = "no such category"
"""Placeholder for every category of an open column that no model has seen."""

OPEN_REACH = 100.0
"""Distance of a missing bound of a column from the points that the contract does name."""


def golden_rows(
    contract: Contract, main: Scorer, fallback: Scorer, *, rows: int = 32, seed: int = 0
) -> GoldenRows:
    """Generates valid request bodies and scores them.

    The values come from the contract: the bounds and bands of a number and random numbers between
    the bounds, every category, and null where it is allowed. The values of an open category are
    those that the scorers know, which name groups and not customers, and one unknown value. The
    same arguments give the same rows.

    Args:
        contract: Contract with its derived features bound to functions.
        rows: Number of rows, at least one; of a column with more categories than rows only some
            are covered.
    """
    rng = np.random.default_rng(seed)
    columns = {
        column.name: _spread(_values(column, (main, fallback), rows, rng), rows, rng)
        for column in contract.features
    }
    ids = {contract.id.name: [f"golden-{row + 1}" for row in range(rows)]}
    customers = [
        {name: drawn[row] for name, drawn in (ids | columns).items()} for row in range(rows)
    ]
    model = request_model(contract)
    inputs = [features(model.model_validate(customer), contract) for customer in customers]
    return GoldenRows(
        customers=tuple(customers),
        main=tuple(main.score_one(row) for row in inputs),
        fallback=tuple(fallback.score_one(row) for row in inputs),
    )


def _spread(values: Sequence[Any], rows: int, rng: np.random.Generator) -> list[Any]:
    """Returns `rows` values in random order: repeated if they are fewer, else the first ones."""
    return [values[i % len(values)] for i in rng.permutation(rows)]


def _values(
    column: Column, scorers: Sequence[Scorer], rows: int, rng: np.random.Generator
) -> list[Any]:
    """Returns the values of a column to cover, the most important first."""
    null = [None] if column.nullable else []
    if column.kind == "flag":
        return [*null, True, False]
    if column.kind == "number":
        return [*null, *_numbers(column, rows, rng)]
    if column.values is not None:
        return [*null, *column.values]
    known = {value for one in scorers for value in one.codes.get(column.name, ())}
    names = sorted(known)
    return [*null, UNSEEN, *(names[i] for i in rng.permutation(len(names)))]


def _numbers(column: Column, rows: int, rng: np.random.Generator) -> list[float] | list[int]:
    """Returns the bounds, the bands, and `rows` random numbers between the bounds."""
    low, high = _range(column)
    # Cubed, because measurements concentrate in the lower part of the allowed range.
    between = low + (high - low) * rng.random(rows) ** 3
    drawn = np.clip([low, high, *column.bands, *between], low, high).tolist()
    if not column.whole:
        return drawn
    first, last = math.ceil(low), math.floor(high)
    return [min(max(round(number), first), last) for number in drawn]


def _range(column: Column) -> tuple[float, float]:
    """Returns the bounds; a missing bound is `OPEN_REACH` beyond the contract's other points."""
    points = [p for p in (column.ge, column.le, *column.bands) if p is not None] or [0.0]
    low = min(points) - OPEN_REACH if column.ge is None else column.ge
    high = max(points) + OPEN_REACH if column.le is None else column.le
    return max(low, -NUMBER_LIMIT), min(high, NUMBER_LIMIT)
