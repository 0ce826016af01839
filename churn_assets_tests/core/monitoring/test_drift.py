"""Drift of a month: no drift of a sample from itself, drift of a large shift, exact limits."""

import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.drift import (
    RETRAINING_CHECKS,
    DriftReport,
    compare_month,
    compare_traffic,
    no_feature_drift,
    no_new_categories,
    no_prediction_drift,
    nulls_as_in_training,
    served_traffic_as_training,
)
from churn_assets.core.monitoring.feature_drift import FeatureDrift
from churn_assets.core.scoring.scores import prediction_drift
from churn_assets.core.scoring.traffic import as_traffic
from churn_assets_tests.core.typed_rows import typed_rows

CONTRACT = load_contract("telecom")
TRAINING = typed_rows(CONTRACT, 2000, seed=1)
MONTH = typed_rows(CONTRACT, 1000, seed=2)


def compared(
    month: pd.DataFrame = MONTH,
    training: pd.DataFrame = TRAINING,
    contract: Contract = CONTRACT,
    **limits: float,
) -> DriftReport:
    return compare_month(training, month, contract, Limits(**limits), name="2026-04")


def feature(report: DriftReport, name: str) -> FeatureDrift:
    return next(one for one in report.features if one.name == name)


def with_column(name: str, values: Any, frame: pd.DataFrame = MONTH) -> pd.DataFrame:
    return frame.assign(**{name: pd.Series(values, frame.index, dtype=frame[name].dtype)})


def with_nulls(name: str, share: float, frame: pd.DataFrame = MONTH) -> pd.DataFrame:
    nulls = np.arange(len(frame)) < share * len(frame)
    return with_column(name, frame[name].mask(nulls), frame)


def with_new_cities(share: float) -> pd.DataFrame:
    new = np.arange(len(MONTH)) < share * len(MONTH)
    return with_column("location", MONTH["location"].mask(new, "Atlantis"))


@pytest.mark.parametrize("name", ["telecom", "ibm_telco"])
def test_every_input_and_sensitive_column_is_compared_once(name: str) -> None:
    contract = load_contract(name)
    report = compared(typed_rows(contract, 300, 1), typed_rows(contract, 300, 2), contract)
    names = [one.name for one in report.features]
    assert len(names) == len(set(names))
    assert set(names) == set(contract.model_inputs) | {c.name for c in contract.columns
                                                       if c.sensitive}  # fmt: skip
    for one in report.features:
        assert one.test == ("kolmogorov_smirnov" if one.kind == "number" else "chi_squared")
    assert report.drifted == ()


@given(st.integers(0, 1000), st.integers(1, 60))
@settings(deadline=None, max_examples=15)
def test_a_sample_never_drifts_from_itself(seed: int, rows: int) -> None:
    frame = typed_rows(CONTRACT, rows, seed)
    report = compared(frame, frame)
    assert report.drifted == ()
    for one in report.features:
        assert one.effect == 0
        assert one.psi == 0
        assert one.corrected_p_value == 1
    assert all(verdict.passed for verdict in report.verdicts.values())


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_distances_are_symmetric(seed: int) -> None:
    one, other = typed_rows(CONTRACT, 200, seed), typed_rows(CONTRACT, 80, seed + 1)
    there, back = compared(one, other), compared(other, one)
    for a, b in zip(there.features, back.features, strict=True):
        assert a.effect == pytest.approx(b.effect)
        assert a.p_value == pytest.approx(b.p_value)


@given(st.sampled_from([c.name for c in CONTRACT.features if c.kind == "number"]))
@settings(deadline=None, max_examples=10)
def test_a_large_shift_of_a_number_drifts_and_nothing_else_does(name: str) -> None:
    report = compared(with_column(name, MONTH[name] + 500))
    assert report.drifted == (name,)
    one = feature(report, name)
    assert one.effect == pytest.approx(1)
    assert (one.psi or 0) > 1
    assert "its distribution moved" in one.reasons[0]


def test_a_dominating_category_drifts() -> None:
    report = compared(with_column("contract_type", ["Two year"] * len(MONTH)))
    assert report.drifted == ("contract_type",)
    assert feature(report, "contract_type").month.top[0].share == 1


def test_a_flag_that_becomes_constant_drifts() -> None:
    contract = load_contract("ibm_telco")
    training, month = typed_rows(contract, 500, 1), typed_rows(contract, 500, 2)
    month = month.assign(partner=pd.array([True] * 500, dtype="boolean"))
    report = compared(month, training, contract)
    assert report.drifted == ("partner",)
    assert feature(report, "partner").month.top[0].value == "True"


def test_a_large_insignificant_shift_does_not_drift() -> None:
    few = with_column("age", MONTH["age"] + 12).iloc[:6]
    one = feature(compared(few), "age")
    assert (one.effect or 0) > 0.1
    assert not one.drifted


