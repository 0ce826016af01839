"""Realised performance: predictions compared with labels, once a month's labels are known."""

from collections.abc import Callable, Collection
from math import hypot
from typing import Literal

import numpy as np
import pandas as pd

from churn_assets.contracts.contract import MONTH, Contract, Frozen
from churn_assets.core.evaluation.metrics import Floats, Interval, Metrics, Scored, bootstrap
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.scores import PROBABILITY, VERSION
from churn_assets.core.scoring.traffic import (
    PREDICTION,
    RELEASE,
    ROLE,
    TIME,
    id_column,
    with_origin,
)
from churn_assets.core.verdict import Verdict, not_judged, shown

Source = Literal["scores", "served"]

RESAMPLES = 200


class RealisedPerformance(Frozen):
    """Realised performance of one model version on the customers of one month.

    Served predictions are told apart by release and role, so that a canary is not taken for the
    stable version.

    Attributes:
        source: `scores` for the graph's own scores; `served` for the last prediction of the service
            for each known customer, without predictions of the fallback.
        positives: Number of churned customers.
        expected_positives: Sum of the probabilities of all rows.
        profit_per_customer: Profit if all customers at or above the break-even probability had got
            an offer, in the contract's currency.
        in_training: Whether the month is in the model's training set, test rows included; such
            months are shown, never judged.
        release: Release of the service; "" for `scores`, and where the log does not say it.
        role: Role of the pods, such as canary; "" likewise.
    """

    month: str
    model_version: str
    source: Source
    rows: int
    positives: int
    expected_positives: float
    roc_auc: Interval
    brier: Interval
    profit_per_customer: Interval
    in_training: bool
    release: str = ""
    role: str = ""

    @property
    def origin(self) -> str:
        """Release and role, as far as they are known."""
        return ", ".join(filter(None, (self.release, self.role)))


def last_realised(month: str, horizon: int) -> str:
    """The last month whose labels are known at the end of `month`."""
    return str(pd.Period(month, freq="M") - horizon)


def realised_performance(
    scores: pd.DataFrame,
    traffic: pd.DataFrame,
    labels: pd.DataFrame,
    contract: Contract,
    *,
    training_months: Callable[[str], Collection[str]],
    seed: int,
) -> tuple[RealisedPerformance, ...]:
    """Compares scores and served predictions with labels, by month, model version and release.

    Args:
        scores: Rows of `customer_scores` of any months, or an empty frame.
        traffic: Rows of `served_traffic` likewise.
        labels: Rows of `churn_labels` likewise; those with a null label are left out.
        training_months: Gives the labelled months of a model version's training set.
    """
    if labels.empty:
        return ()
    known = labels.dropna(subset=[contract.label.name])
    sources: list[tuple[Source, pd.DataFrame]] = [("scores", scores)] if len(scores) else []
    if len(traffic):
        sources.append(("served", served_scores(traffic, contract)))
    series = [
        _measured(rows, contract, str(version), source, training_months(str(version)), seed)
        for source, given in sources
        for (_, version, *_), rows in _labelled(given, known, contract).groupby(
            [MONTH, VERSION, RELEASE, ROLE]
        )
    ]
    return tuple(
        sorted(
            series,
            key=lambda one: (one.source, one.month, one.model_version, one.release, one.role),
        )
    )


