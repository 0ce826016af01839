"""Freshness policy of each asset, and the condition that an asset is past its promise.

The numbers are in `core/policies.py`.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from dagster import AutomationCondition, FreshnessPolicy

from churn_assets.core.monitoring.incidents import duration
from churn_assets.defs.assets import (
    bentos,
    drift,
    evaluation,
    promotion,
    scores,
    sources,
    traffic,
    training,
    validation,
)
from churn_assets.defs.platform.dagster_internals import (
    BuiltinAutomationCondition,
    CronFreshnessPolicy,
    TimeWindowFreshnessPolicy,
)
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings

Condition = BuiltinAutomationCondition[Any]

UTC = "UTC"


def freshness_policies(platform: Platform) -> Mapping[str, FreshnessPolicy]:
    """Returns the freshness policies by asset name; assets without a policy are left out."""
    numbers = platform.settings.freshness
    pulled = _by_deadline(numbers.raw_deadline, numbers.raw_window_hours)
    derived = _by_deadline(numbers.derived_deadline, numbers.derived_window_hours)
    model = FreshnessPolicy.time_window(
        fail_window=timedelta(days=numbers.model_fail_days),
        warn_window=timedelta(days=numbers.model_warn_days),
    )
    daily = FreshnessPolicy.time_window(
        fail_window=timedelta(hours=numbers.traffic_fail_hours),
        warn_window=timedelta(hours=numbers.traffic_warn_hours),
    )
    by_age = {
        training.MODEL: model,
        evaluation.REPORT: model,
        promotion.PROMOTED: model,
        bentos.BENTO: model,
        traffic.TRAFFIC: daily,
    }
    if platform.source.single_snapshot:
        return by_age  # No later month will come.
    return by_age | {
        sources.RAW: pulled,
        sources.LABELS: pulled,
        validation.FEATURES: derived,
        validation.QUARANTINE: derived,
        training.ROWS: derived,
        scores.SCORES: derived,
        drift.REPORT: derived,
    }


def _by_deadline(deadline: str, hours: float) -> FreshnessPolicy:
    return FreshnessPolicy.cron(
        deadline_cron=deadline, lower_bound_delta=timedelta(hours=hours), timezone=UTC
    )


def describe(policy: FreshnessPolicy | None) -> str:
    """Describes a policy, such as `at most 30 d old, warning after 7 d`; "" for no policy."""
    if isinstance(policy, TimeWindowFreshnessPolicy):
        fail, warn = policy.fail_window.to_timedelta(), policy.warn_window
        text = f"at most {duration(fail)} old"
        return f"{text}, warning after {duration(warn.to_timedelta())}" if warn else text
    if isinstance(policy, CronFreshnessPolicy):
        window = duration(policy.lower_bound_delta)
        return f"within the {window} before `{policy.deadline_cron}` ({policy.timezone})"
    return ""


def promise_newly_broken(lost: Condition, settings: Settings) -> Condition:
    """Returns the condition that an asset newly breaks its promise; no event is needed for it.

    - Dagster's freshness state of the asset becomes WARN, and again when it becomes FAIL. That
      holds for the latest month, because the state knows no months.
    - A deadline passes, and the asset is lost.
    - The catch-up cron expression ticks, the asset is lost, and its last run did not fail: the run
      was cancelled, or never asked for.

    Args:
        lost: Condition that the asset is missing, or older than its inputs.
    """
    numbers = settings.freshness
    warned, failed = AutomationCondition.freshness_warned(), AutomationCondition.freshness_failed()
    state = warned.newly_true() | failed.newly_true()
    ticked: Callable[[str], Condition] = AutomationCondition.cron_tick_passed
    deadlines = ticked(numbers.raw_deadline) | ticked(numbers.derived_deadline)
    recovers = ticked(settings.automation.catch_up_cron) & ~AutomationCondition.execution_failed()
    latest = AutomationCondition.in_latest_time_window()
    broken = (state & latest) | (lost & (deadlines | recovers))
    # Dagster tells two `since` conditions of an asset apart by the operator of their trigger alone:
    # with OR, as the events have it, this one would share their memory.
    return (~AutomationCondition.newly_updated() & broken).with_label("promise_newly_broken")


def describe_trigger(policy: FreshnessPolicy | None, *, monthly: bool) -> str:
    """Describes when a policy alone leads to a request, such as `WARN, at 7 d; FAIL, at 30 d`."""
    what = ": the latest month" if monthly else ""
    if isinstance(policy, TimeWindowFreshnessPolicy):
        warn, fail = policy.warn_window, duration(policy.fail_window.to_timedelta())
        warned = f"WARN, at {duration(warn.to_timedelta())}; " if warn else ""
        return f"{warned}FAIL, at {fail}{what}"
    if isinstance(policy, CronFreshnessPolicy):
        return f"FAIL, at `{policy.deadline_cron}`{what}"
    return ""
