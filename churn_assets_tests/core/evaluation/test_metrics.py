"""Metrics equal sklearn's for any weighting, including ties; intervals have their coverage."""

import time

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.contract import Economics
from churn_assets.core.evaluation.metrics import (
    METRICS,
    Interval,
    Scored,
    bootstrap,
    bootstrap_weights,
    calibration_bins,
)

ECONOMICS = Economics(value_of_kept_customer=100, cost_of_offer=10, acceptance_rate=0.5)


@st.composite
def weighted_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws labels of both classes, probabilities with ties and extremes, and resample weights."""
    rows = draw(st.integers(2, 40))
    some = {"min_size": rows, "max_size": rows}
    y = draw(st.lists(st.integers(0, 1), **some))
    y[0], y[1] = 0, 1
    few = st.sampled_from((0.0, 0.1, 0.2, 0.5, 1.0))
    p = draw(st.lists(st.one_of(few, st.floats(0, 1)), **some))
    weights = draw(st.lists(st.integers(0, 3), **some))
    weights[0], weights[1] = max(weights[0], 1), max(weights[1], 1)
    return np.array(y, float), np.array(p), np.array(weights, float)


@given(weighted_rows())
@settings(deadline=None, max_examples=100)
def test_metrics_equal_sklearn(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    y, p, weights = rows
    ours = Scored.of(y, p, ECONOMICS).metrics(weights[None])

    def equals(name: str, theirs: float) -> None:
        assert ours[name][0] == pytest.approx(theirs, rel=1e-9, abs=1e-9), name

    equals("roc_auc", reference.roc_auc_score(y, p, sample_weight=weights))
    equals("pr_auc", reference.average_precision_score(y, p, sample_weight=weights))
    equals("log_loss", reference.log_loss(y, p, sample_weight=weights, labels=[0, 1]))
    equals("brier", reference.brier_score_loss(y, p, sample_weight=weights))
    predicted = p >= ECONOMICS.break_even_probability
    equals("accuracy", reference.accuracy_score(y, predicted, sample_weight=weights))


@given(weighted_rows())
@settings(deadline=None, max_examples=50)
def test_a_weight_is_a_number_of_copies(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    y, p, weights = rows
    copies = weights.astype(int)
    weighted = Scored.of(y, p, ECONOMICS).metrics(weights[None])
    repeated = Scored.of(y.repeat(copies), p.repeat(copies), ECONOMICS)
    copied = repeated.metrics(np.ones((1, copies.sum())))
    # By design the calibration error uses the bins of the unweighted rows.
    for name in set(METRICS) - {"calibration_error"}:
        assert weighted[name] == pytest.approx(copied[name], rel=1e-9, abs=1e-9), name


@given(weighted_rows(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_the_order_of_rows_does_not_matter(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray], random: object
) -> None:
    y, p, weights = rows
    order = list(range(len(y)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = Scored.of(y, p, ECONOMICS).metrics(weights[None])
    other = Scored.of(y[order], p[order], ECONOMICS).metrics(weights[None, order])
    for name in METRICS:
        assert one[name] == pytest.approx(other[name], rel=1e-9, abs=1e-9), name


def test_lift_recall_and_precision_count_the_best_deciles() -> None:
    p = np.linspace(0.99, 0.01, 100)
    y = np.zeros(100)
    y[[0, 1, 2, 3, 4, 12, 13, 25, 60, 90]] = 1
    values = {k: v[0] for k, v in Scored.of(y, p, ECONOMICS).metrics(np.ones((1, 100))).items()}
    found = {10: 5, 20: 7, 30: 8}
    for share, hits in found.items():
        assert values[f"recall_top_{share}"] == pytest.approx(hits / 10)
        assert values[f"precision_top_{share}"] == pytest.approx(hits / share)
        assert values[f"lift_top_{share}"] == pytest.approx(hits / share / 0.1)


def test_a_constant_score_has_no_lift() -> None:
    y = np.tile([1.0, 0.0, 0.0, 0.0], 25)
    values = Scored.of(y, np.full(100, 0.25), ECONOMICS).metrics(np.ones((1, 100)))
    assert values["lift_top_10"] == pytest.approx(1)
    assert values["recall_top_30"] == pytest.approx(0.3)
    assert values["roc_auc"] == pytest.approx(0.5)
    assert values["calibration_error"] == pytest.approx(0)


def test_profit_counts_offers_from_the_break_even_probability_on() -> None:
    y = np.array([1.0, 0.0, 1.0, 0.0])
    p = np.array([0.9, 0.2, 0.19, 0.1])  # break-even is 10 / (0.5 * 100) = 0.2
    values = Scored.of(y, p, ECONOMICS).metrics(np.ones((1, 4)))
    assert values["profit_per_customer"] == pytest.approx(((50 - 10) + (0 - 10)) / 4)


def test_accuracy_is_that_of_the_break_even_probability() -> None:
    below, at, above = np.nextafter(0.2, 0), 0.2, np.nextafter(0.2, 1)
    for p, right in ((below, 0.0), (at, 1.0), (above, 1.0)):
        churned = Scored.of([1.0], [p], ECONOMICS).metrics(np.ones((1, 1)))
        retained = Scored.of([0.0], [p], ECONOMICS).metrics(np.ones((1, 1)))
        assert (churned["accuracy"][0], retained["accuracy"][0]) == (right, 1 - right)


def test_calibration_bins_have_equal_rows_and_keep_ties_together() -> None:
    bins = calibration_bins(np.linspace(0, 1, 1000))
    assert np.bincount(bins).tolist() == [100] * 10
    tied = calibration_bins(np.repeat([0.1, 0.2, 0.7], 500))
    assert all(len(set(tied[start : start + 500])) == 1 for start in (0, 500, 1000))


@pytest.mark.parametrize(("rows", "bins"), [(1, 1), (199, 1), (200, 2), (999, 9), (5000, 10)])
def test_few_rows_make_few_bins(rows: int, bins: int) -> None:
    assert len(set(calibration_bins(np.linspace(0, 1, rows)))) == bins


def test_probabilities_that_are_off_by_a_tenth_have_that_calibration_error() -> None:
    y = np.concatenate([np.arange(10) < 10 * value for value in np.arange(10) / 10])
    p = np.repeat(np.arange(10) / 10, 10) + 0.1
    values = Scored.of(y, p, ECONOMICS).metrics(np.ones((1, 100)))
    assert values["calibration_error"] == pytest.approx(0.1)


def test_one_class_leaves_rankings_undefined_not_losses() -> None:
    scored = Scored.of(np.zeros(10), np.linspace(0.1, 0.9, 10), ECONOMICS)
    found = bootstrap(scored.metrics, 10, resamples=20, seed=0)
    assert found["roc_auc"] == Interval(value=None, low=None, high=None)
    assert found["lift_top_10"].value is None
    assert found["brier"].low is not None


def test_resamples_without_a_class_are_left_out() -> None:
    y = np.array([1.0, 0.0, 0.0])
    found = bootstrap(
        Scored.of(y, np.array([0.9, 0.2, 0.1]), ECONOMICS).metrics, 3, resamples=50, seed=1
    )
    assert found["roc_auc"] == Interval(value=1.0, low=1.0, high=1.0)


def test_a_single_row_has_losses() -> None:
    found = bootstrap(Scored.of([True], [0.5], ECONOMICS).metrics, 1, resamples=5, seed=0)
    assert found["log_loss"].value == pytest.approx(np.log(2))


def test_resamples_draw_as_many_rows_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_assets.core.evaluation.metrics.MOST_CELLS", 700)
    chunks = list(bootstrap_weights(100, 20, seed=3))
    assert [chunk.shape for chunk in chunks] == [(7, 100), (7, 100), (6, 100)]
    assert all((chunk.sum(axis=1) == 100).all() for chunk in chunks)


def test_customers_are_drawn_with_all_their_rows() -> None:
    customers = np.array([0, 1, 0, 2, 1, 0])
    weights = np.concatenate(list(bootstrap_weights(6, 50, 3, customers)))
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(0)
    p = random.random(300)
    scored = Scored.of(random.random(300) < p, p, ECONOMICS)
    one, same, other = (bootstrap(scored.metrics, 300, resamples=50, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_intervals_have_about_their_nominal_coverage() -> None:
    truth = 5 / 6  # ROC AUC if p is uniform and is the true probability
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        p = random.random(300)
        scored = Scored.of(random.random(300) < p, p, ECONOMICS)
        auc = bootstrap(scored.metrics, 300, resamples=200, seed=seed)["roc_auc"]
        held += auc.low <= truth <= auc.high  # type: ignore[operator]
    assert 88 <= held <= 100


def test_the_interval_of_the_calibration_error_contains_its_value() -> None:
    random = np.random.default_rng(0)
    p = random.random(2000)
    error = bootstrap(
        Scored.of(random.random(2000) < p, p, ECONOMICS).metrics, 2000, resamples=200, seed=0
    )["calibration_error"]
    assert error.low is not None
    assert error.high is not None
    assert 0 <= error.low <= (error.value or 0) <= error.high


def test_twenty_thousand_rows_take_seconds() -> None:
    random = np.random.default_rng(0)
    p = random.random(20_000)
    scored = Scored.of(random.random(20_000) < p, p, ECONOMICS)
    start = time.perf_counter()
    bootstrap(scored.metrics, 20_000, resamples=500, seed=0)
    assert time.perf_counter() - start < 10  # takes a second on an idle machine


def test_classes_are_drawn_separately_and_rows_of_a_customer_together() -> None:
    classes = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    for weights in bootstrap_weights(6, 50, 0, classes=classes):
        assert (weights @ classes == 2).all()
        assert (weights.sum(axis=1) == 6).all()
    customers = np.array([0, 0, 1, 2, 3, 3])  # the first and the last left in one of two months
    for weights in bootstrap_weights(6, 50, 0, customers, classes):
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 0] + weights[:, 4] == 2).all()
        assert (weights[:, 2] + weights[:, 3] == 2).all()


@given(weighted_rows())
@settings(deadline=None, max_examples=50)
def test_auc_and_profit_equal_those_of_all_metrics(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    y, p, weights = rows
    scored = Scored.of(y, p, ECONOMICS)
    alone, everything = scored.auc_and_profit(weights[None]), scored.metrics(weights[None])
    assert set(alone) == {"roc_auc", "profit_per_customer"}
    for name, values in alone.items():
        assert values == pytest.approx(everything[name], rel=1e-12), name
