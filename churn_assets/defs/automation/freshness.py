"""Freshness policy of each asset. The numbers are in `core/policies.py`."""

from collections.abc import Mapping
from datetime import timedelta

from dagster import FreshnessPolicy

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
    CronFreshnessPolicy,
    TimeWindowFreshnessPolicy,
)
from churn_assets.defs.platform.platform import Platform

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
