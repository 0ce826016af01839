"""Fifth stage: whether a month's customers still look like those the model learnt from."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord
from churn_assets.adapters.reports.markdown import drift_table
from churn_assets.contracts.schemas import typed
from churn_assets.core.drift import DriftReport, compare_month
from churn_assets.defs.checks import check, results
from churn_assets.defs.platform import OWNER, Platform

REPORT = "drift_report"


def definitions(platform: Platform) -> dg.Definitions:
    """`drift_report`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [
        check(REPORT, "no_feature_drift", "No feature has moved.", partitions_def=months),
        check(REPORT, "no_new_categories", "Training saw the categories.", partitions_def=months),
        check(REPORT, "nulls_as_in_training", "No feature lost values.", partitions_def=months),
    ]

    @dg.asset(
        name=REPORT,
        ins={
            "validated_features": dg.AssetIn("validated_features"),
            "churn_model": dg.AssetIn("churn_model"),
        },
        deps=["training_set"],
        partitions_def=months,
        check_specs=specs,
        io_manager_key="documents",
        group_name="monitoring",
        owners=[OWNER],
        kinds={"scipy", "html"},
        code_version=platform.code_version(1),
        description=(
            "Every feature of one month against the training set: test, corrected p-value, effect "
            "size, nulls, unseen categories; as JSON and as one HTML page."
        ),
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        validated_features: pd.DataFrame,
        churn_model: ModelRecord,
        lake: dg.ResourceParam[Lake],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[DriftReport]]:
        version = churn_model.table_versions["training_set"]
        learnt_from = typed(lake.read("training_set", version=version), contract)
        report = compare_month(
            learnt_from, validated_features, contract, limits, name=context.partition_key
        )
        shown = {"model_version": churn_model.version, "training_set_version": version}
        yield dg.Output(report, metadata=_shown(report) | shown)
        yield from results(REPORT, report.verdicts, warn=report.verdicts)

    return dg.Definitions(assets=[drift_report])


def _shown(report: DriftReport) -> dict[str, Any]:
    return {
        "summary": dg.MetadataValue.md(drift_table(report)),
        "features_drifted": len(report.drifted),
        "rows": report.month_rows,
    }