def test_a_small_significant_shift_does_not_drift() -> None:
    one = feature(compared(with_column("age", MONTH["age"] + 8), min_drift_effect=0.5), "age")
    assert (one.corrected_p_value or 1) < 0.01
    assert not one.drifted


def test_only_the_corrected_p_value_counts() -> None:
    one = feature(compared(with_column("age", MONTH["age"] + 5), min_drift_effect=1e-6), "age")
    assert one.p_value is not None
    assert one.corrected_p_value is not None
    assert one.p_value < one.corrected_p_value
    between = (one.p_value + one.corrected_p_value) / 2
    report = compared(
        with_column("age", MONTH["age"] + 5), min_drift_effect=1e-6, max_drift_p_value=between
    )
    assert not feature(report, "age").drifted


def test_values_at_the_limits_of_effect_and_p_value_count_as_drift() -> None:
    month = with_column("age", MONTH["age"] + 20)
    one = feature(compared(month), "age")
    effect, p = one.effect or 0, one.corrected_p_value or 0
    for above, drifted in ((-1e-9, True), (0, True), (1e-9, False)):
        assert feature(compared(month, min_drift_effect=effect + above), "age").drifted is drifted
    for factor, drifted in ((1.01, True), (1, True), (0.99, False)):
        assert feature(compared(month, max_drift_p_value=p * factor), "age").drifted is drifted


@pytest.mark.parametrize(("share", "passed"), [(0.049, True), (0.05, True), (0.051, False)])
def test_nulls_may_rise_up_to_the_limit(share: float, passed: bool) -> None:
    report = compared(with_nulls("avg_call_minutes", share))
    verdict = nulls_as_in_training(report)
    assert verdict.passed is passed
    assert verdict.numbers == {"value": share, "limit": 0.05, "feature": "avg_call_minutes"}
    assert feature(report, "avg_call_minutes").drifted is not passed
    assert feature(report, "avg_call_minutes").null_share_rise == pytest.approx(share)


def test_nulls_that_exist_in_training_are_not_a_rise() -> None:
    report = compared(with_nulls("location", 0.3), with_nulls("location", 0.3, TRAINING))
    assert report.drifted == ()
    assert nulls_as_in_training(compared()).numbers["feature"] == ""


@pytest.mark.parametrize(("share", "passed"), [(0.049, True), (0.05, True), (0.051, False)])
def test_new_categories_are_allowed_up_to_the_limit(share: float, passed: bool) -> None:
    report = compared(with_new_cities(share))
    verdict = no_new_categories(report)
    assert verdict.passed is passed
    assert verdict.numbers["value"] == pytest.approx(share)
    assert verdict.numbers["unseen"] == "Atlantis"
    assert "location (Atlantis)" in verdict.description
    one = feature(report, "location")
    assert one.drifted is not passed
    assert one.unseen == ("Atlantis",)


def test_the_names_of_new_categories_are_capped() -> None:
    month = with_column("location", [f"city {number}" for number in range(len(MONTH))])
    one = feature(compared(month), "location")
    assert one.unseen_share == 1
    assert len(one.unseen) == 10


def test_verdicts_name_what_drifted_with_value_and_limit() -> None:
    verdict = no_feature_drift(compared(with_column("age", MONTH["age"] + 500)))
    assert not verdict.passed
    assert verdict.description.startswith("1 of 14 features drifted: age: its distribution moved")
    assert verdict.numbers["largest_effect_of"] == "age"
    assert (verdict.numbers["effect_limit"], verdict.numbers["p_value_limit"]) == (0.1, 0.01)
    for one in compared().verdicts.values():
        assert one.passed
        assert {"value", "limit"} <= set(one.numbers)


@pytest.mark.parametrize("training", [TRAINING, TRAINING.iloc[:0]])
@pytest.mark.parametrize("month", [MONTH, MONTH.iloc[:0]])
def test_empty_samples_have_defined_results(training: pd.DataFrame, month: pd.DataFrame) -> None:
    report = compared(month, training)
    json.loads(report.model_dump_json(), parse_constant=pytest.fail)
    outcome = "passed" if len(training) and len(month) else "not judged"
    for check in (no_feature_drift, no_new_categories, nulls_as_in_training):
        assert check(report).outcome == outcome


@pytest.mark.parametrize("name", ["avg_call_minutes", "age", "location"])
def test_columns_of_nulls_only_have_defined_results(name: str) -> None:
    nulls, before = with_nulls(name, 1), with_nulls(name, 1, TRAINING)
    now_null = feature(compared(nulls), name)
    assert now_null.drifted
    assert now_null.effect is None
    assert now_null.p_value is None
    always_null = compared(nulls, before)
    assert always_null.drifted == ()
    json.loads(always_null.model_dump_json(), parse_constant=pytest.fail)
    assert feature(compared(MONTH, before), name).null_share_rise == -1


