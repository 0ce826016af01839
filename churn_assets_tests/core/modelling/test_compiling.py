"""The scorer is the sklearn pipeline, to 1e-12, whatever the model and whoever the customer."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from churn_assets.contracts.contract import Column, Contract, Economics
from churn_assets.core.modelling.compiling import compile_scorer
from churn_assets.core.modelling.pipelines import boosting_pipeline, logistic_pipeline
from churn_assets.core.modelling.scorer import Scorer

PLANS = ("basic", "plus", "", "premium")
CITIES = tuple(f"city {i}" for i in range(60))
EXTREMES = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e15, -1e15, -2e15, -0.0, 5e-324)


def small_contract(numbers: int = 3, *, closed: bool = True, open_: bool = True) -> Contract:
    """A contract of so many numbers, a closed category and an open one between them."""

    def column(name: str, role: str, kind: str, **marks: object) -> Column:
        return Column(name=name, source_name=name, role=role, kind=kind, description=name, **marks)  # type: ignore[arg-type]

    features = [column(f"x{i}", "feature", "number") for i in range(numbers)]
    if open_:
        features.insert(0, column("city", "feature", "category"))
    if closed:
        features.append(column("plan", "feature", "category", values=PLANS))
    return Contract(
        name="small",
        version="1",
        description="small",
        horizon_months=1,
        economics=Economics(value_of_kept_customer=9, cost_of_offer=1, acceptance_rate=0.5),
        columns=(column("id", "id", "text"), *features, column("churned", "label", "flag")),
        source="file",
    )


SHAPES = st.sampled_from([(3, True, True), (1, False, True), (2, True, False), (0, True, True)])


def customers(
    contract: Contract, n: int, seed: int, *, wild: bool, empty: frozenset[str] = frozenset()
) -> pd.DataFrame:
    """Random model inputs; wild ones have extremes and categories that training never saw."""
    random = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(contract.model_inputs):
        if name in contract.numbers:
            # Few distinct values: customers lie on the thresholds themselves.
            values = random.normal(size=n).round(i) * 10.0 ** random.integers(-3, 6)
            known = EXTREMES
        else:
            named = contract[name].values
            values = random.choice(np.array(named[:3] if named else CITIES, dtype=object), n)
            known = (np.nan, *(named or ("nowhere", "")))
        extreme = random.random(n) < (0.4 if wild else 0.1)
        chosen = np.array(known, dtype=object)[random.integers(len(known), size=n)]
        values = np.where(extreme, chosen if wild else np.nan, values)
        if name in contract.numbers:
            values = values.astype(np.float64)
        if name in empty:
            values[:] = np.nan
        columns[name] = values
    return pd.DataFrame(columns)


def calibrated(pipeline: Pipeline, frame: pd.DataFrame, seed: int) -> CalibratedClassifierCV:
    random = np.random.default_rng(seed)
    first = frame.iloc[:, 0]
    known = pd.factorize(first)[0] if first.dtype == object else first.fillna(0)
    signal = np.clip(np.asarray(known), -1e6, 1e6)
    noise = random.normal(size=len(frame)) * (np.std(signal) + 0.1)
    left = np.asarray(signal + noise > np.median(signal + noise))
    with threadpool_limits(1):
        fitted = FrozenEstimator(pipeline.fit(frame, left))
        return CalibratedClassifierCV(fitted).fit(frame, left)


def assert_same(model: CalibratedClassifierCV, scorer: Scorer, frame: pd.DataFrame) -> None:
    """Batch as the pipeline, one customer as the batch."""
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
def test_boosting_scorer_is_the_pipeline(
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
def test_logistic_scorer_is_the_pipeline(
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
