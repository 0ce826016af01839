"""Slices: groups of customers for which the evaluation is repeated."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_assets.contracts.contract import Column, Contract, Frozen
from churn_assets.core.evaluation.metrics import Floats, Interval, Scored, bootstrap
from churn_assets.core.limits import Limits

SLICE_RESAMPLES = 200

MISSING = "missing"
OTHERS = "all others"
MOST_VALUES = 20
"""Number of most frequent values of a column with a slice of their own; the rest share one."""

Mask = NDArray[np.bool_]


class Slice(Frozen):
    """One group of customers.

    Attributes:
        metrics: All of `core.evaluation.metrics.METRICS`, on the customers of the group only.
        judged: Whether the slice has enough rows of both classes for a verdict.
        weak: Whether it is judged and even the upper bound of its ROC AUC is below the limit.
    """

    column: str
    value: str
    sensitive: bool
    rows: int
    positives: int
    mean_probability: float
    metrics: dict[str, Interval]
    judged: bool
    weak: bool


def evaluate_slices(
    test: pd.DataFrame,
    y: Floats,
    p: Floats,
    contract: Contract,
    limits: Limits,
    resamples: int,
    seed: int,
) -> Iterator[Slice]:
    """Yields the metrics of every slice of typed rows.

    Args:
        test: Rows with the contract's features and, if known, ids, (n,).
        y: Labels, 0.0 or 1.0, (n,).
        p: Probabilities, (n,).
        limits: Limits that decide which slices are judged and which are weak.
        resamples: Number of bootstrap resamples for each interval; slices use at most 200.
    """
    enough = limits.min_slice_rows_of_each_class
    for column, value, mask in slices_of(test, contract):
        scored = Scored.of(y[mask], p[mask], contract.economics)
        rows, positives = int(mask.sum()), int(y[mask].sum())
        found = bootstrap(
            scored.metrics,
            rows,
            customers=customers_of(test[mask], contract),
            resamples=min(resamples, SLICE_RESAMPLES),
            seed=seed,
        )
        judged = min(positives, rows - positives) >= enough
        high = found["roc_auc"].high
        yield Slice(
            column=column.name,
            value=value,
            sensitive=column.sensitive,
            rows=rows,
            positives=positives,
            mean_probability=p[mask].mean(),
            metrics=found,
            judged=judged,
            weak=judged and high is not None and high < limits.min_slice_auc,
        )


def slices_of(frame: pd.DataFrame, contract: Contract) -> Iterator[tuple[Column, str, Mask]]:
    """Yields the column, the value in words and the row mask (n,) of every slice that has rows.

    Slices of one column do not overlap and cover all rows.
    """
    for column in contract.slices:
        groups = _bands if column.kind == "number" else _values
        for value, mask in groups(frame[column.name], column):
            if mask.any():
                yield column, value, mask


def customers_of(frame: pd.DataFrame, contract: Contract) -> NDArray[np.intp] | None:
    """Returns each row's customer as a number from 0, (n,); None if every id occurs only once."""
    name = contract.id.name
    if name not in frame or frame[name].is_unique:
        return None
    return pd.factorize(frame[name])[0]


def _values(values: pd.Series, column: Column) -> Iterator[tuple[str, Mask]]:
    if column.kind == "flag":
        values = values.map({True: "yes", False: "no"})
    texts = values.astype(object).where(values.notna(), MISSING).to_numpy()
    frequent = list(pd.Series(texts).value_counts().index)
    # The contract's order reads better than the order of frequency.
    known = column.values or ("yes", "no")
    declared = [value for value in known if value in frequent]
    ordered = declared + [value for value in frequent if value not in declared]
    for value in ordered[:MOST_VALUES]:
        yield value, texts == value
    yield OTHERS, ~np.isin(texts.astype(str), ordered[:MOST_VALUES])


def _bands(values: pd.Series, column: Column) -> Iterator[tuple[str, Mask]]:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    edges = column.bands
    yield f"<{edges[0]:g}", numbers < edges[0]
    for low, high in pairwise(edges):
        yield f"{low:g} to {high:g}", (numbers >= low) & (numbers < high)
    yield f">={edges[-1]:g}", numbers >= edges[-1]
    yield MISSING, np.isnan(numbers)
