"""Both candidates fit all data that a contract allows, and can be stored without pickle."""

from collections.abc import Callable

import numpy as np
import pytest
import skops.io
from sklearn.pipeline import Pipeline

from churn_assets.contracts.contract import Contract
from churn_assets.core.modelling.pipelines import (
    SKOPS_TRUSTED,
    boosting_pipeline,
    logistic_pipeline,
)
from churn_assets_tests.core.modelling.small_contract import calibrated, customers, small_contract

Make = Callable[[Contract], Pipeline]
BOTH = pytest.mark.parametrize("make", [logistic_pipeline, boosting_pipeline])


@BOTH
def test_a_model_round_trips_through_skops(make: Make) -> None:
    contract = small_contract()
    frame = customers(contract, 300, 0, wild=False)
    model = calibrated(make(contract), frame, 0)
    loaded = skops.io.loads(skops.io.dumps(model), trusted=list(SKOPS_TRUSTED))
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))


def test_only_types_that_are_needed_are_trusted() -> None:
    contract = small_contract()
    frame = customers(contract, 300, 0, wild=False)
    needed: set[str] = set()
    for make in (logistic_pipeline, boosting_pipeline):
        stored = skops.io.dumps(calibrated(make(contract), frame, 0))
        needed |= set(skops.io.get_untrusted_types(data=stored))
    assert needed == set(SKOPS_TRUSTED)


@BOTH
@pytest.mark.parametrize(
    ("numbers", "closed", "open_"), [(2, False, False), (0, True, False), (0, False, True)]
)
def test_any_kind_of_input_may_be_missing(
    make: Make, numbers: int, closed: bool, open_: bool
) -> None:
    contract = small_contract(numbers, closed=closed, open_=open_)
    frame = customers(contract, 100, 0, wild=False)
    probabilities = calibrated(make(contract), frame, 0).predict_proba(frame)
    assert np.isfinite(probabilities).all()


@BOTH
def test_all_inputs_may_be_null_throughout(make: Make) -> None:
    contract = small_contract()
    nothing = frozenset(contract.model_inputs)
    frame = customers(contract, 100, 0, wild=False, empty=nothing)
    full = customers(contract, 100, 1, wild=True)
    probabilities = calibrated(make(contract), frame, 0).predict_proba(full)
    assert np.isfinite(probabilities).all()


@BOTH
def test_numbers_beyond_the_limit_are_clipped(make: Make) -> None:
    contract = small_contract()
    model = calibrated(make(contract), customers(contract, 300, 0, wild=False), 0)
    frame = customers(contract, 6, 1, wild=False)
    frame["x0"] = [np.inf, 1e300, 1e15, -np.inf, -1e300, -1e15]
    frame.loc[:, frame.columns != "x0"] = frame.loc[0, frame.columns != "x0"].to_numpy()
    probabilities = model.predict_proba(frame)[:, 1]
    assert len(set(probabilities[:3])) == len(set(probabilities[3:])) == 1