def _labelled(scores: pd.DataFrame, labels: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    keys = [contract.id.name, MONTH]
    columns = [*keys, PROBABILITY, VERSION, RELEASE, ROLE]
    rows = with_origin(scores)[columns].merge(
        labels[[*keys, contract.label.name]], on=keys, validate="one_to_one"
    )
    # The bootstrap draws positions, so the order must depend on nothing but the rows.
    return rows.sort_values(keys, ignore_index=True)


def _measured(
    rows: pd.DataFrame,
    contract: Contract,
    version: str,
    source: Source,
    training_months: Collection[str],
    seed: int,
) -> RealisedPerformance:
    month = str(rows[MONTH].iloc[0])
    y = rows[contract.label.name].to_numpy(dtype=np.float64)
    p = rows[PROBABILITY].to_numpy(dtype=np.float64)
    scored, errors = Scored.of(y, p, contract.economics), (y - p) ** 2

    def statistics(weights: Floats) -> Metrics:
        brier = weights @ errors / weights.sum(axis=1)
        return {**scored.auc_and_profit(weights), "brier": brier}

    found = bootstrap(statistics, len(y), resamples=RESAMPLES, seed=seed)
    return RealisedPerformance(
        month=month,
        model_version=version,
        source=source,
        rows=len(y),
        positives=int(y.sum()),
        expected_positives=float(p.sum()),
        in_training=month in training_months,
        release=str(rows[RELEASE].iloc[0]),
        role=str(rows[ROLE].iloc[0]),
        **found,
    )


def served_scores(traffic: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The last prediction for each known customer of a month, without those of the fallback."""
    rows = traffic[traffic[id_column(contract)].notna() & ~traffic["degraded"].astype(bool)]
    last = rows.sort_values([TIME, PREDICTION]).drop_duplicates(
        [id_column(contract), MONTH], keep="last"
    )
    columns = [id_column(contract), MONTH, PROBABILITY, VERSION, RELEASE, ROLE]
    scores = with_origin(last)[columns]
    return scores.rename(columns={id_column(contract): contract.id.name})


def performance_holds(
    series: Collection[RealisedPerformance],
    model_version: str,
    tested: Interval | None,
    limits: Limits,
) -> Verdict:
    """The ROC AUC of the latest month that can be judged is about that of the test rows.

    A drop at the limit passes. A month fails where the ROC AUC dropped by more than the limit and
    by more than chance explains: the lower 95% bound of the drop is above 0. The bound comes from
    the two intervals (Zou and Donner, "Construction of confidence limits about effect measures",
    Statistics in Medicine 2008). A month with few customers of a class is not judged: its
    resamples hardly differ, so the interval is too narrow.

    Args:
        model_version: Version to judge, by the graph's own scores.
        tested: ROC AUC of that version on the test rows.
    """
    limit, min_rows = limits.max_auc_drop, limits.min_realised_rows_of_each_class
    judged = [
        one
        for one in series
        if one.source == "scores"
        and one.model_version == model_version
        and not one.in_training
        and one.roc_auc.value is not None
        and min(one.positives, one.rows - one.positives) >= min_rows
    ]
    numbers: dict[str, float | int | str] = {
        "limit": limit, "model_version": model_version, "min_rows_of_each_class": min_rows
    }  # fmt: skip
    if tested is None or tested.value is None or not judged:
        text = (
            "there is no month yet that this model scored, that is not in its training set, and "
            f"that has at least {min_rows:,} churned and {min_rows:,} retained customers."
        )
        return not_judged(text, {"value": "undefined", **numbers})
    latest = max(judged, key=lambda one: one.month)
    drop, bound = _drop(tested, latest.roc_auc)
    chance = "more" if bound > 0 else "no more"
    return Verdict(
        drop <= limit or bound <= 0,
        f"ROC AUC in {latest.month} was {shown(latest.roc_auc.value)} (95% interval "
        f"{shown(latest.roc_auc.low)} to {shown(latest.roc_auc.high)}), against "
        f"{shown(tested.value)} on the test rows: a drop of {drop:.3f}, {chance} than chance "
        f"explains; it may be at most {limit:g}.",
        {
            "value": drop, **numbers, "month": latest.month, "lower_bound_of_drop": bound,
            "tested_roc_auc": tested.value, "expected_churners": latest.expected_positives,
            "churners": latest.positives,
        },
    )  # fmt: skip


def _drop(tested: Interval, found: Interval) -> tuple[float, float]:
    """Drop from `tested` to `found`, and the lower 95% bound of the drop."""
    before, now = tested.value or 0.0, found.value or 0.0
    drop = before - now
    if tested.low is None or found.high is None:
        return drop, drop
    return drop, drop - hypot(before - tested.low, found.high - now)
