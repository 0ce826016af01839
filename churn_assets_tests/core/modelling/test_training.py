"""Training is repeatable, keeps a customer in one fold, and prefers the simple model in a tie."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from churn_assets.core.modelling import training
from churn_assets.core.modelling.training import (
    TrainedModel,
    TrainingError,
    probabilities,
    refit,
    train,
)
from churn_assets_tests.core.modelling.small_contract import PLANS, small_contract

CONTRACT = small_contract(2, open_=False)
Logit = Callable[[np.ndarray, np.ndarray], np.ndarray]


def linear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 2 * x - y


def checkered(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns a logit that no sum over the inputs can express."""
    return 4 * np.sign(x * y)


def rows(n: int, seed: int, logit: Logit = linear, customers: int | None = None) -> pd.DataFrame:
    """Returns typed rows whose churn follows `logit` of the two numbers."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, n))
    ids = np.arange(n) if customers is None else random.integers(customers, size=n)
    return pd.DataFrame(
        {
            "id": pd.Series(ids.astype(str), dtype="string[pyarrow]"),
            "x0": x,
            "x1": np.where(random.random(n) < 0.1, np.nan, y),
            "plan": pd.Series(random.choice(PLANS, n), dtype="string[pyarrow]"),
            "churned": pd.Series(
                random.random(n) < 1 / (1 + np.exp(-logit(x, y))), dtype="boolean"
            ),
        }
    )


@pytest.fixture(autouse=True)
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    _shorten_search(monkeypatch)


def _shorten_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduces the search to fewer points and smaller trees."""
    monkeypatch.setattr(training, "SEARCH_CANDIDATES", 3)
    monkeypatch.setattr(training, "MIN_SEARCH_ROWS", 300)
    monkeypatch.setitem(training.SEARCH_SPACE, "max_iter", [20, 40])


@pytest.fixture(scope="module")
def trained_on_linear() -> TrainedModel:
    with pytest.MonkeyPatch.context() as patch:
        _shorten_search(patch)
        return train(rows(900, 0), rows(300, 1), CONTRACT, seed=3)


def test_the_simple_model_is_chosen_for_linear_data(trained_on_linear: TrainedModel) -> None:
    model = trained_on_linear
    assert model.chosen == "logistic"
    assert model.estimator is model.simple
    logistic, boosting = model.candidates
    assert (logistic.name, boosting.name) == ("logistic", "boosting")
    assert logistic.log_loss < boosting.log_loss + boosting.log_loss_std_error
    assert set(boosting.params) == set(training.SEARCH_SPACE)
    assert logistic.params == {"C": 1.0}


def test_boosting_is_chosen_if_it_is_clearly_better() -> None:
    model = train(rows(900, 0, checkered), rows(300, 1, checkered), CONTRACT)
    assert model.chosen == "boosting"
    assert model.estimator is not model.simple
    unseen = rows(600, 2, checkered)
    left = unseen["churned"].to_numpy(dtype=bool)
    assert roc_auc_score(left, probabilities(model.estimator, unseen, CONTRACT)) > 0.85
    assert roc_auc_score(left, probabilities(model.simple, unseen, CONTRACT)) < 0.6


def test_a_gain_within_one_standard_error_is_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    # Gains of 0, 0, 0, 0, 5: their mean is 1, and so is its standard error.
    losses = iter(
        [np.array([1.0, 1, 1, 1, 6]), np.ones(5), np.array([1.0, 1, 1, 2, 6]), np.ones(5)]
    )
    monkeypatch.setattr(training, "_cross_validate", lambda *_: (next(losses), np.ones(5)))
    frames = rows(300, 0), rows(100, 1)
    assert train(*frames, CONTRACT).chosen == "logistic"
    assert train(*frames, CONTRACT).chosen == "boosting"


