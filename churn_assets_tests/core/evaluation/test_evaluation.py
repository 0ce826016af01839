"""The evaluation report: its content, and the conditions under which its checks pass."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.leaks import Association
from churn_assets.core.evaluation.evaluation import (
    About,
    EvaluationReport,
    auc_above_floor,
    beats_simple_baseline,
    evaluate,
    features_behind,
    model_not_too_good,
    no_weak_slice,
    well_calibrated,
)
from churn_assets.core.evaluation.metrics import METRICS, Interval
from churn_assets.core.evaluation.slices import MOST_VALUES
from churn_assets.core.limits import Limits
from churn_assets_tests.core.typed_rows import TEXT, typed_rows, with_labels

CONTRACT = load_contract("telecom")
ROWS = 1500


def rows(contract: Contract = CONTRACT, by: str = "avg_monthly_charges") -> Any:
    return with_labels(typed_rows(contract, ROWS), contract, by)


def report_of(frame: pd.DataFrame, p: np.ndarray, **values: Any) -> EvaluationReport:
    simple = np.full(len(frame), frame["churned"].mean())
    return evaluate(
        frame, p, values.pop("baseline", simple), values.pop("contract", CONTRACT),
        values.pop("limits", Limits()), resamples=100, **values,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    frame, hazard = rows()
    return report_of(frame, hazard)


def changed(report: EvaluationReport, **limits: float) -> EvaluationReport:
    return report.model_copy(update={"limits": Limits(**limits)})


def test_report_describes_what_was_evaluated(report: EvaluationReport) -> None:
    frame, _ = rows()
    assert (report.rows, report.positives) == (ROWS, int(frame["churned"].sum()))
    assert report.months == ("2026-03",)
    assert (report.contract_name, report.contract_version) == ("telecom", CONTRACT.version)
    assert tuple(report.metrics) == METRICS


def test_months_are_optional_and_about_is_taken_from_the_caller() -> None:
    frame, hazard = rows()
    about = About(model_version="3", mlflow_run_id="abc", table_versions={"training_set": 7})
    report = report_of(frame.drop(columns="month"), hazard, about=about)
    assert report.months == ()
    assert report.about == about


def test_values_equal_sklearn_and_lie_in_their_intervals(report: EvaluationReport) -> None:
    frame, hazard = rows()
    y = frame["churned"].to_numpy(bool)
    assert report.metrics["roc_auc"].value == pytest.approx(reference.roc_auc_score(y, hazard))
    right = (hazard >= report.profit.threshold) == y
    assert report.metrics["accuracy"].value == pytest.approx(right.mean())
    for name, one in report.metrics.items():
        assert one.low is not None, name
        assert one.low <= one.value <= one.high, name  # type: ignore[operator]


def test_report_round_trips_through_json(report: EvaluationReport) -> None:
    text = report.model_dump_json()
    assert EvaluationReport.model_validate_json(text) == report
    json.loads(text, parse_constant=pytest.fail)


def test_slices_cover_every_row_of_every_sliced_column_once(report: EvaluationReport) -> None:
    for column in CONTRACT.slices:
        slices = [one for one in report.slices if one.column == column.name]
        assert sum(one.rows for one in slices) == ROWS
        assert sum(one.positives for one in slices) == report.positives
    named = [(one.column, one.value) for one in report.slices]
    assert named[:4] == [("age", "<30"), ("age", "30 to 45"), ("age", "45 to 60"), ("age", ">=60")]
    assert ("gender", "Male") in named
    assert {one.column for one in report.slices if one.sensitive} == {"age", "gender"}


def test_bands_include_their_lower_bound() -> None:
    frame, hazard = rows()
    frame["tenure"] = pd.array([11, 12, 48] * (ROWS // 3), dtype="Int64")
    found = {one.value: one.rows for one in report_of(frame, hazard).slices
             if one.column == "tenure"}  # fmt: skip
    assert found == {"<12": ROWS // 3, "12 to 24": ROWS // 3, ">=48": ROWS // 3}


def test_nulls_are_a_slice_of_their_own() -> None:
    frame, hazard = rows()
    frame.loc[:9, "age"] = pd.NA
    frame.loc[:4, "gender"] = None
    found = {(one.column, one.value): one.rows for one in report_of(frame, hazard).slices}
    assert found["age", "missing"] == 10
    assert found["gender", "missing"] == 5


def test_flags_are_sliced_by_yes_and_no() -> None:
    contract = load_contract("ibm_telco")
    frame, hazard = rows(contract, "monthly_charges")
    frame.loc[:9, "female"] = pd.NA
    found = [one.value for one in report_of(frame, hazard, contract=contract).slices
             if one.column == "female"]  # fmt: skip
    assert found == ["yes", "no", "missing"]


def test_every_slice_has_every_metric(report: EvaluationReport) -> None:
    assert all(tuple(one.metrics) == METRICS for one in report.slices)
    frame, hazard = rows()
    one = next(one for one in report.slices if one.value == "Male")
    men = (frame["gender"] == "Male").to_numpy(bool)
    alone = report_of(frame[men], hazard[men])
    for name, metric in alone.metrics.items():
        assert one.metrics[name] == metric


def test_many_categories_share_a_slice() -> None:
    frame, hazard = rows()
    names = [f"tariff {number % 30:02}" for number in range(ROWS)]
    frame["contract_type"] = pd.Series(names, dtype=TEXT)
    slices = [one for one in report_of(frame, hazard).slices if one.column == "contract_type"]
    assert len(slices) == MOST_VALUES + 1
    assert slices[-1].value == "all others"
    assert sum(one.rows for one in slices) == ROWS


def test_a_slice_of_one_class_has_nulls_and_no_verdict() -> None:
    frame, hazard = rows()
    loyal = (frame["contract_type"] == "Two year").to_numpy(bool)
    frame["churned"] = frame["churned"].mask(loyal, False)
    report = report_of(frame, hazard)
    one = next(one for one in report.slices if one.value == "Two year")
    assert one.metrics["roc_auc"] == Interval(value=None, low=None, high=None)
    assert one.metrics["brier"].value is not None
    assert not one.judged
    assert not one.weak
    json.loads(report.model_dump_json(), parse_constant=pytest.fail)


def test_a_test_of_one_class_is_reported_and_fails() -> None:
    frame, hazard = rows()
    frame["churned"] = pd.array([False] * ROWS, dtype="boolean")
    report = report_of(frame, hazard)
    assert report.metrics["roc_auc"].value is None
    assert report.curves.roc.x == ()
    assert not auc_above_floor(report).passed
    assert "undefined" in auc_above_floor(report).description
    json.loads(report.model_dump_json(), parse_constant=pytest.fail)


def test_curves_are_thinned_and_keep_their_end_points(report: EvaluationReport) -> None:
    curves = report.curves
    for name in ("roc", "precision_recall", "gains", "lift", "profit"):
        curve = getattr(curves, name)
        assert 2 < len(curve.x) == len(curve.y) <= 200, name
    assert (curves.roc.x[0], curves.roc.y[0], curves.roc.x[-1], curves.roc.y[-1]) == (0, 0, 1, 1)
    assert (curves.gains.x[-1], curves.gains.y[-1], curves.lift.y[-1]) == (1, 1, 1)
    assert sum(one.rows for one in curves.calibration) == ROWS
    assert all(
        one.low <= one.churn_rate + 1e-12 and one.churn_rate <= one.high + 1e-12
        for one in curves.calibration
    )


def test_profit_is_that_of_the_break_even_probability(report: EvaluationReport) -> None:
    frame, hazard = rows()
    y, terms = frame["churned"].to_numpy(float), CONTRACT.economics
    gain = y * terms.acceptance_rate * terms.value_of_kept_customer - terms.cost_of_offer
    contacted = hazard >= terms.break_even_probability
    assert report.profit.threshold == terms.break_even_probability
    assert report.profit.contacted_share == pytest.approx(contacted.mean())
    assert report.profit.per_customer.value == pytest.approx((gain * contacted).mean())
    assert report.profit.per_1000_customers.value == pytest.approx(1000 * (gain * contacted).mean())
    assert report.profit.everybody == pytest.approx(gain.mean())
    brute = max((gain * (hazard >= t)).mean() for t in hazard)
    assert report.profit.best.profit_per_customer == pytest.approx(brute)
    at_best = (gain * (hazard >= report.profit.best.threshold)).mean()
    assert at_best == pytest.approx(brute)


def test_if_no_offer_pays_the_best_is_to_contact_nobody() -> None:
    frame, hazard = rows()
    terms = CONTRACT.economics.model_copy(update={"cost_of_offer": 1000.0})
    contract = CONTRACT.model_copy(update={"economics": terms})
    profit = report_of(frame, hazard, contract=contract).profit
    assert profit.threshold == 1.0
    assert (profit.best.threshold, profit.best.profit_per_customer) == (None, 0.0)
    assert profit.per_customer.value == 0


@pytest.mark.parametrize(
    ("limits", "passed"), [({"min_auc": -1e-6}, True), ({}, True), ({"min_auc": 1e-6}, False)]
)
def test_the_floor_of_the_auc(
    report: EvaluationReport, limits: dict[str, float], passed: bool
) -> None:
    value = report.metrics["roc_auc"].value or math.nan
    verdict = auc_above_floor(changed(report, min_auc=value + limits.get("min_auc", 0)))
    assert verdict.passed is passed
    assert verdict.numbers["value"] == value
    assert verdict.numbers["limit"] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(("above", "passed"), [(1e-6, True), (0, True), (-1e-6, False)])
def test_the_limit_of_the_calibration_error(
    report: EvaluationReport, above: float, passed: bool
) -> None:
    value = report.metrics["calibration_error"].value or math.nan
    assert well_calibrated(changed(report, max_calibration_error=value + above)).passed is passed


@pytest.mark.parametrize(("above", "passed"), [(-1e-6, True), (0, False), (1e-6, False)])
def test_the_gain_over_the_baseline_must_be_above_its_limit(
    report: EvaluationReport, above: float, passed: bool
) -> None:
    low = report.baseline.log_loss_saved.low or math.nan
    verdict = beats_simple_baseline(changed(report, min_gain_over_baseline=low + above))
    assert verdict.passed is passed
    assert verdict.numbers["value"] == low


def test_a_model_does_not_beat_itself() -> None:
    frame, hazard = rows()
    report = report_of(frame, hazard, baseline=hazard)
    assert report.baseline.log_loss_saved == Interval(value=0, low=0, high=0)
    assert report.baseline.auc_gained == Interval(value=0, low=0, high=0)
    assert not beats_simple_baseline(report).passed


def test_an_undefined_gain_over_the_baseline_fails_at_any_limit(report: EvaluationReport) -> None:
    nothing = Interval(value=None, low=None, high=None)
    baseline = report.baseline.model_copy(update={"log_loss_saved": nothing})
    report = report.model_copy(update={"baseline": baseline})
    verdict = beats_simple_baseline(changed(report, min_gain_over_baseline=-1.0))
    assert not verdict.passed
    assert verdict.numbers["value"] == verdict.numbers["log_loss_saved"] == "undefined"


def test_a_model_worse_than_the_baseline_fails() -> None:
    frame, hazard = rows()
    report = report_of(frame, 1 - hazard, baseline=hazard)
    assert (report.baseline.log_loss_saved.high or 0) < 0
    assert not beats_simple_baseline(report).passed


def with_a_group_ranked_backwards() -> EvaluationReport:
    frame, hazard = rows()
    group = (frame["gender"] == "Other").to_numpy(bool)
    return report_of(frame, np.where(group, 1 - hazard, hazard))


def test_a_weak_group_is_named() -> None:
    report = with_a_group_ranked_backwards()
    assert [one.value for one in report.slices if one.weak and one.column == "gender"] == ["Other"]
    verdict = no_weak_slice(report)
    assert not verdict.passed
    assert "gender Other" in verdict.description
    assert "gender Other" in str(verdict.numbers["weak_slices"])


def test_a_slice_is_weak_if_its_upper_bound_is_below_the_limit() -> None:
    frame, hazard = rows()
    lowest = no_weak_slice(report_of(frame, hazard)).numbers["value"]
    assert isinstance(lowest, float)
    for above, passed in ((-1e-6, True), (0.0, True), (1e-6, False)):
        limits = Limits(min_slice_auc=lowest + above)
        assert no_weak_slice(report_of(frame, hazard, limits=limits)).passed is passed


def test_slices_are_judged_if_they_have_enough_rows_of_both_classes() -> None:
    frame, hazard = rows()
    first = report_of(frame, hazard).slices[0]
    smaller = min(first.positives, first.rows - first.positives)
    for limit, judged in ((smaller - 1, True), (smaller, True), (smaller + 1, False)):
        limits = Limits(min_slice_rows_of_each_class=limit)
        assert report_of(frame, hazard, limits=limits).slices[0].judged is judged


def test_no_slice_large_enough_passes_and_says_so() -> None:
    frame, hazard = rows()
    limits = Limits(min_slice_rows_of_each_class=10_000)
    verdict = no_weak_slice(report_of(frame, hazard, limits=limits))
    assert verdict.passed
    assert verdict.numbers["slices_judged"] == 0
    assert verdict.numbers["value"] == "undefined"


def too_good(report: EvaluationReport, auc: float | None, **features: float) -> EvaluationReport:
    """The report with another ROC AUC, and with that of features alone; `a__b` is a pair."""
    interval = Interval(value=auc, low=auc, high=auc)
    found = tuple(
        Association(features=tuple(name.split("__")), auc=alone, identified=0.0)
        for name, alone in features.items()
    )
    metrics = report.metrics | {"roc_auc": interval}
    return report.model_copy(update={"metrics": metrics, "associations": found})


@pytest.mark.parametrize(("above", "passes"), [(-1e-9, True), (0.0, True), (1e-9, False)])
def test_the_auc_may_be_at_its_upper_limit(
    report: EvaluationReport, above: float, passes: bool
) -> None:
    verdict = model_not_too_good(too_good(report, 0.97 + above, tenure=0.96))
    assert verdict.passed is passes
    assert "ROC AUC is 0.970; up to 0.97 it is plausible." in verdict.description
    assert (features_behind(too_good(report, 0.97 + above, tenure=0.96)) == []) is passes


@pytest.mark.parametrize(("above", "alone"), [(-1e-9, False), (0.0, False), (1e-9, True)])
@pytest.mark.parametrize("name", ["tenure", "age__tenure"])
def test_a_feature_or_a_pair_gives_most_of_the_auc_from_a_share_on(
    report: EvaluationReport, name: str, above: float, alone: bool
) -> None:
    # Halves and quarters are exact: the share is 0.75 of 0.5.
    limits = report.limits.model_copy(update={"max_auc_share_of_one_feature": 0.75})
    found = too_good(report, 1.0, **{name: 0.875 + above, "gender": 0.6})
    found = found.model_copy(update={"limits": limits})
    assert [one.name for one in features_behind(found)] == [name.replace("__", " + ")] * alone
    verdict = model_not_too_good(found)
    assert not verdict.passed
    assert ("features" in verdict.numbers) is alone
    shown = name.replace("__", " + ")
    assert (
        f"Alone, out of fold, {shown} has 0.875: more than 75% of what" in verdict.description
    ) is alone
    assert ("No feature or pair alone has more than 75%" in verdict.description) is not alone


def test_a_feature_that_gives_most_is_named_without_its_pairs(report: EvaluationReport) -> None:
    found = too_good(report, 1.0, age__tenure=0.99, tenure=0.98, gender=0.97, age=0.6)
    assert [one.name for one in features_behind(found)] == ["tenure", "gender"]
    verdict = model_not_too_good(found)
    assert verdict.numbers["features"] == "tenure, gender"
    assert "tenure has 0.980; gender has 0.970: more than 85%" in verdict.description


def test_a_high_auc_in_a_report_without_features_says_so(report: EvaluationReport) -> None:
    verdict = model_not_too_good(too_good(report, 0.99))
    assert not verdict.passed
    assert "does not have that of each feature" in verdict.description
    assert features_behind(too_good(report, 0.99)) == []


def test_an_undefined_auc_is_not_too_good(report: EvaluationReport) -> None:
    verdict = model_not_too_good(too_good(report, None, tenure=1.0))
    assert verdict.outcome == "not judged"
    assert features_behind(too_good(report, None, tenure=1.0)) == []


def test_a_report_without_associations_is_read(report: EvaluationReport) -> None:
    document = json.loads(too_good(report, 0.8, tenure=0.7).model_dump_json())
    assert document["associations"][0]["features"] == ["tenure"]
    del document["associations"]
    assert EvaluationReport.model_validate_json(json.dumps(document)).associations == ()


def test_every_verdict_shows_value_and_limit(report: EvaluationReport) -> None:
    assert list(report.verdicts) == [
        "auc_above_floor", "model_not_too_good", "well_calibrated", "no_weak_slice",
        "beats_simple_baseline",
    ]  # fmt: skip
    for verdict in report.verdicts.values():
        assert {"value", "limit"} <= set(verdict.numbers)
        assert f"{verdict.numbers['limit']:g}" in verdict.description
        assert all(type(value) in (int, float, str) for value in verdict.numbers.values())


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1])
def test_probabilities_must_be_probabilities(wrong: float) -> None:
    frame, hazard = rows()
    with pytest.raises(ValueError, match="from 0 to 1"):
        report_of(frame, np.where(hazard > 0.5, wrong, hazard))


def test_mismatched_empty_or_unlabelled_rows_are_refused() -> None:
    frame, hazard = rows()
    with pytest.raises(ValueError, match="have shape"):
        report_of(frame, hazard[1:])
    with pytest.raises(ValueError, match="no test rows"):
        evaluate(frame.iloc[:0], hazard[:0], hazard[:0], CONTRACT, Limits())
    frame.loc[:2, "churned"] = pd.NA
    with pytest.raises(ValueError, match="3 test rows have no label"):
        report_of(frame, hazard)


def test_rows_of_one_customer_are_drawn_together() -> None:
    frame, hazard = rows()
    frame["customer_id"] = pd.Series([f"C{i}" for i in range(ROWS)], dtype=TEXT)
    once = report_of(frame, hazard)
    repeated = pd.concat([frame, frame.assign(month="2026-04")], ignore_index=True)
    twice = report_of(repeated, np.tile(hazard, 2))
    # Repeated rows must not narrow the intervals.
    for name in ("roc_auc", "log_loss", "profit_per_customer"):
        assert twice.metrics[name].low == pytest.approx(once.metrics[name].low)
        assert twice.metrics[name].high == pytest.approx(once.metrics[name].high)
        for first, second in zip(once.slices, twice.slices, strict=True):
            assert second.metrics[name].low == pytest.approx(first.metrics[name].low)
    rowwise = report_of(repeated.drop(columns="customer_id"), np.tile(hazard, 2))
    assert rowwise.metrics["roc_auc"].low > once.metrics["roc_auc"].low  # type: ignore[operator]


def test_unique_ids_change_nothing(report: EvaluationReport) -> None:
    frame, hazard = rows()
    frame["customer_id"] = pd.Series([f"C{i}" for i in range(ROWS)], dtype=TEXT)
    assert report_of(frame, hazard) == report


def test_the_index_of_the_frame_changes_nothing(report: EvaluationReport) -> None:
    frame, hazard = rows()
    frame.index = frame.index[::-1] + 10
    assert report_of(frame, hazard) == report
