"""The champion's scores of every customer, month by month."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import TEST, of_split
from churn_assets.core.scoring import scores as core
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import GatedConfig, by_a_daemon, require_open
from churn_assets.defs.platform.metadata import column_schema
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking

SCORES = "customer_scores"


class ScoresConfig(GatedConfig):
    """How to score."""

    rescore: bool = False
    """Score a month that was delivered with the present champion, not with the version that it was
    delivered with; needs `override_reason` and `override_by`, and is written to the audit log."""


def definitions(platform: Platform) -> dg.Definitions:
    """`customer_scores`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [
        check(SCORES, "every_customer_scored", "Each customer has one score.",
              blocking=True, partitions_def=months),
        check(SCORES, "score_distribution_as_tested",
              "Scores spread as on the model's test rows.", partitions_def=months),
    ]  # fmt: skip

    @dg.asset(
        name=SCORES,
        ins={
            "validated_features": dg.AssetIn("validated_features"),
            "promoted_model": dg.AssetIn("promoted_model"),
        },
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        output_required=False,
        # Its columns are not the contract's, whatever they are called.
        io_manager_key="text_tables",
        group_name="serving",
        owners=[OWNER],
        kinds={"deltalake", "numpy"},
        code_version=platform.code_version(1),
        metadata=column_schema(
            contract,
            (contract.id,),
            platform=("month", core.PROBABILITY, "risk_category", "expected_value", "rank",
                      core.VERSION),
        ),
        description=(
            "One row is one customer of the month: the champion's probability, risk category, what "
            "an offer is worth, rank. A month that was delivered keeps its model version."
        ),
    )  # fmt: skip
    def customer_scores(
        context: dg.AssetExecutionContext,
        config: ScoresConfig,
        validated_features: pd.DataFrame,
        promoted_model: PromotedModel,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        from churn_assets.adapters.registry import load_scorer

        require_open(context, config, audit)
        mlflow.connect()
        model = _model(context, config, promoted_model.model, lake, audit)
        scorer = load_scorer(model)
        scores = core.customer_scores(validated_features, scorer, contract, model.version)
        version = model.table_versions["training_set"]
        scores.attrs[PROVENANCE] = {**validated_features.attrs[PROVENANCE], "training_set": version}
        test = of_split(typed(lake.read("training_set", version=version), contract), TEST)
        tested = scorer.score(model_columns(test, contract))
        drift = core.prediction_drift(scores[core.PROBABILITY], tested)
        verdicts = {
            "every_customer_scored": core.every_customer_scored(
                scores, validated_features, contract
            ),
            "score_distribution_as_tested": core.score_distribution_as_tested(drift, limits),
        }
        shown = {"model_version": model.version, **core.totals(scores)}
        if all_passed(verdicts, specs):
            yield dg.Output(scores, metadata=shown)
        yield from results(SCORES, verdicts, warn=["score_distribution_as_tested"], metadata=shown)

    return dg.Definitions(assets=[customer_scores])


def delivered_version(lake: Lake, month: str) -> str | None:
    """The model version that a month was scored with; None where it was not scored."""
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
    """Who scores the month: the champion, or who scored it before."""
    from churn_assets.adapters.registry import model_record

    month = context.partition_key
    before = delivered_version(lake, month)
    if before in (None, champion.version):
        return champion
    if not config.rescore:
        return model_record(champion.name, str(before))
    if not config.overrides or by_a_daemon(context):
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
