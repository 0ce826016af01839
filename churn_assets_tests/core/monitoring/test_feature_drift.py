"""Drift of a feature is two-sided: nulls, categories and spread, each at its limit."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.validation import validate
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.drift import (
    DriftReport,
    compare_month,
    no_feature_drift,
    no_new_categories,
    nulls_as_in_training,
)
from churn_assets.core.monitoring.feature_drift import FeatureDrift
from churn_assets.core.simulation.simulator import Simulator
from churn_assets_tests.core.typed_rows import TEXT, typed_rows

CONTRACT = load_contract("telecom")
TRAINING = typed_rows(CONTRACT, 2000, seed=1)
MONTH = typed_rows(CONTRACT, 1000, seed=2)
CITY, MINUTES = "location", "avg_call_minutes"


def compared(
    training: pd.DataFrame, month: pd.DataFrame, contract: Contract = CONTRACT, **limits: float
) -> DriftReport:
    return compare_month(training, month, contract, Limits(**limits), name="2026-04")


def feature(report: DriftReport, name: str) -> FeatureDrift:
    return next(one for one in report.features if one.name == name)


def first_rows(frame: pd.DataFrame, name: str, rows: int, value: Any) -> pd.DataFrame:
    """The frame with a value in the first rows of a column."""
    return frame.assign(**{name: frame[name].mask(np.arange(len(frame)) < rows, value)})


def with_two_values(frame: pd.DataFrame, high: float, share: float = 0.06) -> pd.DataFrame:
    """The frame with 100 minutes in most rows, and `high` in a share of them."""
    values = np.where(np.arange(len(frame)) < share * len(frame), high, 100.0)
    return frame.assign(**{MINUTES: values})


@pytest.mark.parametrize(("nulls", "passed"), [(51, True), (50, True), (49, False)])
def test_nulls_may_fall_down_to_the_limit(nulls: int, passed: bool) -> None:
    report = compared(first_rows(TRAINING, MINUTES, 200, None),
                      first_rows(MONTH, MINUTES, nulls, None))  # fmt: skip
    verdict = nulls_as_in_training(report)
    assert verdict.passed is passed
    assert f"a fall in {MINUTES}" in verdict.description
    assert verdict.numbers["value"] == pytest.approx(0.1 - nulls / 1000)
    assert feature(report, MINUTES).drifted is not passed
    assert no_feature_drift(report).passed is passed


def test_nulls_that_disappear_are_drift_with_a_reason() -> None:
    one = feature(compared(first_rows(TRAINING, CITY, 800, None), MONTH), CITY)
    assert one.reasons == ("nulls fell from 40.0% to 0.0% (limit: a change of 5.0%)",)
    assert one.null_share_rise == -0.4


@pytest.mark.parametrize("rows", [1, 5, 20])
def test_a_small_month_without_nulls_is_no_drift(rows: int) -> None:
    training = first_rows(TRAINING, MINUTES, 240, None)
    report = compared(training, MONTH.head(rows))
    assert not feature(report, MINUTES).reasons
    verdict = nulls_as_in_training(report)
    assert verdict.passed
    assert "chance explains it" in verdict.description


@pytest.mark.parametrize(("nulls", "passed"), [(0, True), (1, True), (2, False)])
def test_a_rise_of_nulls_counts_in_a_small_month_too(nulls: int, passed: bool) -> None:
    report = compared(TRAINING, first_rows(MONTH.head(20), MINUTES, nulls, None))
    verdict = nulls_as_in_training(report)
    assert verdict.passed is passed
    assert "chance" not in verdict.description
    assert feature(report, MINUTES).drifted is not passed


@pytest.mark.parametrize(("rows", "passed"), [(98, True), (100, True), (102, False)])
def test_categories_may_vanish_up_to_the_limit(rows: int, passed: bool) -> None:
    report = compared(first_rows(TRAINING, CITY, rows, "Pisa"), MONTH)
    verdict = no_new_categories(report)
    assert verdict.passed is passed
    assert verdict.numbers["vanished_share"] == rows / 2000
    assert (verdict.numbers["vanished_feature"], verdict.numbers["vanished"]) == (CITY, "Pisa")
    assert f"in {CITY} (Pisa)" in verdict.description
    one = feature(report, CITY)
    assert one.vanished == ("Pisa",)
    assert one.drifted is not passed
    assert ("has now (limit 5.0%): Pisa" in "".join(one.reasons)) is not passed


@pytest.mark.parametrize(("rows", "gone"), [(19, True), (20, True), (21, False)])
def test_a_category_that_hardly_any_row_has_counts_as_vanished_and_as_new(
    rows: int, gone: bool
) -> None:
    before, now = first_rows(TRAINING, CITY, 160, "Pisa"), first_rows(MONTH, CITY, rows, "Pisa")
    for report in (
        compared(before, now, max_vanished_remainder=0.25),
        compared(now, before, max_vanished_remainder=0.25),
    ):
        assert no_new_categories(report).passed is not gone
        assert feature(report, CITY).drifted is gone


def test_a_flag_that_is_never_set_any_more_drifts() -> None:
    contract = load_contract("ibm_telco")
    flags = {rows: np.arange(1000) < rows for rows in (60, 0)}
    before, now = (
        typed_rows(contract, 1000, seed).assign(partner=pd.array(flags[rows], dtype="boolean"))
        for seed, rows in ((1, 60), (2, 0))
    )
    for report in (compared(before, now, contract), compared(now, before, contract)):
        assert report.drifted == ("partner",)
        assert not no_new_categories(report).passed


def test_absent_categories_are_no_drift_in_a_small_month() -> None:
    training = first_rows(TRAINING, CITY, 120, "Pisa")
    one = feature(compared(training, MONTH.head(40)), CITY)
    assert (one.vanished, one.reasons) == ((), ())


def test_rare_categories_that_are_absent_by_chance_are_no_drift() -> None:
    random = np.random.default_rng(1)
    before, now = (
        frame.assign(**{CITY: pd.Series(random.integers(40, size=len(frame))).astype(TEXT)})
        for frame in (TRAINING, MONTH.head(60))
    )
    assert now[CITY].nunique() < before[CITY].nunique()
    assert feature(compared(before, now), CITY).vanished_share == 0


@pytest.mark.parametrize(("high", "passed"), [(301.0, True), (300.0, True), (299.0, False)])
def test_the_spread_may_change_up_to_the_limit(high: float, passed: bool) -> None:
    wide, narrow = with_two_values(TRAINING, 500.0), with_two_values(MONTH, high)
    for report, verb in ((compared(wide, narrow), "fell"), (compared(narrow, wide), "rose")):
        one = feature(report, MINUTES)
        assert (one.effect or 0) < report.limits.min_drift_effect, "no case of the other test"
        assert one.drifted is not passed
        assert (f"its spread {verb}" in "".join(one.reasons)) is not passed
        assert no_feature_drift(report).passed is passed
        assert abs(one.spread_change or 0) == pytest.approx(1 - (high - 100) / 400)


def test_a_number_that_becomes_constant_drifts_whatever_its_effect() -> None:
    report = compared(with_two_values(TRAINING, 500.0), with_two_values(MONTH, 100.0))
    one = feature(report, MINUTES)
    assert "its spread fell: standard deviation 94.99 in training, 0 now" in one.reasons[0]
    assert one.spread_change == -1


@pytest.mark.parametrize(("rows", "judged"), [(19, False), (20, True), (21, True)])
def test_the_spread_of_few_known_values_is_not_judged(rows: int, judged: bool) -> None:
    month = with_two_values(MONTH, 100.0)
    month = first_rows(month, MINUTES, len(month) - rows, None)
    one = feature(compared(TRAINING, month), MINUTES)
    assert (one.spread_p_value is not None) is judged
    assert ("its spread fell" in "".join(one.reasons)) is judged


def test_a_large_insignificant_change_of_the_spread_does_not_drift() -> None:
    training, month = with_two_values(TRAINING, 500.0), with_two_values(MONTH.head(30), 100.0)
    one = feature(compared(training, month), MINUTES)
    assert (one.spread_change, one.reasons) == (-1, ())


@pytest.mark.parametrize("wrong", [1e6, 1e15])
def test_a_few_wrong_values_do_not_decide_the_spread(wrong: float) -> None:
    training, month = first_rows(TRAINING, MINUTES, 3, wrong), first_rows(MONTH, MINUTES, 1, wrong)
    for report in (
        compared(training, MONTH), compared(TRAINING, month), compared(training, month),
    ):  # fmt: skip
        assert report.drifted == ()


@given(
    nulls=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    rows=st.tuples(st.integers(61, 400), st.integers(61, 400)),
)
@settings(deadline=None, max_examples=25)
def test_whenever_a_fall_of_nulls_fails_the_reverse_rise_fails_too(
    nulls: tuple[int, int], rows: tuple[int, int]
) -> None:
    one, other = (
        first_rows(frame.head(size), MINUTES, count, None)
        for frame, size, count in zip((TRAINING, MONTH), rows, nulls, strict=True)
    )
    there, back = compared(one, other), compared(other, one)
    for fall, rise in ((there, back), (back, there)):
        if (feature(fall, MINUTES).null_share_rise or 0.0) < 0:
            assert nulls_as_in_training(fall).passed or not nulls_as_in_training(rise).passed


@given(share=st.floats(0, 0.09), rows=st.integers(500, 1000))
@settings(deadline=None, max_examples=25)
def test_a_category_is_lost_in_one_direction_and_new_in_the_other(share: float, rows: int) -> None:
    one, other = first_rows(TRAINING, CITY, int(share * 2000), "Pisa"), MONTH.head(rows)
    there, back = compared(one, other), compared(other, one)
    assert set(feature(there, CITY).vanished) <= set(feature(back, CITY).unseen)
    assert feature(there, CITY).drifted == feature(back, CITY).drifted
    assert no_new_categories(there).passed == no_new_categories(back).passed


@given(high=st.floats(110, 900), share=st.floats(0, 0.3), rows=st.integers(2, 1000))
@settings(deadline=None, max_examples=25)
def test_the_spread_is_judged_alike_in_both_directions(
    high: float, share: float, rows: int
) -> None:
    one = with_two_values(TRAINING, 500.0)
    other = with_two_values(MONTH.head(rows), high, share)
    there, back = (
        feature(compared(*frames), MINUTES) for frames in ((one, other), (other, one))
    )  # fmt: skip
    assert there.spread_change == pytest.approx(-(back.spread_change or 0))
    assert there.drifted == back.drifted


@pytest.mark.parametrize(("customers", "seed"), [(150, 0), (400, 1), (2000, 2), (5000, 3)])
def test_the_stable_operator_never_drifts(customers: int, seed: int) -> None:
    source = SimulatedSource(CONTRACT, Simulator(customers=customers, seed=seed))
    months = [f"2025-{month:02}" for month in range(1, 9)]
    frames = [validate(source.snapshot(month), CONTRACT, month).accepted for month in months]
    training = pd.concat(frames[:4], ignore_index=True)
    for frame in frames[4:]:
        report = compared(training, frame)
        assert [one.reasons for one in report.features if one.drifted] == []
        assert no_new_categories(report).passed
        assert nulls_as_in_training(report).passed


def test_a_report_of_an_earlier_version_is_read_and_judged_as_then() -> None:
    many, few = first_rows(TRAINING, MINUTES, 200, None), MONTH
    for training, month, passed in ((few, many, False), (many, few, True)):
        document = json.loads(compared(training, month).model_dump_json())
        for one in document["features"]:
            for name in ("null_p_value", "spread_change", "spread_p_value", "vanished",
                         "vanished_share"):  # fmt: skip
                del one[name]
            for sample in (one["training"], one["month"]):
                del sample["spread"]
        for name in ("max_vanished_remainder", "max_spread_change", "min_spread_values"):
            del document["limits"][name]
        report = DriftReport.model_validate_json(json.dumps(document))
        assert nulls_as_in_training(report).passed is passed
        assert no_new_categories(report).passed
        assert "chance" not in nulls_as_in_training(report).description
