"""Customer scores, their checks, and their drift against the test rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.contract import Economics
from churn_assets.contracts.loading import load_contract
from churn_assets.core.evaluation.metrics import row_gain
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.scores import (
    PredictionDrift,
    customer_scores,
    every_customer_scored,
    prediction_drift,
    risk_categories,
    score_distribution_as_tested,
    totals,
)
from churn_assets_tests.bentos import SCORER, model_card
from churn_assets_tests.core.typed_rows import TEXT, typed_rows

CONTRACT = load_contract("telecom")


def features(rows: int = 60, seed: int = 0) -> pd.DataFrame:
    frame = typed_rows(CONTRACT, rows, seed)
    return frame.assign(customer_id=pd.array([f"C{i:04}" for i in range(rows)], dtype=TEXT))


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    return customer_scores(frame, SCORER, CONTRACT, "7")


@given(st.permutations(range(60)))
@settings(deadline=None, max_examples=20)
def test_scores_do_not_depend_on_the_order_of_the_rows(order: list[int]) -> None:
    frame = features()
    pd.testing.assert_frame_equal(scored(frame.iloc[order]), scored(frame))


def test_scores_have_the_value_of_an_offer_and_a_rank() -> None:
    scores = scored(features())
    assert list(scores) == [
        "customer_id", "month", "churn_probability", "risk_category", "expected_value", "rank",
        "model_version",
    ]  # fmt: skip
    assert scores["rank"].tolist() == list(range(1, 61))
    assert scores["churn_probability"].is_monotonic_decreasing
    p = scores["churn_probability"].to_numpy()
    assert scores["expected_value"].to_numpy() == pytest.approx(p * 0.3 * 400 - 12)
    assert (scores["expected_value"] == row_gain(p, CONTRACT.economics)).all()
    assert set(scores["model_version"]) == {"7"}
    assert set(scores["month"]) == {"2026-03"}


def test_ties_are_ranked_by_id() -> None:
    frame = pd.concat([features(1)] * 5, ignore_index=True)
    frame["customer_id"] = pd.array(["C3", "C1", "C5", "C2", "C4"], dtype=TEXT)
    assert scored(frame)["customer_id"].tolist() == ["C1", "C2", "C3", "C4", "C5"]


@given(st.floats(0, 1), st.floats(0, 1000), st.booleans())
def test_the_risk_category_equals_that_of_the_model_card(
    p: float, cost: float, on_the_edge: bool
) -> None:
    economics = Economics(value_of_kept_customer=400, cost_of_offer=cost + 0.01, acceptance_rate=1)
    contract = CONTRACT.model_copy(update={"economics": economics})
    card = model_card(threshold=economics.break_even_probability)
    for one in (p, card.threshold, card.threshold / 2) if on_the_edge else (p,):
        assert risk_categories(np.array([one]), contract).tolist() == [card.risk_category(one)]


def without(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[1:]


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.head(1)])


def somebody_else(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(customer_id=frame["customer_id"].replace("C0001", "X"))


def no_probability(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(churn_probability=frame["churn_probability"].where(frame["rank"] > 1))


@pytest.mark.parametrize(
    ("change", "value"), [(without, 1), (twice, 1), (somebody_else, 2), (no_probability, 1)]
)
def test_each_customer_has_one_probability(change: Any, value: int) -> None:
    frame = features()
    good = every_customer_scored(scored(frame), frame, CONTRACT)
    assert good.passed
    assert (good.numbers["value"], good.numbers["limit"]) == (0, 0)
    bad = every_customer_scored(change(scored(frame)), frame, CONTRACT)
    assert not bad.passed
    assert bad.numbers["value"] == value


def test_an_empty_set_of_scores_fails() -> None:
    frame = features().iloc[:0]
    empty = scored(features()).iloc[:0]
    assert not every_customer_scored(empty, frame, CONTRACT).passed


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_identical_scores_do_not_drift(probabilities: list[float]) -> None:
    drift = prediction_drift(probabilities, probabilities)
    assert drift.psi == pytest.approx(0, abs=1e-12)
    assert drift.month == pytest.approx(drift.tested)
    assert score_distribution_as_tested(drift, Limits()).passed


def test_without_scores_the_distance_is_undefined() -> None:
    drift = prediction_drift([], [0.1, 0.2])
    assert (drift.rows, drift.psi, drift.mean) == (0, None, None)
    assert score_distribution_as_tested(drift, Limits()).outcome == "not judged"


@pytest.mark.parametrize(("psi", "passed"), [(0.2499, True), (0.25, True), (0.2501, False)])
def test_scores_may_drift_up_to_the_limit(psi: float, passed: bool) -> None:
    drift = PredictionDrift(
        rows=5, tested_rows=9, psi=psi, mean=0.2, tested_mean=0.1, edges=(), tested=(1,), month=(1,)
    )
    verdict = score_distribution_as_tested(drift, Limits())
    assert verdict.passed is passed
    assert (verdict.numbers["value"], verdict.numbers["limit"]) == (psi, 0.25)


def test_totals_count_customers_whose_offer_pays() -> None:
    scores = scored(features())
    found = totals(scores)
    worth = scores["expected_value"]
    assert found["expected_value"] == pytest.approx(worth[worth > 0].sum())
    assert found["low_risk"] + found["medium_risk"] + found["high_risk"] == 60
    assert found["expected_churners"] == pytest.approx(scores["churn_probability"].sum())
