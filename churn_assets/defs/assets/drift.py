"""Drift of one month against the training data: its customers, scores and outcomes."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.reports.check_pages import drift_check_page
from churn_assets.adapters.reports.markdown import drift_table
from churn_assets.adapters.training_rows import training_set_of
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import TEST, rows_of_split
from churn_assets.core.monitoring.drift import DriftReport, compare_month, compare_traffic
from churn_assets.core.monitoring.performance import (
    RealisedPerformance,
    last_realised,
    realised_performance,
)
from churn_assets.core.scoring.scores import PROBABILITY, PredictionDrift, prediction_drift
from churn_assets.defs.assets.scores import SCORES, delivered_version
from churn_assets.defs.assets.sources import LABELS
from churn_assets.defs.assets.traffic import TRAFFIC, stored_traffic
from churn_assets.defs.assets.validation import FEATURES, features_of
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import check, results
from churn_assets.defs.gates.gates import FailedCheck, overridden, require_open, shut_periods
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking
from churn_assets.defs.platform.steps import step

REPORT = "drift_report"

CHECKS = {
    "no_feature_drift": "No feature's distribution differs from training.",
    "no_new_categories": "No category is new, and none of the training set has vanished.",
    "nulls_as_in_training": "No feature has more nulls than in training, or fewer beyond chance.",
    "no_prediction_drift": "The scores are distributed as on the model's test rows.",
    "performance_holds": "Realised performance of the latest scores is close to the test's.",
    "served_traffic_as_training": "The service's requests are about customers as in training.",
}


def definitions(platform: Platform) -> dg.Definitions:
    """`drift_report`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [check(REPORT, name, text, partitions_def=months) for name, text in CHECKS.items()]

    @dg.asset(
        name=REPORT,
        deps=[FEATURES, SCORES, TRAFFIC, *_realised_labels(platform)],
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        io_manager_key="documents",
        group_name="monitoring",
        owners=[OWNER],
        kinds={"scipy", "html"},
        code_version=platform.code_version(3),
        description=(
            "Comparison of one month with the training set of the model that scored it: every "
            "feature, the scores, the served traffic, and the realised performance of the months "
            "whose labels are known. Stored as JSON and as one HTML page."
        ),
    )
    @step
    def drift_report(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        promoted_model: PromotedModel,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[DriftReport]]:
        from churn_assets.adapters.registry import load_report

        require_open(context, config, audit)
        mlflow.connect()
        month = context.partition_key
        model = _model(promoted_model.model, lake, month)
        training_set = training_set_of(model, lake, contract)
        served = stored_traffic(lake, contract, month)
        months, left_out = _labelled_months(context, config, audit, platform, lake)
        report = compare_month(
            training_set,
            features_of(lake, contract, month),
            contract,
            limits,
            name=month,
            model_version=model.version,
            made_at=datetime.now(UTC),
            predictions=_predictions(platform, lake, model, training_set, month),
            served=compare_traffic(training_set, served, contract, limits),
            tested_auc=load_report(model).metrics["roc_auc"],
            performance=_performance(platform, lake, model, months),
        )
        yield dg.Output(report, metadata=_metadata(report, model, left_out))
        yield from _results(report)

    return dg.Definitions(assets=[drift_report])


def _realised_labels(platform: Platform) -> list[dg.AssetDep]:
    """Returns the dependency on the labels that come with a month: those of one horizon before."""
    if platform.source.single_snapshot:
        return []
    earlier = -platform.contract.horizon_months
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=earlier, end_offset=earlier, allow_nonexistent_upstream_partitions=True
    )
    return [dg.AssetDep(LABELS, partition_mapping=mapping)]


def _model(champion: ModelRecord, lake: Lake, month: str) -> ModelRecord:
    """Returns the model that scored the month; the champion where no model did."""
    from churn_assets.adapters.registry import model_record

    version = delivered_version(lake, month)
    return champion if version in (None, champion.version) else model_record(champion.name, version)


def _predictions(
    platform: Platform, lake: Lake, model: ModelRecord, training_set: pd.DataFrame, month: str
) -> PredictionDrift | None:
    from churn_assets.adapters.registry import load_scorer

    if month not in lake.months(SCORES):
        return None
    test = rows_of_split(training_set, TEST)
    tested = load_scorer(model).score(model_columns(test, platform.contract))
    return prediction_drift(lake.read(SCORES, [month])[PROBABILITY], tested)


def _labelled_months(
    context: dg.AssetExecutionContext,
    config: GatedConfig,
    audit: AuditLog,
    platform: Platform,
    lake: Lake,
) -> tuple[list[str], list[FailedCheck]]:
    """Returns the latest months with labels, and the failed checks of those that are left out.

    The months are as many as a model is trained on; older months are in older reports.
    """
    horizon = 0 if platform.source.single_snapshot else platform.contract.horizon_months
    last = last_realised(context.partition_key, horizon)
    known = [m for m in lake.months(LABELS) if m <= last][-platform.settings.training_months :]
    shut = shut_periods(context, REPORT, known)
    failed = [check for checks in shut.values() for check in checks]
    if failed and overridden(context, config, audit, failed):
        return known, []
    return [month for month in known if month not in shut], failed


def _performance(
    platform: Platform, lake: Lake, model: ModelRecord, months: Collection[str]
) -> tuple[RealisedPerformance, ...]:
    """Returns the realised performance in some months with labels, of scores and of traffic."""
    contract = platform.contract
    scores, traffic, labels = (_of_months(lake, name, months) for name in (SCORES, TRAFFIC, LABELS))
    return realised_performance(
        scores,
        traffic,
        labels,
        contract,
        training_months=partial(_training_months, model.name),
        seed=platform.settings.seed,
    )


def _of_months(lake: Lake, name: str, months: Collection[str]) -> pd.DataFrame:
    """Returns the rows of some months in a table; an empty frame where it has none of them."""
    stored = [month for month in lake.months(name) if month in months]
    return lake.read(name, stored) if stored else pd.DataFrame()


def _training_months(name: str, version: str) -> tuple[str, ...]:
    from churn_assets.adapters.registry import RegistryError, model_record

    try:
        return model_record(name, version).months
    except RegistryError:
        # The log may also hold predictions of another platform's model, or of a deleted one.
        return ()


def _results(report: DriftReport) -> Iterator[dg.AssetCheckResult]:
    """Yields the result of each check; a failed check has a page of its own."""
    for name, verdict in report.verdicts.items():
        failed = not verdict.passed
        page = {"page": dg.MetadataValue.md(drift_check_page(report, name))} if failed else {}
        yield from results(REPORT, {name: verdict}, warn=[name], metadata=page)


def _metadata(
    report: DriftReport, model: ModelRecord, left_out: Sequence[FailedCheck]
) -> dict[str, Any]:
    return {
        "summary": dg.MetadataValue.md(drift_table(report)),
        "features_drifted": len(report.drifted),
        "rows": report.month_rows,
        "model_version": model.version,
        "training_set_version": model.table_versions["training_set"],
        "labels_left_out": "\n".join(map(str, left_out)) or "none",
    }
