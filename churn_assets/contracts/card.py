"""The model card: what a bento knows of the model that it serves, and where it came from.

Free of pandas, like `contract.py`: the process that serves imports this module.
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
"""In the order of `risk_edges`: below the first one, from the first on, from the second on."""

PSI_FLOOR = 1e-4
"""An empty bin counts as this share, so that the index stays finite."""


def risk_edges(threshold: float) -> tuple[float, float]:
    """The probabilities from which a risk is medium and high: high from where an offer pays."""
    return threshold / 2, threshold


class Estimate(Frozen):
    """A metric on the test rows with its 95% interval; None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ScoreDistribution(Frozen):
    """How the model's probabilities spread over the test rows: what served ones are held against.

    Attributes:
        edges: increasing, strictly within (0, 1); a probability on an edge is in the bin above.
        shares: of the rows in each of the `len(edges) + 1` bins; they sum to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> "ScoreDistribution":
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges bound {len(self.edges) + 1} shares")
        if not all(low < high for low, high in pairwise((0.0, *self.edges, 1.0))):
            raise ValueError("edges must increase, between 0 and 1")
        if min(self.shares) < 0 or not isclose(sum(self.shares), 1):
            raise ValueError("shares must be of a whole: none below 0, 1 in sum")
        return self

    def stability_index(self, counts: tuple[int, ...]) -> float:
        """Population stability index of served probabilities against the test rows.

        By Siddiqi, "Credit risk scorecards", 2006: below 0.1 little has moved, above 0.25 much.

        Args:
            counts: served customers in each bin, at least one in all.

        Raises:
            ValueError: there are none, or the bins are others.
        """
        if len(counts) != len(self.shares) or sum(counts) < 1:
            raise ValueError(f"one customer at least, in {len(self.shares)} bins")
        served = np.maximum(np.array(counts) / sum(counts), PSI_FLOOR)
        tested = np.maximum(self.shares, PSI_FLOOR)
        return float(((served - tested) * np.log(served / tested)).sum())


class ModelCard(Frozen):
    """One model version.

    Attributes:
        name: registered model in MLflow.
        version: its registered version.
        chosen: kind of the main model, logistic or boosting.
        threshold: probability from which an offer pays, as the evaluation report has it.
        mlflow_run_id: the run that trained it.
        dagster_run_id: the run that built the bento.
        table_versions: versions of the lake's tables that it was trained on.
        test_months: months of the rows that it was evaluated on.
        test_rows: their number.
        metrics: on these rows, by name; "accuracy" is at `threshold`.
        scores: its probabilities of these rows.
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
        """High from where an offer pays, medium from half of that, low below."""
        return RISKS[bisect_right(risk_edges(self.threshold), probability)]


class GoldenRows(Frozen):
    """Invented customers with the probabilities that the bento's scorers gave when it was built.

    Attributes:
        customers: request bodies without faults.
        main: probability of each by the main scorer, to the bit.
        fallback: probability of each by the fallback scorer.
    """

    customers: tuple[dict[str, float | int | str | bool | None], ...]
    main: tuple[float, ...]
    fallback: tuple[float, ...]