def test_a_report_in_which_nothing_can_be_tested() -> None:
    nothing = TRAINING.assign(**{c: with_nulls(c, 1, TRAINING)[c] for c in CONTRACT.model_inputs})
    report = compared(nothing, nothing)
    assert report.drifted == ()
    assert no_feature_drift(report).passed
    assert no_new_categories(report).outcome == "not judged"


def test_constant_columns_have_defined_results() -> None:
    def constant(frame: pd.DataFrame) -> pd.DataFrame:
        return with_column("age", [40] * len(frame), with_column("location", ["Rome"] * len(frame),
                                                                 frame))  # fmt: skip

    report = compared(constant(MONTH), constant(TRAINING))
    assert report.drifted == ()
    for name in ("age", "location"):
        assert (feature(report, name).effect, feature(report, name).p_value) == (0, 1)
    moved = compared(with_column("age", [41] * len(MONTH), constant(MONTH)), constant(TRAINING))
    assert moved.drifted == ("age",)


def test_a_report_round_trips_as_json() -> None:
    report = compared(with_new_cities(0.2))
    text = report.model_dump_json()
    assert DriftReport.model_validate_json(text) == report
    json.loads(text, parse_constant=pytest.fail)


def test_a_hundred_thousand_rows_take_seconds() -> None:
    training, month = typed_rows(CONTRACT, 100_000, 1), typed_rows(CONTRACT, 20_000, 2)
    start = time.perf_counter()
    assert compared(month, training).drifted == ()
    assert time.perf_counter() - start < 6  # 0.15 s on an idle machine


def test_scores_are_compared_with_those_of_the_test_rows() -> None:
    tested = np.linspace(0.01, 0.5, 500)
    report = compared()
    assert no_prediction_drift(report).outcome == "not judged"
    assert "was not scored" in no_prediction_drift(report).description
    for scores, passed in ((tested, True), (tested + 0.3, False)):
        changes = {"predictions": prediction_drift(scores, tested)}
        assert no_prediction_drift(report.model_copy(update=changes)).passed is passed


def served(rows: int, **changed: Any) -> DriftReport:
    """A report with served traffic: the first rows of the month, with pseudonyms."""
    requested = MONTH.head(rows).assign(**changed)
    for column in CONTRACT.features:
        if column.personal:
            requested[column.name] = "f" * 32
    found = compare_traffic(
        TRAINING, as_traffic(requested, CONTRACT, "2026-04"), CONTRACT, Limits()
    )
    return compared().model_copy(update={"served": found})


def test_served_features_are_compared_except_personal_ones() -> None:
    report = served(1000)
    assert report.served is not None
    names = {one.name for one in report.served.features}
    assert names == set(CONTRACT.model_inputs) - {"age", "gender", "location"}
    assert served_traffic_as_training(report).passed
    moved = served(1000, tenure=MONTH["tenure"] + 500)
    verdict = served_traffic_as_training(moved)
    assert not verdict.passed
    assert verdict.numbers["drifted"] == "tenure"


def test_features_derived_from_a_personal_one_are_left_out() -> None:
    columns = [c.model_copy(update={"personal": c.name == "tenure"}) for c in CONTRACT.columns]
    contract = CONTRACT.model_copy(update={"columns": tuple(columns)})
    requested = as_traffic(MONTH.assign(tenure="f" * 32), contract, "2026-04")
    found = compare_traffic(TRAINING, requested, contract, Limits())
    assert found is not None
    assert not {"tenure", "late_payment_rate"} & {one.name for one in found.features}


@pytest.mark.parametrize(("rows", "judged"), [(199, False), (200, True), (201, True)])
def test_few_predictions_are_not_judged(rows: int, judged: bool) -> None:
    verdict = served_traffic_as_training(served(rows, tenure=MONTH["tenure"] + 500))
    assert verdict.outcome == ("failed" if judged else "not judged")
    assert ("predictions are not judged" in verdict.description) is not judged
    assert "tenure" in verdict.description


def test_a_month_without_traffic_is_not_judged() -> None:
    assert compare_traffic(TRAINING, as_traffic(MONTH.iloc[:0], CONTRACT, "m"), CONTRACT,
                           Limits()) is None  # fmt: skip
    verdict = served_traffic_as_training(compared())
    assert verdict.outcome == "not judged"
    assert "gave no predictions" in verdict.description


def test_all_checks_but_that_of_traffic_are_reasons_to_retrain() -> None:
    assert set(compared().verdicts) - set(RETRAINING_CHECKS) == {"served_traffic_as_training"}
    assert set(RETRAINING_CHECKS) < set(compared().verdicts)
