"""What a model says of the customers of a month, and whether it says it as it was tested."""

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
from churn_assets.core.verdict import Finite, Verdict

PROBABILITY, VERSION = "churn_probability", "model_version"


def customer_scores(
    features: pd.DataFrame, scorer: Scorer, contract: Contract, model_version: str
) -> pd.DataFrame:
    """Scores every customer of a month.

    Args:
        features: typed rows of one month, with derived features, in any order.

    Returns:
        One row a customer, by rank: id, month, `churn_probability`, `risk_category`,
        `expected_value` of an offer in the contract's currency, `rank` (1 is the most likely to
        leave; ties by id) and `model_version`.
    """
    # A matrix product may round a row differently in another place: so each has a fixed one.
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
    # Stable, so that ties stay in the order of their ids.
    scores = scores.sort_values(PROBABILITY, ascending=False, kind="stable", ignore_index=True)
    return scores.assign(
        rank=np.arange(1, len(scores) + 1),
        **{VERSION: pd.Series(model_version, index=scores.index, dtype=TEXT)},
    )


def risk_categories(probabilities: Floats, contract: Contract) -> pd.Series:
    """The risk of each probability, by the rule of the model's card, (n,)."""
    edges = risk_edges(contract.economics.break_even_probability)
    found = np.array(RISKS)[np.searchsorted(edges, probabilities, side="right")]
    return pd.Series(found, dtype=TEXT)


class PredictionDrift(Frozen):
    """A month's scores against those of the test rows, by the same model.

    Attributes:
        psi: population stability index over the deciles of the test rows; null without scores.
        edges: between these deciles; `tested` and `month` are the shares below, between, above.
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
        scores: of the month, (n,); there may be none.
        tested: of the test rows, (m,), one at least.
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
    """Each customer of the month has one score, a probability, and nobody else has one."""
    scored, asked = (rows[contract.id.name].astype(object) for rows in (scores, features))
    missing = len(set(asked) - set(scored))
    others = len(set(scored) - set(asked))
    twice = int(scored.duplicated().sum())
    invalid = int((~scores[PROBABILITY].between(0, 1)).sum())
    return Verdict(
        not (missing or others or twice or invalid) and bool(len(scores)),
        f"{len(scores):,} scores for {len(asked):,} customers: {missing:,} customers without one, "
        f"{twice:,} with two, {others:,} scores of others, {invalid:,} that are no probability; "
        "none may be, and one score must be there.",
        {
            "value": missing + others + twice + invalid, "limit": 0, "scores": len(scores),
            "missing": missing, "twice": twice, "others": others, "invalid": invalid,
        },
    )  # fmt: skip


def score_distribution_as_tested(drift: PredictionDrift, limits: Limits) -> Verdict:
    """The scores spread as on the test rows; at the limit passes."""
    limit = limits.max_prediction_psi
    if drift.psi is None:
        numbers: dict[str, float | int | str] = {"value": "undefined", "limit": limit, "rows": 0}
        return Verdict(False, "There are no scores to compare.", numbers)
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
    """What a month's scores come to: customers of each risk, and what offers to those bring.

    Returns:
        `low`, `medium` and `high` customers, `expected_churners`, and `expected_value` of offers to
        all whose offer pays.
    """
    counts = scores["risk_category"].value_counts()
    worth = scores["expected_value"].clip(lower=0.0).sum()
    return {
        **{f"{risk}_risk": int(counts.get(risk, 0)) for risk in RISKS},
        "expected_churners": float(scores[PROBABILITY].sum()),
        "expected_value": float(worth),
    }