def test_the_same_rows_and_seed_give_the_same_bits(trained_on_linear: TrainedModel) -> None:
    again = train(rows(900, 0), rows(300, 1), CONTRACT, seed=3)
    unseen = rows(500, 2)
    for one, other in (
        (trained_on_linear.estimator, again.estimator),
        (trained_on_linear.simple, again.simple),
    ):
        first, second = (probabilities(m, unseen, CONTRACT) for m in (one, other))
        assert first.tobytes() == second.tobytes()
    assert trained_on_linear.candidates == again.candidates


def test_boosting_gives_the_same_bits_too() -> None:
    frames = rows(400, 0, checkered), rows(200, 1, checkered)
    model = train(*frames, CONTRACT)
    assert model.chosen == "boosting"
    models = model.estimator, train(*frames, CONTRACT).estimator, refit(model, *frames, CONTRACT)
    first, second, third = (probabilities(m, rows(300, 2), CONTRACT).tobytes() for m in models)
    assert first == second == third


def test_probabilities_are_calibrated_on_rows_not_trained_on(
    trained_on_linear: TrainedModel,
) -> None:
    unseen = rows(4000, 5)
    mean = probabilities(trained_on_linear.estimator, unseen, CONTRACT).mean()
    assert mean == pytest.approx(unseen["churned"].mean(), abs=0.05)


def test_an_empty_frame_gives_no_probabilities(trained_on_linear: TrainedModel) -> None:
    assert probabilities(trained_on_linear.estimator, rows(0, 0), CONTRACT).shape == (0,)


def test_folds_keep_customers_together_and_churn_rates_equal() -> None:
    frame = rows(3000, 0, customers=700)
    ids, left = frame["id"].to_numpy(), frame["churned"].to_numpy(dtype=bool)
    folds = training._folds(frame, CONTRACT, 0)
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(3000))
    for fitted_on, held_out in folds:
        assert not set(ids[fitted_on]) & set(ids[held_out])
        assert len(fitted_on) + len(held_out) == 3000
        assert left[held_out].mean() == pytest.approx(left.mean(), abs=0.05)


def test_the_search_uses_separate_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    of_search: list[training.Folds] = []
    search = training._search

    def spy(*arguments: Any) -> training.Params:
        of_search.append(arguments[3])
        return search(*arguments)

    monkeypatch.setattr(training, "_search", spy)
    frame = rows(300, 0)
    train(frame, rows(100, 1), CONTRACT, seed=4)
    compared = [set(held_out) for _, held_out in training._folds(frame, CONTRACT, 4)]
    assert all(set(held_out) not in compared for _, held_out in of_search[0])


def with_labels(frame: pd.DataFrame, labels: object) -> pd.DataFrame:
    return frame.assign(churned=pd.array(np.broadcast_to(labels, len(frame)), dtype="boolean"))


@pytest.mark.parametrize(
    ("of_training", "of_calibration", "fault"),
    [
        (
            rows(0, 0),
            rows(0, 0),
            "at least 5 customers who left are needed among the training rows, there are 0",
        ),
        (
            with_labels(rows(300, 0), True),
            rows(100, 1),
            "at least 5 customers who never left are needed among the training rows, there are 0",
        ),
        (
            with_labels(rows(300, 0), np.arange(300) < 4),
            rows(100, 1),
            "at least 5 customers who left are needed among the training rows, there are 4",
        ),
        (
            rows(300, 0),
            with_labels(rows(100, 1), False),
            "at least 5 customers who left are needed among the calibration rows, there are 0",
        ),
    ],
)
def test_too_few_customers_are_reported(
    of_training: pd.DataFrame, of_calibration: pd.DataFrame, fault: str
) -> None:
    with pytest.raises(TrainingError, match=fault):
        train(of_training, of_calibration, CONTRACT)


def test_an_unknown_label_is_refused() -> None:
    frame = rows(300, 0)
    frame.loc[7, "churned"] = pd.NA
    with pytest.raises(TrainingError, match="1 training rows have none"):
        train(frame, rows(100, 1), CONTRACT)
