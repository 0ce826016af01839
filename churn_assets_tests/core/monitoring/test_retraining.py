"""Reasons to retrain, and the cool-down."""

from datetime import UTC, datetime, timedelta

import pytest

from churn_assets.core.monitoring.retraining import Kind, TrainedAt, cooled_down, reasons
from churn_assets.core.policies import FreshnessPolicy, RetrainingPolicy

NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
POLICY = RetrainingPolicy(max_age_days=30, cool_down_days=7)
SECOND = timedelta(seconds=1)


def model(age: timedelta) -> TrainedAt:
    return TrainedAt(version="3", time=NOW - age)


YOUNG = model(timedelta(days=10))


@pytest.mark.parametrize(
    ("failed", "keys"),
    [
        ({}, []),
        ({"drift": []}, []),
        ({"drift": ["no_feature_drift: tenure moved"]}, ["drift:2026-10"]),
        ({"performance": ["performance_holds: 0.70"]}, ["performance:2026-10"]),
        ({"drift": ["a", "b"], "performance": ["c"]}, ["drift:2026-10", "performance:2026-10"]),
    ],
)
def test_failed_checks_of_the_latest_month_are_reasons(
    failed: dict[Kind, list[str]], keys: list[str]
) -> None:
    found = reasons(YOUNG, "2026-10", failed, POLICY, NOW)
    assert [reason.key for reason in found] == keys


def test_a_reason_has_the_messages_of_all_failed_checks() -> None:
    (reason,) = reasons(YOUNG, "2026-10", {"drift": ["a: 1", "b: 2"]}, POLICY, NOW)
    assert reason.text == "a: 1; b: 2"


@pytest.mark.parametrize(
    ("age", "old"),
    [
        (timedelta(days=30) - SECOND, False),
        (timedelta(days=30), False),
        (timedelta(days=30) + SECOND, True),
    ],
)
def test_a_model_that_is_older_than_the_limit_is_a_reason(age: timedelta, old: bool) -> None:
    found = reasons(model(age), "2026-10", {}, POLICY, NOW)
    assert [reason.key for reason in found] == (["age:3"] if old else [])


@pytest.mark.parametrize(
    ("age", "over"),
    [
        (timedelta(days=7) - SECOND, False),
        (timedelta(days=7), True),
        (timedelta(days=7) + SECOND, True),
    ],
)
def test_the_cool_down_is_counted_from_the_last_training(age: timedelta, over: bool) -> None:
    assert cooled_down(model(age), POLICY, NOW) is over


def test_a_warning_later_than_the_failure_is_refused_with_both_names() -> None:
    with pytest.raises(ValueError, match="CHURN_FRESHNESS__MODEL_WARN_DAYS is 31, not below"):
        FreshnessPolicy(model_warn_days=31)
