"""What is promised of an asset's freshness, in words."""

from dagster import FreshnessPolicy
from dagster._core.definitions.freshness import CronFreshnessPolicy, TimeWindowFreshnessPolicy

from churn_assets.core.monitoring.incidents import duration


def in_words(policy: FreshnessPolicy | None) -> str:
    """One promise, such as `at most 30 d old, warned of after 7 d`; empty where there is none."""
    if isinstance(policy, TimeWindowFreshnessPolicy):
        return _window(policy)
    if isinstance(policy, CronFreshnessPolicy):
        since = duration(policy.lower_bound_delta)
        return f"by `{policy.deadline_cron}` ({policy.timezone}), made within the {since} before"
    return ""


def _window(policy: TimeWindowFreshnessPolicy) -> str:
    fail, warn = policy.fail_window.to_timedelta(), policy.warn_window
    said = f"at most {duration(fail)} old"
    return f"{said}, warned of after {duration(warn.to_timedelta())}" if warn else said
