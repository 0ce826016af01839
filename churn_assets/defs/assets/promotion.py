"""Fifth stage: the challenger becomes the champion where it has earned it, or a person says so."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.reports.promotion import comparison_table
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.defs.gates.checks import GateError, check, results
from churn_assets.defs.gates.decision import Decision, PromotionConfig
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking

PROMOTED = "promoted_model"

CHECKS = [
    check(PROMOTED, "approval_recorded", "The champion is the one that the audit log says.",
          blocking=True),
    check(PROMOTED, "audit_chain_unbroken", "Every entry of the audit log is as it was written.",
          blocking=True),
    check(PROMOTED, "challenger_earned_promotion", "The newest model passed its policy."),
]  # fmt: skip


def definitions(platform: Platform) -> dg.Definitions:
    """`promoted_model`, with its checks."""

    @dg.asset(
        name=PROMOTED,
        ins={
            "churn_model": dg.AssetIn("churn_model"),
            "evaluation_report": dg.AssetIn("evaluation_report"),
        },
        check_specs=CHECKS,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="documents",
        group_name="model",
        owners=[OWNER],
        kinds={"mlflow"},
        code_version=platform.code_version(1),
        description=(
            "The version that serves and scores: the champion, and how it came to be that. A "
            "challenger must earn it by its policy, on the same test rows. `rollback` in the run "
            "config brings back the version before."
        ),
    )
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

        mlflow.connect()
        decision = Decision(context, config, audit, platform)
        outcome = None
        if fault := decision.fault():
            if to_do := decision.how_to_mend(fault):
                yield from results(PROMOTED, fault)
                raise GateError(description=to_do, allow_retries=False)
            outcome = decision.mend(fault)
        if config.rollback:
            outcome = decision.roll_back()
        elif outcome is None:
            outcome = decision.challenge(churn_model, evaluation_report, lake)
        if outcome.waits_for:
            yield from results(PROMOTED, {"challenger_earned_promotion": outcome.earned})
            raise GateError(description=outcome.waits_for, allow_retries=False)
        if outcome.promoted:
            yield dg.Output(outcome.promoted, metadata=_shown(outcome.promoted))
        verdicts = {
            "approval_recorded": recorded(audit, platform.model_name),
            "audit_chain_unbroken": audit.verify(decision.anchor),
            "challenger_earned_promotion": outcome.earned,
        }
        yield from results(PROMOTED, verdicts)

    return dg.Definitions(assets=[promoted_model])


def _shown(made: PromotedModel) -> dict[str, Any]:
    shown = {
        "action": made.action,
        "policy": made.policy or "none",
        "from": made.previous.version if made.previous else "none",
        "to": made.model.version,
        "model_version": made.model.version,
        "approved_by": made.approved_by,
        "reason": made.reason,
        "mlflow_run_id": made.model.run_id,
        "audit_hash": made.audit_hash,
    }
    if made.comparison is None:
        return shown
    return shown | {
        "comparison": dg.MetadataValue.md(comparison_table(made.comparison)),
        "auc_gained": made.comparison.auc_gained.value,
        "profit_gained": made.comparison.profit_gained.value,
    }
