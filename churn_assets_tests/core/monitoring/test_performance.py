"""Realised performance: scores and served predictions compared with labels."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from churn_assets.contracts.loading import load_contract
from churn_assets.core.evaluation.metrics import Interval
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.performance import (
    RealisedPerformance,
    last_realised,
    performance_holds,
    realised_performance,
    served_scores,
)
from churn_assets.core.scoring.traffic import ORIGIN, as_traffic
from churn_assets_tests.core.typed_rows import TEXT

CONTRACT = load_contract("telecom")
NOTHING = pd.DataFrame()


def month(name: str, rows: int = 400, version: str = "1") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores, and labels drawn with their probabilities."""
    random = np.random.default_rng(rows)
    p = random.beta(1, 6, rows)
    ids = pd.array([f"C{i:05}" for i in range(rows)], dtype=TEXT)
    common = {"customer_id": ids, "month": pd.array([name] * rows, dtype=TEXT)}
    scores = pd.DataFrame(
        {**common, "churn_probability": p, "model_version": pd.array([version] * rows, dtype=TEXT)}
    )
    labels = {"churned": pd.array(random.random(rows) < p, dtype="boolean")}
    return scores, pd.DataFrame({**common, **labels})


def training_months(_: str) -> Collection[str]:
    return ("2026-01",)


def series(
    *pairs: tuple[pd.DataFrame, pd.DataFrame], traffic: pd.DataFrame = NOTHING
) -> tuple[RealisedPerformance, ...]:
    scores, labels = (pd.concat(parts, ignore_index=True) for parts in zip(*pairs, strict=True))
    return realised_performance(
        scores, traffic, labels, CONTRACT, training_months=training_months, seed=0
    )


def test_metrics_of_each_month_equal_sklearns() -> None:
    pairs = [month("2026-01"), month("2026-02", 500, "2")]
    found = series(*pairs)
    assert [(one.month, one.model_version, one.rows) for one in found] == [
        ("2026-01", "1", 400), ("2026-02", "2", 500)
    ]  # fmt: skip
    assert [one.in_training for one in found] == [True, False]
    for one, (scores, labels) in zip(found, pairs, strict=True):
        y, p = labels["churned"].astype(bool), scores["churn_probability"]
        assert one.roc_auc.value == pytest.approx(roc_auc_score(y, p))
        assert one.brier.value == pytest.approx(brier_score_loss(y, p))
        assert one.positives == y.sum()
        assert one.expected_positives == pytest.approx(p.sum())
        for metric in (one.roc_auc, one.brier, one.profit_per_customer):
            assert metric.low < metric.value < metric.high  # type: ignore[operator]


def test_metrics_do_not_depend_on_the_order_of_the_rows() -> None:
    scores, labels = month("2026-02")
    shuffled = scores.sample(frac=1, random_state=1), labels.sample(frac=1, random_state=2)
    assert series(shuffled) == series((scores, labels))


def test_only_customers_with_a_score_and_a_label_count() -> None:
    scores, labels = month("2026-02")
    labels["churned"] = labels["churned"].mask(np.arange(len(labels)) < 100)
    [found] = series((scores.iloc[:300], labels))
    assert found.rows == 200


def test_a_month_of_one_class_has_no_roc_auc() -> None:
    scores, labels = month("2026-02")
    [found] = series((scores, labels.assign(churned=pd.array([False] * 400, dtype="boolean"))))
    assert found.roc_auc.value is None
    assert found.brier.value is not None
    assert performance_holds([found], "1", interval(0.8), Limits()).passed


def test_without_labels_or_scores_there_is_no_result() -> None:
    scores, labels = month("2026-02")
    for given in ((scores, NOTHING), (NOTHING, labels), (NOTHING, NOTHING)):
        assert (
            realised_performance(
                given[0], NOTHING, given[1], CONTRACT, training_months=training_months, seed=0
            )
            == ()
        )


def test_the_last_served_prediction_of_the_model_counts() -> None:
    rows = pd.DataFrame(
        {
            "prediction_id": list("abcde"),
            "time": pd.to_datetime([f"2026-03-0{i}" for i in (3, 1, 2, 4, 5)], utc=True),
            "customer_id": ["C1", "C1", "C2", "C1", None],
            "degraded": [False, False, False, True, False],
            "churn_probability": [0.3, 0.1, 0.2, 0.4, 0.5],
            "model_version": "1",
        }
    )
    scores = served_scores(as_traffic(rows, CONTRACT, "2026-02"), CONTRACT)
    found = scores.set_index("customer_id")["churn_probability"].to_dict()
    assert found == {"C1": 0.3, "C2": 0.2}


