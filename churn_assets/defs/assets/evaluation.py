"""Fourth stage: evaluation of the model on customers it was not trained on."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord
from churn_assets.adapters.reports.markdown import evaluation_table
from churn_assets.adapters.training_rows import training_set_of
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.leaks import associations
from churn_assets.core.data.splitting import TEST, TRAINING, rows_of_split
from churn_assets.core.evaluation.evaluation import (
    About,
    EvaluationReport,
    evaluate,
    features_behind,
)
from churn_assets.core.modelling.baseline import fit_baseline
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking
from churn_assets.defs.platform.steps import step

REPORT = "evaluation_report"

CHECKS = [
    check(REPORT, "auc_above_floor", "The model ranks customers well enough.", blocking=True),
    check(REPORT, "model_not_too_good", "The ROC AUC is not too high to be true."),
    check(REPORT, "well_calibrated", "Predicted probabilities match observed churn rates."),
    check(REPORT, "no_weak_slice", "No group of customers is ranked badly."),
    check(REPORT, "beats_simple_baseline", "The model beats a table of churn rates by one column."),
]


def definitions(platform: Platform) -> dg.Definitions:
    """`evaluation_report`, with its checks."""
    contract, settings = platform.contract, platform.settings

    @dg.asset(
        name=REPORT,
        check_specs=CHECKS,
        retry_policy=platform.retries,
        io_manager_key="documents",
        deps=["training_set"],
        group_name="model",
        owners=[OWNER],
        kinds={"scikitlearn", "html"},
        code_version=platform.code_version(2),
        description=(
            "Metrics of the model on the test rows with 95% intervals: overall, by slice, against "
            "a simple baseline, and in money. Stored as JSON and as one HTML page."
        ),
    )
    @step
    def evaluation_report(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        churn_model: ModelRecord,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[EvaluationReport]]:
        from churn_assets.adapters.registry import REPORT_FILE, load_scorer, log_to_run

        require_open(context, config, audit)
        mlflow.connect()
        training_set = training_set_of(churn_model, lake, contract)
        test = rows_of_split(training_set, TEST)
        scorer = load_scorer(churn_model)
        baseline = fit_baseline(rows_of_split(training_set, TRAINING), contract)
        report = evaluate(
            test,
            scorer.score(model_columns(test, contract)),
            baseline.predict(test),
            contract,
            settings.limits,
            associations=associations(training_set, contract, settings.limits),
            resamples=settings.bootstrap_resamples,
            seed=settings.seed,
            about=About(
                model_version=churn_model.version,
                mlflow_run_id=churn_model.run_id,
                table_versions=churn_model.table_versions,
                baseline_feature=baseline.feature,
            ),
        )
        values = {f"test_{k}": m.value for k, m in report.metrics.items() if m.value is not None}
        log_to_run(churn_model, values, {REPORT_FILE: report.model_dump_json()})
        yield dg.Output(report, metadata=_metadata(report, values))
        yield from results(REPORT, report.verdicts, warn=_only_warn(report))

    return dg.Definitions(assets=[evaluation_report])


def _only_warn(report: EvaluationReport) -> list[str]:
    """Names of the checks that only warn; a model that waits for a person is an error."""
    errors = {"model_not_too_good"} if features_behind(report) else set()
    return [spec.name for spec in CHECKS if not spec.blocking and spec.name not in errors]


def _metadata(report: EvaluationReport, values: dict[str, float]) -> dict[str, Any]:
    return {
        "summary": dg.MetadataValue.md(evaluation_table(report)),
        "model_version": report.about.model_version,
        **values,
    }
