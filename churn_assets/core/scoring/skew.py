"""Training-serving skew: served features compared with the graph's, customer by customer."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_assets.contracts.contract import Column, Contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.traffic import (
    CUSTOMER,
    PREDICTION,
    RELEASE,
    ROLE,
    customers_by_pseudonym,
    feature_columns,
)
from churn_assets.core.verdict import Verdict, not_judged

MAX_SAMPLES = 5
"""Differing predictions that are shown for each column."""


@dataclass(frozen=True)
class Skew:
    """Result of comparing served features with the graph's features.

    Attributes:
        key_known: Whether there is a key, so that the pseudonyms can be computed.
        rows: Number of predictions.
        compared: Number of predictions about a customer of the month.
        differing: Number of compared predictions with at least one different feature.
        by_column: Number of different values by column, largest first; columns without differences
            are left out.
        samples: Some differences of each column: prediction, column, served value, graph's value.
        by_release: Numbers of predictions by release, template hash, role and model version.
    """

    key_known: bool
    rows: int
    compared: int
    differing: int
    by_column: dict[str, int]
    samples: pd.DataFrame
    by_release: pd.DataFrame = field(default_factory=pd.DataFrame)


def compare_served(
    rows: pd.DataFrame, features: pd.DataFrame, contract: Contract, key: bytes | None
) -> Skew:
    """Compares the features of each prediction with the row of the same customer in the month.

    Numbers are compared as float64, personal values by their pseudonyms; null equals null.

    Args:
        rows: Traffic.
        features: Typed rows of the same month.
        key: Key of the pseudonyms; predictions logged with another key match no customer.
    """
    known = customers_by_pseudonym(features, contract, key)
    is_known = rows[CUSTOMER].isin(list(known)).to_numpy(dtype=bool)
    matched = rows[is_known]
    # As objects, because Arrow text would be looked up value by value.
    index = pd.Index(features[contract.id.name].astype(object))
    graph = features.iloc[index.get_indexer(matched[CUSTOMER].astype(object).map(known))]
    differing = np.zeros(len(matched), dtype=bool)
    by_column, samples = {}, []
    for column in contract.features if known else ():
        served = matched[feature_columns(contract)[column.name]]
        expected = graph[column.name]
        if column.personal:
            expected = _hidden(expected, column.name, key or b"")
        unequal = _unequal(served, expected, column)
        if unequal.any():
            by_column[column.name] = int(unequal.sum())
            samples.append(_samples(matched[PREDICTION], served, expected, column, unequal))
        differing |= unequal
    return Skew(
        key_known=key is not None,
        rows=len(rows),
        compared=len(matched),
        differing=int(differing.sum()),
        by_column=dict(sorted(by_column.items(), key=lambda item: -item[1])),
        samples=pd.concat(samples, ignore_index=True) if samples else pd.DataFrame(),
        by_release=_by_release(rows, is_known, differing),
    )


def serving_matches_training(skew: Skew, limits: Limits) -> Verdict:
    """The features that the service logged equal the graph's; a share at the limit passes."""
    limit = limits.max_served_differing_share
    share = skew.differing / skew.compared if skew.compared else 0.0
    numbers: dict[str, float | int | str] = {
        "value": share, "limit": limit, "rows": skew.rows, "rows_compared": skew.compared,
        "rows_differing": skew.differing,
        "columns_differing": ", ".join(skew.by_column),
    }  # fmt: skip
    if not skew.compared:
        return not_judged(f"nothing could be compared: {_why_not_compared(skew)}", numbers)
    columns = ", ".join(f"{name} ({count:,})" for name, count in skew.by_column.items())
    return Verdict(
        share <= limit,
        f"Of {skew.rows:,} predictions, {skew.compared:,} are about customers of the month; "
        f"{skew.differing:,} of these ({share:.2%}) have other features than the graph"
        f"{': ' if columns else ''}{columns}; the limit is {limit:.2%}.",
        numbers,
    )


def _by_release(
    rows: pd.DataFrame, is_known: NDArray[np.bool_], differing: NDArray[np.bool_]
) -> pd.DataFrame:
    differs = np.zeros(len(rows), dtype=bool)
    differs[is_known] = differing
    by = [RELEASE, "template_hash", ROLE, "model_version"]
    counted = rows[by].assign(predictions=1, compared=is_known, differing=differs)
    return counted.groupby(by, as_index=False, dropna=False).sum()


def _why_not_compared(skew: Skew) -> str:
    if not skew.rows:
        return "there are no predictions; one about a customer of the month is needed."
    if not skew.key_known:
        return (
            f"without the key of the pseudonyms, {skew.rows:,} predictions cannot be matched to "
            "customers; set CHURN_ID_KEY_FILE to the service's CHURN_API_ID_KEY_FILE."
        )
    return (
        f"none of {skew.rows:,} predictions is about a customer of the month; if some should be, "
        "the service has another key (CHURN_API_ID_KEY_FILE) than the graph (CHURN_ID_KEY_FILE)."
    )


def _hidden(values: pd.Series, name: str, key: bytes) -> pd.Series:
    """Pseudonyms of the known values; `pseudonym` would hash a numpy flag as a number."""
    known = values.dropna().unique()
    plain = [value.item() if isinstance(value, np.generic) else value for value in known]
    hide = partial(pseudonym, key, name)
    return values.astype(object).map({value: hide(value) for value in plain})


def _unequal(served: pd.Series, expected: pd.Series, column: Column) -> NDArray[np.bool_]:
    if column.kind == "number" and not column.personal:
        a, b = (v.to_numpy(dtype=np.float64, na_value=np.nan) for v in (served, expected))
        return (a != b) & ~(np.isnan(a) & np.isnan(b))
    # None equals None, but pd.NA equals nothing.
    x, y = (v.astype(object).where(v.notna(), None).to_numpy() for v in (served, expected))
    return np.asarray(x != y, dtype=bool)


def _samples(
    predictions: pd.Series,
    served: pd.Series,
    expected: pd.Series,
    column: Column,
    unequal: NDArray[np.bool_],
) -> pd.DataFrame:
    shown: dict[str, Any] = {
        "prediction_id": predictions, "column": column.name, "served": served, "graph": expected,
    }  # fmt: skip
    rows = {
        name: value if isinstance(value, str) else value[unequal].head(MAX_SAMPLES).to_numpy()
        for name, value in shown.items()
    }
    return pd.DataFrame(rows).astype(object).map(str)
