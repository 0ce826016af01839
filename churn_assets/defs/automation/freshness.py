"""How fresh each asset is promised to be, in one place. The numbers are in `core/policies.py`."""

from collections.abc import Mapping
from datetime import timedelta

from dagster import FreshnessPolicy

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
from churn_assets.defs.platform.platform import Platform

UTC = "UTC"


def freshness_policies(platform: Platform) -> Mapping[str, FreshnessPolicy]:
    """The policy of every asset of which something is promised, by the asset's name."""
    promise = platform.settings.freshness
    pulled = _by(promise.raw_deadline, promise.raw_window_hours)
    derived = _by(promise.derived_deadline, promise.derived_window_hours)
    model = FreshnessPolicy.time_window(
        fail_window=timedelta(days=promise.model_fail_days),
        warn_window=timedelta(days=promise.model_warn_days),
    )
    read = FreshnessPolicy.time_window(
        fail_window=timedelta(hours=promise.traffic_fail_hours),
        warn_window=timedelta(hours=promise.traffic_warn_hours),
    )
    lasting = {
        training.MODEL: model,
        evaluation.REPORT: model,
        promotion.PROMOTED: model,
        bentos.BENTO: model,
        traffic.TRAFFIC: read,
    }
    if platform.source.single_snapshot:
        return lasting  # No other month will come.
    return lasting | {
        sources.RAW: pulled,
        sources.LABELS: pulled,
        validation.FEATURES: derived,
        validation.QUARANTINE: derived,
        training.ROWS: derived,
        scores.SCORES: derived,
        drift.REPORT: derived,
    }


def _by(deadline: str, hours: float) -> FreshnessPolicy:
    return FreshnessPolicy.cron(
        deadline_cron=deadline, lower_bound_delta=timedelta(hours=hours), timezone=UTC
    )
