"""Scores of a month's customers, and their drift against the scores of the test rows."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from churn_assets.contracts.card import RISKS, risk_edges
from churn_assets.contracts.contract import MONTH, Contract, Frozen
from churn_assets.contracts.schemas import TEXT
from churn_assets.core.data.features import model_columns
from churn_assets.core.evaluation.card import score_distribution
from churn_assets.core.evaluation.metrics import Floats, row_gain
from churn_assets.core.limits import Limits
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.verdict import Finite, Verdict, not_judged

PROBABILITY, VERSION = "churn_probability", "model_version"


def customer_scores(
    features: pd.DataFrame, scorer: Scorer, contract: Contract, model_version: str
) -> pd.DataFrame:
    """Scores every customer of a month.

    Args:
        features: Typed rows of one month, with derived features, in any order.

    Returns:
        One row per customer, by rank: id, month, `churn_probability`, `risk_category`,
        `expected_value` of an offer in the contract's currency, `rank` (1 is the most likely to
        churn; ties by id) and `model_version`.
    """
    # The rounding of a matrix product may depend on the position of a row: positions are fixed.
    rows = features.sort_values(contract.id.name, ignore_index=True)
    probabilities = scorer.score(model_columns(rows, contract))
    scores = pd.DataFrame(
        {
            contract.id.name: rows[contract.id.name],
            MONTH: rows[MONTH],
            PROBABILITY: probabilities,
            "risk_category": risk_categories(probabilities, contract),
            "expected_value": row_gain(probabilities, contract.economics),
        }
    )
    # A stable sort keeps ties in the order of their ids.
    scores = scores.sort_values(PROBABILITY, ascending=False, kind="stable", ignore_index=True)
    return scores.assign(
        rank=np.arange(1, len(scores) + 1),
        **{VERSION: pd.Series(model_version, index=scores.index, dtype=TEXT)},
    )


def risk_categories(probabilities: Floats, contract: Contract) -> pd.Series:
    """Risk category of each probability, by the same rule as in the model card, (n,)."""
    edges = risk_edges(contract.economics.break_even_probability)
    found = np.array(RISKS)[np.searchsorted(edges, probabilities, side="right")]
    return pd.Series(found, dtype=TEXT)


class PredictionDrift(Frozen):
    """Scores of a month compared with the scores of the test rows, by the same model.

    Attributes:
        psi: Population stability index over the deciles of the test rows; null without scores.
        edges: Bounds between these deciles.
        tested: Shares of the test rows below, between and above the edges.
        month: Shares of the month likewise.
    """

    rows: int
    tested_rows: int
    psi: Finite
    mean: Finite
    tested_mean: Finite
    edges: tuple[float, ...]
    tested: tuple[float, ...]
    month: tuple[float, ...]


def prediction_drift(scores: ArrayLike, tested: ArrayLike) -> PredictionDrift:
    """Compares probabilities of a month with those of the test rows.

    Args:
        scores: Scores of the month, (n,); may be empty.
        tested: Scores of the test rows, (m,), at least one.
    """
    p, q = (np.asarray(values, dtype=np.float64) for values in (scores, tested))
    spread = score_distribution(q)
    bins = np.searchsorted(spread.edges, p, side="right")
    counts = np.bincount(bins, minlength=len(spread.shares))
    return PredictionDrift(
        rows=len(p),
        tested_rows=len(q),
        psi=spread.stability_index(tuple(counts.tolist())) if len(p) else None,
        mean=p.mean() if len(p) else None,
        tested_mean=q.mean(),
        edges=spread.edges,
        tested=spread.shares,
        month=tuple((counts / max(len(p), 1)).tolist()),
    )


def every_customer_scored(
    scores: pd.DataFrame, features: pd.DataFrame, contract: Contract
) -> Verdict:
    """Each customer of the month has exactly one score, a probability; nobody else has one."""
    scored, expected = (rows[contract.id.name].astype(object) for rows in (scores, features))
    missing = len(set(expected) - set(scored))
    others = len(set(scored) - set(expected))
    twice = int(scored.duplicated().sum())
    invalid = int((~scores[PROBABILITY].between(0, 1)).sum())
    return Verdict(
        not (missing or others or twice or invalid) and bool(len(scores)),
        f"{len(scores):,} scores for {len(expected):,} customers: {missing:,} customers without a "
        f"score, {twice:,} duplicate scores, {others:,} scores of unknown customers, {invalid:,} "
        "scores that are not probabilities; each of these must be 0, and there must be at least "
        "one score.",
        {
            "value": missing + others + twice + invalid, "limit": 0, "scores": len(scores),
            "missing": missing, "twice": twice, "others": others, "invalid": invalid,
        },
    )  # fmt: skip


def score_distribution_as_tested(drift: PredictionDrift, limits: Limits) -> Verdict:
    """The scores are distributed as on the test rows; an index at the limit passes."""
    limit = limits.max_prediction_psi
    if drift.psi is None:
        numbers: dict[str, float | int | str] = {"value": "undefined", "limit": limit, "rows": 0}
        return not_judged("there are no scores to compare; at least one is needed.", numbers)
    return Verdict(
        drift.psi <= limit,
        f"The stability index (PSI) of {drift.rows:,} scores against those of the "
        f"{drift.tested_rows:,} test rows is {drift.psi:.3f} (mean {drift.mean or 0:.1%} against "
        f"{drift.tested_mean or 0:.1%}); it may be at most {limit:g}.",
        {
            "value": drift.psi, "limit": limit, "rows": drift.rows,
            "mean": drift.mean or 0.0, "tested_mean": drift.tested_mean or 0.0,
        },
    )  # fmt: skip


def totals(scores: pd.DataFrame) -> dict[str, float | int]:
    """Totals of a month's scores.

    Returns:
        Customers of each risk (`low_risk`, `medium_risk`, `high_risk`), `expected_churners`, and
        the `expected_value` of offers to all customers whose offer has a positive value.
    """
    counts = scores["risk_category"].value_counts()
    worth = scores["expected_value"].clip(lower=0.0).sum()
    return {
        **{f"{risk}_risk": int(counts.get(risk, 0)) for risk in RISKS},
        "expected_churners": float(scores[PROBABILITY].sum()),
        "expected_value": float(worth),
    }
