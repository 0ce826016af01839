"""Fifth stage: whether a month's customers still look like those the model learnt from."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.reports.markdown import drift_table, markdown_image
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
            "training_set": dg.AssetIn("training_set"),
        },
        partitions_def=months,
        check_specs=specs,
        io_manager_key="documents",
        group_name="monitoring",
        owners=[OWNER],
        kinds={"scipy", "html"},
        code_version="1",
        description=(
            "Every feature of one month against the training set: test, corrected p-value, effect "
            "size, nulls, unseen categories; as JSON and as one HTML page."
        ),
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        validated_features: pd.DataFrame,
        training_set: pd.DataFrame,
    ) -> Iterator[dg.AssetCheckResult | dg.Output[DriftReport]]:
        report = compare_month(
            training_set, validated_features, contract, limits, name=context.partition_key
        )
        yield dg.Output(report, metadata=_shown(report))
        yield from results(REPORT, report.verdicts, warn=report.verdicts)

    return dg.Definitions(assets=[drift_report])


def _shown(report: DriftReport) -> dict[str, Any]:
    from churn_assets.adapters.reports.plots import drift_plots

    images = [markdown_image(png, name) for name, png in drift_plots(report).items()]
    return {
        "summary": dg.MetadataValue.md(drift_table(report)),
        "plots": dg.MetadataValue.md("\n\n".join(images)),
        "features_drifted": len(report.drifted),
        "rows": report.month_rows,
    }
