"""Invented customers whose probabilities a served model must reproduce before it may answer."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from churn_assets.contracts.card import GoldenRows
from churn_assets.contracts.contract import NUMBER_LIMIT, Column, Contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.modelling.scorer import Scorer

UNSEEN = "no such category"
"""Stands for every category of an open column that no model has seen."""

OPEN_REACH = 100.0
"""How far the numbers of a column go beyond its known points where the contract has no bound."""


def golden_rows(
    contract: Contract, main: Scorer, fallback: Scorer, *, rows: int = 32, seed: int = 0
) -> GoldenRows:
    """Invents request bodies without faults and scores them.

    The values come from the contract: the bounds and bands of a number and random ones between
    them, every category, and null where it is allowed. Of an open category they are those that
    the scorers know, names of groups and not of customers, and one that they do not. The same
    arguments give the same rows.

    Args:
        contract: with its derived features bound to functions.
        rows: how many, at least one; a column with more categories than rows shows some of them.
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
    """The values in a random order, as many as there are rows: again and again, or the first."""
    return [values[i % len(values)] for i in rng.permutation(rows)]


def _values(
    column: Column, scorers: Sequence[Scorer], rows: int, rng: np.random.Generator
) -> list[Any]:
    """What is worth showing of a column, the most telling first."""
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
    """The bounds, the bands, and as many random numbers between the bounds as there are rows."""
    low, high = _range(column)
    # Cubed, for measurements crowd in the lower part of what is allowed.
    between = low + (high - low) * rng.random(rows) ** 3
    drawn = np.clip([low, high, *column.bands, *between], low, high).tolist()
    if not column.whole:
        return drawn
    first, last = math.ceil(low), math.floor(high)
    return [min(max(round(number), first), last) for number in drawn]


def _range(column: Column) -> tuple[float, float]:
    """The bounds, and where there is none, some way beyond what else the contract names."""
    points = [p for p in (column.ge, column.le, *column.bands) if p is not None] or [0.0]
    low = min(points) - OPEN_REACH if column.ge is None else column.ge
    high = max(points) + OPEN_REACH if column.le is None else column.le
    return max(low, -NUMBER_LIMIT), min(high, NUMBER_LIMIT)
