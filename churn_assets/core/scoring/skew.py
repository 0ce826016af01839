"""Whether the service was given the features that the graph has of the same customers."""

from dataclasses import dataclass
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
    customers_by_pseudonym,
    feature_columns,
)
from churn_assets.core.verdict import Verdict

MOST_SAMPLES = 5
"""Differing predictions shown of each column."""


@dataclass(frozen=True)
class Skew:
    """Served features against the graph's.

    Attributes:
        key_known: the pseudonyms could be computed.
        rows: predictions there are.
        compared: of these, the ones about a customer of the month.
        differing: of these, the ones of which a feature differs.
        by_column: how many differ in each column, those with most first; none without any.
        samples: prediction, column, what was served and what the graph has, some of each column.
    """

    key_known: bool
    rows: int
    compared: int
    differing: int
    by_column: dict[str, int]
    samples: pd.DataFrame


def compare_served(
    rows: pd.DataFrame, features: pd.DataFrame, contract: Contract, key: bytes | None
) -> Skew:
    """Compares each prediction about a known customer with that customer's row of the month.

    Numbers are equal as float64, nulls are equal, personal values by their pseudonyms.

    Args:
        rows: traffic.
        features: typed rows of the same month.
        key: of the pseudonyms; a prediction logged with another one is about nobody known.
    """
    known = customers_by_pseudonym(features, contract, key)
    asked = rows[rows[CUSTOMER].isin(list(known))]
    # Objects, for text of Arrow would be looked up value by value.
    index = pd.Index(features[contract.id.name].astype(object))
    ours = features.iloc[index.get_indexer(asked[CUSTOMER].astype(object).map(known))]
    differing = np.zeros(len(asked), dtype=bool)
    by_column, samples = {}, []
    for column in contract.features if known else ():
        served = asked[feature_columns(contract)[column.name]]
        expected = ours[column.name]
        if column.personal:
            expected = _hidden(expected, column.name, key or b"")
        unequal = _unequal(served, expected, column)
        if unequal.any():
            by_column[column.name] = int(unequal.sum())
            samples.append(_samples(asked[PREDICTION], served, expected, column, unequal))
        differing |= unequal
    return Skew(
        key_known=key is not None,
        rows=len(rows),
        compared=len(asked),
        differing=int(differing.sum()),
        by_column=dict(sorted(by_column.items(), key=lambda item: -item[1])),
        samples=pd.concat(samples, ignore_index=True) if samples else pd.DataFrame(),
    )


def serving_matches_training(skew: Skew, limits: Limits) -> Verdict:
    """The features that the service logged are those of the graph; at the limit passes."""
    limit = limits.max_served_differing_share
    share = skew.differing / skew.compared if skew.compared else 0.0
    numbers: dict[str, float | int | str] = {
        "value": share, "limit": limit, "rows": skew.rows, "rows_compared": skew.compared,
        "rows_differing": skew.differing,
        "columns_differing": ", ".join(skew.by_column),
    }  # fmt: skip
    if not skew.compared:
        return Verdict(True, f"Nothing could be compared: {_why_not(skew)}", numbers)
    columns = ", ".join(f"{name} ({count:,})" for name, count in skew.by_column.items())
    return Verdict(
        share <= limit,
        f"Of {skew.rows:,} predictions, {skew.compared:,} are about customers of the month; "
        f"{skew.differing:,} of these ({share:.2%}) have other features than the graph"
        f"{': ' if columns else ''}{columns}; at most {limit:.2%} may.",
        numbers,
    )


def _why_not(skew: Skew) -> str:
    if not skew.rows:
        return "there are no predictions."
    if not skew.key_known:
        return (
            f"without the key of their pseudonyms nobody knows whom {skew.rows:,} predictions "
            "are about; set CHURN_ID_KEY_FILE to the service's CHURN_API_ID_KEY_FILE."
        )
    return (
        f"none of {skew.rows:,} predictions is about a customer of the month; if they should be, "
        "the service has another key (CHURN_API_ID_KEY_FILE) than the graph (CHURN_ID_KEY_FILE)."
    )


def _hidden(values: pd.Series, name: str, key: bytes) -> pd.Series:
    """Pseudonyms of the known values; a flag of numpy's would be taken for a number."""
    known = values.dropna().unique()
    plain = [one.item() if isinstance(one, np.generic) else one for one in known]
    hide = partial(pseudonym, key, name)
    return values.astype(object).map({one: hide(one) for one in plain})


def _unequal(served: pd.Series, expected: pd.Series, column: Column) -> NDArray[np.bool_]:
    if column.kind == "number" and not column.personal:
        a, b = (v.to_numpy(dtype=np.float64, na_value=np.nan) for v in (served, expected))
        return (a != b) & ~(np.isnan(a) & np.isnan(b))
    # None equals None, where a null of pandas equals nothing.
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
        name: value if isinstance(value, str) else value[unequal].head(MOST_SAMPLES).to_numpy()
        for name, value in shown.items()
    }
    return pd.DataFrame(rows).astype(object).map(str)
