"""Simple baseline without machine learning: the churn rate by the best single column."""

import numpy as np
import pandas as pd

from churn_assets.contracts.contract import Contract, Frozen
from churn_assets.core.evaluation.metrics import Floats, row_log_loss

GROUPS = 10
PRIOR_ROWS = 20.0
"""Each group's rate is shrunk towards the overall rate as if by this many average customers."""


class Baseline(Frozen):
    """A table of churn rates by one feature.

    Attributes:
        feature: Model input that defines the groups of the table.
        edges: Upper bounds of a number's groups, except the last group; empty for a category.
        rates: Churn rate by group: by position for a number, by value for a category.
        overall: Churn rate of all training rows; used for nulls and for values unseen in training.
    """

    feature: str
    edges: tuple[float, ...]
    rates: dict[str, float]
    overall: float
    numeric: bool

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Returns churn probabilities of typed rows with the feature, (n,) in (0, 1)."""
        groups = _groups(frame[self.feature], self.edges if self.numeric else None)
        rates = groups.map(self.rates).fillna(self.overall)
        return np.asarray(rates, dtype=np.float64)


def fit_baseline(training: pd.DataFrame, contract: Contract) -> Baseline:
    """Returns the table of the model input with the lowest log loss on the training rows.

    Args:
        training: Typed rows with the label and every model input.

    Raises:
        ValueError: There are no rows.
    """
    if training.empty:
        raise ValueError("there are no training rows to fit a baseline on")
    labels = training[contract.label.name].to_numpy(dtype=np.float64)
    # Half a row of each class keeps the rate from 0 and 1, where the log loss would be infinite.
    overall = float((labels.sum() + 0.5) / (len(labels) + 1))
    tables = [
        _table(training[name], labels, overall, numeric=name in contract.numbers)
        for name in contract.model_inputs
    ]
    losses = [row_log_loss(labels, table.predict(training)).mean() for table in tables]
    return tables[int(np.argmin(losses))]


def _table(values: pd.Series, labels: Floats, overall: float, *, numeric: bool) -> Baseline:
    edges = _edges(values) if numeric else ()
    groups = _groups(values, edges if numeric else None)
    counts = pd.Series(labels).groupby(groups.to_numpy()).agg(["sum", "count"])
    rates = (counts["sum"] + PRIOR_ROWS * overall) / (counts["count"] + PRIOR_ROWS)
    return Baseline(
        feature=str(values.name),
        edges=edges,
        rates={str(group): float(rate) for group, rate in rates.items()},
        overall=overall,
        numeric=numeric,
    )


def _edges(values: pd.Series) -> tuple[float, ...]:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return ()
    shares = np.arange(1, GROUPS) / GROUPS
    return tuple(np.unique(np.quantile(known, shares, method="inverted_cdf")).tolist())


def _groups(values: pd.Series, edges: tuple[float, ...] | None) -> pd.Series:
    """Returns the group of each row as text; None if the value is null."""
    if edges is None:
        return values.astype(object).where(values.notna(), None)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    groups = pd.Series(np.searchsorted(np.array(edges), numbers, side="left"), values.index)
    return groups.astype(str).astype(object).where(~np.isnan(numbers), None)
