"""Whether a month is still as the model was trained for: its customers, scores and outcomes."""

from collections.abc import Collection, Iterator
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
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import TEST, of_split
from churn_assets.core.monitoring.drift import DriftReport, compare_month, compare_traffic
from churn_assets.core.monitoring.performance import Realised, last_realised, realised
from churn_assets.core.scoring.scores import PROBABILITY, PredictionDrift, prediction_drift
from churn_assets.defs.assets.scores import SCORES, delivered_version
from churn_assets.defs.assets.sources import LABELS
from churn_assets.defs.assets.traffic import TRAFFIC, held_traffic
from churn_assets.defs.gates.checks import check, results
from churn_assets.defs.gates.gates import GatedConfig, require_open
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking

REPORT = "drift_report"

CHECKS = {
    "no_feature_drift": "No feature has moved.",
    "no_new_categories": "Training saw the categories.",
    "nulls_as_in_training": "No feature lost values.",
    "no_prediction_drift": "Scores spread as on the model's test rows.",
    "performance_holds": "What came of the latest scores is about as good as the test was.",
    "served_traffic_as_training": "The service is asked about customers as in training.",
}


def definitions(platform: Platform) -> dg.Definitions:
    """`drift_report`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [check(REPORT, name, words, partitions_def=months) for name, words in CHECKS.items()]

    @dg.asset(
        name=REPORT,
        ins={
            "validated_features": dg.AssetIn("validated_features"),
            "promoted_model": dg.AssetIn("promoted_model"),
        },
        deps=[SCORES, TRAFFIC, *_labels_then(platform)],
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        io_manager_key="documents",
        group_name="monitoring",
        owners=[OWNER],
        kinds={"scipy", "html"},
        code_version=platform.code_version(2),
        description=(
            "One month against the training set of the model that scored it: every feature, the "
            "scores, what the service was asked, and what came of the months whose labels are "
            "known; as JSON and as one HTML page."
        ),
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        validated_features: pd.DataFrame,
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
        version = model.table_versions["training_set"]
        learnt_from = typed(lake.read("training_set", version=version), contract)
        report = compare_month(
            learnt_from,
            validated_features,
            contract,
            limits,
            name=month,
            model_version=model.version,
            made_at=datetime.now(UTC),
            predictions=_predictions(platform, lake, model, learnt_from, month),
            served=compare_traffic(
                learnt_from, held_traffic(lake, contract, month), contract, limits
            ),
            tested_auc=load_report(model).metrics["roc_auc"],
            performance=_performance(platform, lake, model, month),
        )
        shown = {"model_version": model.version, "training_set_version": version}
        yield dg.Output(report, metadata=_shown(report) | shown)
        yield from _results(report)

    return dg.Definitions(assets=[drift_report])


def _labels_then(platform: Platform) -> list[dg.AssetDep]:
    """The labels that came with the month: those of the month one horizon before."""
    if platform.source.single_snapshot:
        return []
    earlier = -platform.contract.horizon_months
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=earlier, end_offset=earlier, allow_nonexistent_upstream_partitions=True
    )
    return [dg.AssetDep(LABELS, partition_mapping=mapping)]


def _model(champion: ModelRecord, lake: Lake, month: str) -> ModelRecord:
    """Who scored the month; the champion where nobody did."""
    from churn_assets.adapters.registry import model_record

    version = delivered_version(lake, month)
    return champion if version in (None, champion.version) else model_record(champion.name, version)


def _predictions(
    platform: Platform, lake: Lake, model: ModelRecord, learnt_from: pd.DataFrame, month: str
) -> PredictionDrift | None:
    from churn_assets.adapters.registry import load_scorer

    if month not in lake.months(SCORES):
        return None
    test = of_split(learnt_from, TEST)
    tested = load_scorer(model).score(model_columns(test, platform.contract))
    return prediction_drift(lake.read(SCORES, [month])[PROBABILITY], tested)


def _performance(
    platform: Platform, lake: Lake, model: ModelRecord, month: str
) -> tuple[Realised, ...]:
    """What came of the latest months that were scored, or asked about, and have their labels.

    As many of them as a model learns from; older ones are in older reports.
    """
    contract = platform.contract
    horizon = 0 if platform.source.single_snapshot else contract.horizon_months
    known = [one for one in lake.months(LABELS) if one <= last_realised(month, horizon)]
    known = known[-platform.settings.training_months :]
    scores, traffic, labels = (_of_months(lake, name, known) for name in (SCORES, TRAFFIC, LABELS))
    return realised(
        scores,
        traffic,
        labels,
        contract,
        learnt_from=partial(_learnt_from, model.name),
        seed=platform.settings.seed,
    )


def _of_months(lake: Lake, name: str, months: Collection[str]) -> pd.DataFrame:
    """The rows of these months that a table has; an empty frame where it has none."""
    there = [month for month in lake.months(name) if month in months]
    return lake.read(name, there) if there else pd.DataFrame()


def _learnt_from(name: str, version: str) -> tuple[str, ...]:
    from churn_assets.adapters.registry import RegistryError, model_record

    try:
        return model_record(name, version).months
    except RegistryError:
        # A service of another platform, or of a model that was deleted, writes to the log too.
        return ()


def _results(report: DriftReport) -> Iterator[dg.AssetCheckResult]:
    """Each check, those that failed with a page of their own."""
    for name, verdict in report.verdicts.items():
        failed = not verdict.passed
        page = {"page": dg.MetadataValue.md(drift_check_page(report, name))} if failed else {}
        yield from results(REPORT, {name: verdict}, warn=[name], metadata=page)


def _shown(report: DriftReport) -> dict[str, Any]:
    return {
        "summary": dg.MetadataValue.md(drift_table(report)),
        "features_drifted": len(report.drifted),
        "rows": report.month_rows,
    }
