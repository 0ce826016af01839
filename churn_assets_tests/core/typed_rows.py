"""Validated rows of any contract, for the tests."""

import numpy as np
import pandas as pd

from churn_assets.contracts.contract import Column, Contract
from churn_assets.core.data.features import derive_features

TEXT = pd.StringDtype("pyarrow")


def typed_rows(contract: Contract, rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns random features with the dtypes of validated rows, derived features and a month."""
    random = np.random.default_rng(seed)
    columns = {column.name: _values(column, rows, random) for column in contract.features}
    frame = derive_features(pd.DataFrame(columns), contract)
    return frame.assign(month=pd.array(["2026-03"] * rows, dtype=TEXT))


def with_labels(
    frame: pd.DataFrame, contract: Contract, by: str, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns the rows with labels drawn from a hazard that rises with `by`, and the hazard."""
    values = frame[by].to_numpy(dtype=np.float64, na_value=np.nan)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(frame) - 1, 1)
    hazard = 0.02 + 0.6 * ranks**2
    labels = np.random.default_rng((seed, 1)).random(len(frame)) < hazard
    return frame.assign(**{contract.label.name: pd.array(labels, dtype="boolean")}), hazard


def _values(column: Column, rows: int, random: np.random.Generator) -> pd.Series:
    if column.kind == "flag":
        return pd.Series(random.random(rows) < 0.5).astype("boolean")
    if column.kind == "category":
        return pd.Series(random.choice(column.values or ("Rome", "Oslo"), rows), dtype=TEXT)
    low = column.ge or 0.0
    values = random.uniform(low, min(column.le or 100.0, low + 100.0), rows)
    return pd.Series(values.round()).astype("Int64") if column.whole else pd.Series(values)
