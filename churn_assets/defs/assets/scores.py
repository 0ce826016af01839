"""The champion's scores of every customer, month by month."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.training_rows import training_set_of
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import TEST, rows_of_split
from churn_assets.core.scoring import scores as core
from churn_assets.defs.assets.validation import FEATURES, features_of
from churn_assets.defs.gates.approval import GatedConfig, may_override
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.metadata import column_schema
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking
from churn_assets.defs.platform.steps import step

SCORES = "customer_scores"
COLUMNS = ("month", core.PROBABILITY, "risk_category", "expected_value", "rank", core.VERSION)
"""Columns beside the customer's id."""


class ScoresConfig(GatedConfig):
    """Run config of `customer_scores`."""

    rescore: bool = False
    """Scores a delivered month with the current champion, not with the version that scored it
    before; needs `override_reason` and `override_by`, and is written to the audit log."""


def definitions(platform: Platform) -> dg.Definitions:
    """`customer_scores`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = _checks(months)

    @dg.asset(
        name=SCORES,
        deps=[FEATURES],
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        output_required=False,
        # The contract's dtypes do not apply to columns that happen to have the same name.
        io_manager_key="text_tables",
        group_name="serving",
        owners=[OWNER],
        kinds={"deltalake", "numpy"},
        code_version=platform.code_version(1),
        metadata=column_schema(contract, (contract.id,), platform=COLUMNS),
        description=(
            "One row is one customer of the month: the champion's probability, risk category, "
            "expected value of an offer, rank. A delivered month keeps its model version."
        ),
    )
    @step
    def customer_scores(
        context: dg.AssetExecutionContext,
        config: ScoresConfig,
        promoted_model: PromotedModel,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        from churn_assets.adapters.registry import load_scorer

        require_open(context, config, audit)
        features = features_of(lake, contract, context.partition_key)
        mlflow.connect()
        model = _model(context, config, promoted_model.model, lake, audit)
        scorer = load_scorer(model)
        scores = core.customer_scores(features, scorer, contract, model.version)
        version = model.table_versions["training_set"]
        scores.attrs[PROVENANCE] = {**features.attrs[PROVENANCE], "training_set": version}
        test = rows_of_split(training_set_of(model, lake, contract), TEST)
        tested = scorer.score(model_columns(test, contract))
        drift = core.prediction_drift(scores[core.PROBABILITY], tested)
        verdicts = {
            "every_customer_scored": core.every_customer_scored(scores, features, contract),
            "score_distribution_as_tested": core.score_distribution_as_tested(drift, limits),
        }
        shown = {"model_version": model.version, **core.totals(scores)}
        if all_passed(verdicts, specs):
            yield dg.Output(scores, metadata=shown)
        yield from results(SCORES, verdicts, warn=["score_distribution_as_tested"], metadata=shown)

    return dg.Definitions(assets=[customer_scores])


def _checks(months: dg.PartitionsDefinition[Any]) -> list[dg.AssetCheckSpec]:
    return [
        check(SCORES, "every_customer_scored", "Each customer has one score.",
              blocking=True, partitions_def=months),
        check(SCORES, "score_distribution_as_tested",
              "The scores are distributed as on the model's test rows.", partitions_def=months),
    ]  # fmt: skip


def delivered_version(lake: Lake, month: str) -> str | None:
    """Returns the model version that a month was scored with; None where it was not scored."""
    if month not in lake.months(SCORES):
        return None
    return str(lake.read(SCORES, [month])[core.VERSION].iloc[0])


def _model(
    context: dg.AssetExecutionContext,
    config: ScoresConfig,
    champion: ModelRecord,
    lake: Lake,
    audit: AuditLog,
) -> ModelRecord:
    """Returns the model for the month: the version that scored it before, else the champion."""
    from churn_assets.adapters.registry import model_record

    month = context.partition_key
    before = delivered_version(lake, month)
    if before in (None, champion.version):
        return champion
    if not config.rescore:
        return model_record(champion.name, str(before))
    if not may_override(context, config):
        raise dg.Failure(
            description=f"{month} was delivered with model version {before}: to score it again "
            f"with version {champion.version}, set override_reason and override_by beside rescore",
            allow_retries=False,
        )
    entry = audit.append(
        action="rescore",
        actor=config.override_by.strip(),
        subject=f"{SCORES}/{month}",
        reason=config.override_reason.strip(),
        before=str(before),
        after=champion.version,
        evidence=_evidence(context, lake),
    )
    context.add_asset_metadata({"rescored": entry.reason, "rescored_by": entry.actor})
    return champion


def _evidence(context: dg.AssetExecutionContext, lake: Lake) -> dict[str, Any]:
    return {"dagster_run_id": context.run.run_id, "table_versions": {SCORES: lake.version(SCORES)}}
