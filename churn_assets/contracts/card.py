"""Model card: identity, lineage and test metrics of the model that a bento serves.

Free of pandas, like `contract.py`, because the serving process imports this module.
"""

from bisect import bisect_right
from datetime import datetime
from itertools import pairwise
from math import isclose
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from churn_assets.contracts.contract import Frozen

Risk = Literal["low", "medium", "high"]

RISKS: tuple[Risk, ...] = ("low", "medium", "high")
"""Risk categories in ascending order, separated by the two values of `risk_edges`."""

PSI_FLOOR = 1e-4
"""An empty bin counts as this share, so that the index stays finite."""


def risk_edges(threshold: float) -> tuple[float, float]:
    """Returns the lowest probabilities of medium and high risk; an offer pays at high risk."""
    return threshold / 2, threshold


class Estimate(Frozen):
    """A metric on the test rows with its 95% interval; None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ScoreDistribution(Frozen):
    """Distribution of the model's probabilities over the test rows: the reference for served ones.

    Attributes:
        edges: Bin edges, increasing, strictly within (0, 1); a probability on an edge is in the bin
            above.
        shares: Share of the rows in each of the `len(edges) + 1` bins; they sum to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> "ScoreDistribution":
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges need {len(self.edges) + 1} shares")
        if not all(low < high for low, high in pairwise((0.0, *self.edges, 1.0))):
            raise ValueError("edges must increase strictly between 0 and 1")
        if min(self.shares) < 0 or not isclose(sum(self.shares), 1):
            raise ValueError("shares must not be negative and must sum to 1")
        return self

    def stability_index(self, counts: tuple[int, ...]) -> float:
        """Computes the population stability index of served probabilities against the test rows.

        Below 0.1 the shift is small, above 0.25 it is large (Siddiqi, "Credit risk scorecards",
        2006).

        Args:
            counts: Number of served customers in each bin, at least one in total.

        Raises:
            ValueError: The total is 0, or the number of bins differs.
        """
        if len(counts) != len(self.shares) or sum(counts) < 1:
            raise ValueError(f"counts must have {len(self.shares)} bins and at least one customer")
        served = np.maximum(np.array(counts) / sum(counts), PSI_FLOOR)
        tested = np.maximum(self.shares, PSI_FLOOR)
        return float(((served - tested) * np.log(served / tested)).sum())


class ModelCard(Frozen):
    """Card of one model version.

    Attributes:
        name: Name of the registered model in MLflow.
        version: Registered version of the model.
        chosen: Kind of the main model, logistic or boosting.
        threshold: Probability from which an offer pays, as in the evaluation report.
        mlflow_run_id: Id of the run that trained the model.
        dagster_run_id: Id of the run that built the bento.
        table_versions: Versions of the lake's tables that the model was trained on.
        test_months: Months of the rows that the model was evaluated on.
        test_rows: Number of these rows.
        metrics: Metrics on these rows by name; "accuracy" is at `threshold`.
        scores: Distribution of the model's probabilities of these rows.
    """

    name: str
    version: str
    chosen: str
    contract_name: str
    contract_version: str
    contract_fingerprint: str
    threshold: float = Field(ge=0, le=1)
    built_at: datetime
    mlflow_run_id: str
    dagster_run_id: str
    table_versions: dict[str, int]
    test_months: tuple[str, ...]
    test_rows: int = Field(ge=1)
    metrics: dict[str, Estimate]
    scores: ScoreDistribution

    def risk_category(self, probability: float) -> Risk:
        """Returns high from the threshold on, medium from half of it on, and low below."""
        return RISKS[bisect_right(risk_edges(self.threshold), probability)]


class GoldenRows(Frozen):
    """Synthetic customers with the probabilities that the bento's scorers gave at build time.

    Attributes:
        customers: Valid request bodies.
        main: Probability of each customer by the main scorer, exact to the bit.
        fallback: Probability of each customer by the fallback scorer.
    """

    customers: tuple[dict[str, float | int | str | bool | None], ...]
    main: tuple[float, ...]
    fallback: tuple[float, ...]
