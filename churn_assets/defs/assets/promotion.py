"""Fifth stage: promotion of the challenger to champion, by policy or by a person."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog, remembered_hash
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.reports.promotion import comparison_table
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.defs.gates.approval import PromotionConfig
from churn_assets.defs.gates.checks import GateError, check, results
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking
from churn_assets.defs.platform.steps import step

PROMOTED = "promoted_model"

CHECKS = [
    check(PROMOTED, "approval_recorded", "The champion's alias is at the version in the audit log.",
          blocking=True),
    check(PROMOTED, "audit_chain_unbroken", "No entry of the audit log was altered or removed.",
          blocking=True),
    check(PROMOTED, "challenger_earned_promotion", "The newest model meets its promotion policy."),
]  # fmt: skip


def definitions(platform: Platform) -> dg.Definitions:
    """`promoted_model`, with its checks."""

    @dg.asset(
        name=PROMOTED,
        check_specs=CHECKS,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="documents",
        group_name="model",
        owners=[OWNER],
        kinds={"mlflow"},
        code_version=platform.code_version(1),
        description=(
            "The champion: the version that serves and scores, and the decision that made it the "
            "champion. A challenger must meet its policy, on the same test rows. `rollback` in "
            "the run config brings back the version before."
        ),
    )
    @step
    def promoted_model(
        context: dg.AssetExecutionContext,
        config: PromotionConfig,
        churn_model: ModelRecord,
        evaluation_report: EvaluationReport,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[PromotedModel]]:
        from churn_assets.adapters.promotions import recorded
        from churn_assets.defs.gates.decision import challenge, repair_aliases, roll_back, verify

        mlflow.connect()
        name = platform.model_name
        anchor = _anchor(platform)
        fault = verify(context, config, audit, name, anchor)
        if fault and fault.to_do:
            yield from results(PROMOTED, {fault.check: fault.verdict})
            raise GateError(description=fault.to_do, allow_retries=False)
        if fault:
            outcome = repair_aliases(context, config, audit, name, anchor, fault)
        if config.rollback:
            outcome = roll_back(context, config, audit, platform, anchor)
        elif fault is None:
            outcome = challenge(
                context, config, audit, platform, anchor, churn_model, evaluation_report, lake
            )
        if outcome.waits_for:
            yield from results(PROMOTED, {"challenger_earned_promotion": outcome.earned})
            raise GateError(description=outcome.waits_for, allow_retries=False)
        if outcome.promoted:
            yield dg.Output(outcome.promoted, metadata=_metadata(outcome.promoted))
        verdicts = {
            "approval_recorded": recorded(audit, name),
            "audit_chain_unbroken": audit.verify(_anchor(platform)),
            "challenger_earned_promotion": outcome.earned,
        }
        yield from results(PROMOTED, verdicts)

    return dg.Definitions(assets=[promoted_model])


def _anchor(platform: Platform) -> str:
    """Returns the hash of the audit entry that the stored record of the champion names."""
    return remembered_hash(platform.reports / f"{PROMOTED}.json")


def _metadata(promoted: PromotedModel) -> dict[str, Any]:
    shown = {
        "action": promoted.action,
        "policy": promoted.policy or "none",
        "from": promoted.previous.version if promoted.previous else "none",
        "to": promoted.model.version,
        "model_version": promoted.model.version,
        "approved_by": promoted.approved_by,
        "reason": promoted.reason,
        "mlflow_run_id": promoted.model.run_id,
        "audit_hash": promoted.audit_hash,
    }
    if promoted.comparison is None:
        return shown
    return shown | {
        "comparison": dg.MetadataValue.md(comparison_table(promoted.comparison)),
        "auc_gained": promoted.comparison.auc_gained.value,
        "profit_gained": promoted.comparison.profit_gained.value,
    }
