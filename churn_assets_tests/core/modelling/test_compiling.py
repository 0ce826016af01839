"""The compiled scorer equals the sklearn pipeline to 1e-12, for any model and customer."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from threadpoolctl import threadpool_limits

from churn_assets.core.modelling.compiling import compile_scorer
from churn_assets.core.modelling.pipelines import boosting_pipeline, logistic_pipeline
from churn_assets.core.modelling.scorer import Scorer
from churn_assets_tests.core.modelling.small_contract import calibrated, customers, small_contract

SHAPES = st.sampled_from([(3, True, True), (1, False, True), (2, True, False), (0, True, True)])


def assert_same(model: CalibratedClassifierCV, scorer: Scorer, frame: pd.DataFrame) -> None:
    """Asserts that batch scores equal the pipeline's, and single scores the batch scores."""
    columns = {name: frame[name].to_numpy() for name in scorer.inputs}
    batch = scorer.score(columns)
    with threadpool_limits(1):
        expected = model.predict_proba(frame)[:, 1]
    np.testing.assert_allclose(batch, expected, rtol=0, atol=1e-12)
    lists = {
        name: frame[name].astype(object).where(frame[name].notna(), None).tolist()
        for name in scorer.inputs
    }
    alone = [
        scorer.score_one(dict(zip(lists, row, strict=True)))
        for row in zip(*lists.values(), strict=True)
    ]
    assert batch.tolist() == alone


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=SHAPES,
    seed=st.integers(0, 2**32 - 1),
    leaves=st.integers(2, 64),
    trees=st.integers(1, 12),
    n=st.integers(40, 400),
    empty=st.frozensets(st.sampled_from(["x0", "x1", "city", "plan"]), max_size=2),
)
def test_boosting_scorer_equals_the_pipeline(
    shape: tuple[int, bool, bool],
    seed: int,
    leaves: int,
    trees: int,
    n: int,
    empty: frozenset[str],
) -> None:
    contract = small_contract(shape[0], closed=shape[1], open_=shape[2])
    pipeline = boosting_pipeline(contract, seed)
    pipeline.set_params(
        model__max_leaf_nodes=leaves, model__max_iter=trees, model__min_samples_leaf=3
    )
    model = calibrated(pipeline, customers(contract, n, seed, wild=False, empty=empty), seed)
    scorer = compile_scorer(model, contract)
    assert_same(model, scorer, customers(contract, 150, seed + 1, wild=True))
    assert_same(model, scorer, customers(contract, 50, seed, wild=False))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=SHAPES,
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(40, 400),
    empty=st.frozensets(st.sampled_from(["x0", "x1", "city", "plan"]), max_size=2),
)
def test_logistic_scorer_equals_the_pipeline(
    shape: tuple[int, bool, bool], seed: int, n: int, empty: frozenset[str]
) -> None:
    contract = small_contract(shape[0], closed=shape[1], open_=shape[2])
    frame = customers(contract, n, seed, wild=False, empty=empty)
    model = calibrated(logistic_pipeline(contract, seed), frame, seed)
    scorer = compile_scorer(model, contract)
    assert_same(model, scorer, customers(contract, 150, seed + 1, wild=True))


@pytest.mark.parametrize("make", [boosting_pipeline, logistic_pipeline])
def test_training_on_extremes_does_no_harm(make: object) -> None:
    contract = small_contract()
    frame = customers(contract, 400, 0, wild=True)
    model = calibrated(make(contract), frame, 0)  # type: ignore[operator]
    assert_same(model, compile_scorer(model, contract), customers(contract, 400, 1, wild=True))


@pytest.mark.parametrize(("leaves", "width"), [(8, 1), (9, 2), (17, 4), (33, 8), (64, 8)])
def test_masks_are_as_narrow_as_the_leaves_allow(leaves: int, width: int) -> None:
    contract = small_contract()
    pipeline = boosting_pipeline(contract).set_params(
        model__max_leaf_nodes=leaves, model__max_iter=3, model__min_samples_leaf=1
    )
    frame = customers(contract, 1500, 3, wild=False)
    model = calibrated(pipeline, frame, 3)
    scorer = compile_scorer(model, contract)
    assert scorer.masks.itemsize == width  # type: ignore[attr-defined]
    assert_same(model, scorer, frame)


def test_more_than_64_leaves_are_refused() -> None:
    contract = small_contract()
    pipeline = boosting_pipeline(contract).set_params(
        model__max_leaf_nodes=65, model__max_iter=1, model__min_samples_leaf=1
    )
    model = calibrated(pipeline, customers(contract, 1500, 3, wild=False), 3)
    with pytest.raises(ValueError, match="65 leaves"):
        compile_scorer(model, contract)


def test_another_calibration_is_refused() -> None:
    contract = small_contract()
    frame = customers(contract, 100, 3, wild=False)
    model = calibrated(logistic_pipeline(contract), frame, 3)
    other = CalibratedClassifierCV(model.estimator, method="isotonic")
    with pytest.raises(ValueError, match="isotonic"):
        compile_scorer(other.fit(frame, np.arange(100) % 2 == 0), contract)