def served(scores: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Traffic in which the service gave these scores."""
    requested = scores.assign(
        prediction_id=[f"p{i}" for i in range(len(scores))], degraded=False,
        time=pd.Timestamp("2026-03-01", tz="UTC"), **columns,
    )  # fmt: skip
    return as_traffic(requested, CONTRACT, "2026-02")


def test_served_predictions_are_measured_separately() -> None:
    scores, labels = month("2026-02")
    found = series((scores, labels), traffic=served(scores.head(50)))
    assert [(one.source, one.rows) for one in found] == [("scores", 400), ("served", 50)]


def test_a_canary_is_measured_apart_from_the_stable_version() -> None:
    scores, labels = month("2026-02")
    origin = {"release": "churn", "role": ["canary"] * 30 + ["stable"] * 70}
    found = series((scores, labels), traffic=served(scores.head(100), **origin))
    assert [(one.source, one.origin, one.rows) for one in found] == [
        ("scores", "", 400), ("served", "churn, canary", 30), ("served", "churn, stable", 70)
    ]  # fmt: skip


def test_traffic_that_was_stored_without_origin_is_measured() -> None:
    scores, labels = month("2026-02")
    stored = served(scores.head(50)).drop(columns=list(ORIGIN))
    for traffic in (stored, stored.assign(role=None)):
        found = series((scores, labels), traffic=traffic)
        assert [(one.source, one.rows) for one in found] == [("scores", 400), ("served", 50)]


def interval(value: float, half: float = 0.01) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def one(auc: float, half: float = 0.01, **changes: Any) -> RealisedPerformance:
    fields = {
        "month": "2026-02", "model_version": "1", "source": "scores", "rows": 500, "positives": 20,
        "expected_positives": 9.5, "brier": interval(0.1), "profit_per_customer": interval(1.0),
        "in_training": False,
    }  # fmt: skip
    return RealisedPerformance(**(fields | changes), roc_auc=interval(auc, half))


@pytest.mark.parametrize(("auc", "passed"), [(0.51, True), (0.5, True), (0.49, False)])
def test_performance_may_drop_up_to_the_limit(auc: float, passed: bool) -> None:
    verdict = performance_holds([one(auc)], "1", interval(0.75), Limits(max_auc_drop=0.25))
    assert verdict.passed is passed
    assert verdict.numbers["value"] == pytest.approx(0.75 - auc)
    assert verdict.numbers["limit"] == 0.25
    assert (verdict.numbers["churners"], verdict.numbers["expected_churners"]) == (20, 9.5)


@pytest.mark.parametrize(("half", "passed"), [(0.11, False), (0.13, False), (0.15, True)])
def test_an_insignificant_drop_passes(half: float, passed: bool) -> None:
    # sqrt(half² + half²) against the drop of 0.2.
    verdict = performance_holds([one(0.6, half)], "1", interval(0.8, half), Limits())
    assert verdict.passed is passed
    assert ("no more than chance" in verdict.description) is passed


def test_only_the_latest_month_outside_the_training_set_is_judged() -> None:
    bad = 0.5
    others = [
        one(bad, month="2026-01"), one(bad, month="2026-03", in_training=True),
        one(bad, month="2026-03", source="served"), one(bad, month="2026-03", model_version="2"),
    ]  # fmt: skip
    assert performance_holds([*others, one(0.8)], "1", interval(0.8), Limits()).passed
    assert not performance_holds([*others, one(bad)], "1", interval(0.8), Limits()).passed
    verdict = performance_holds(others[1:], "1", interval(0.8), Limits())
    assert verdict.outcome == "not judged"
    assert "there is no month yet" in verdict.description


@pytest.mark.parametrize(
    ("rows", "positives", "passed"),
    [(500, 19, True), (500, 20, False), (40, 20, False), (39, 20, True), (2, 1, True)],
)
def test_a_month_with_few_customers_of_a_class_is_not_judged(
    rows: int, positives: int, passed: bool
) -> None:
    # With one row of each class, all valid resamples are equal: the interval has no width.
    bad = one(0.0, 0.0, rows=rows, positives=positives)
    verdict = performance_holds([bad], "1", interval(0.8), Limits())
    assert verdict.passed is passed
    assert verdict.numbers["min_rows_of_each_class"] == 20


@pytest.mark.parametrize(
    ("month", "horizon", "last"),
    [("2026-03", 1, "2026-02"), ("2026-01", 3, "2025-10"), ("2026-01", 0, "2026-01")],
)
def test_labels_are_known_one_horizon_later(month: str, horizon: int, last: str) -> None:
    assert last_realised(month, horizon) == last
