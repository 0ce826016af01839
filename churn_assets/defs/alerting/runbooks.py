"""Runbook of each incident; the runbooks are sections of docs/operations.md."""

from collections.abc import Mapping

from churn_assets.defs.automation import deadlines

DOCUMENT = "docs/operations.md"

LATE, STALE, CONTRACT = "data-late", "asset-stale", "contract-broken"
DRIFT, WORSE, REFUSED = "drift-found", "model-got-worse", "promotion-refused"
ROLLBACK, FAILED, DEFECT = "rollback", "run-failed", "model-is-not-what-was-trained"
LEAK, LOST = "leak-suspected", "predictions-are-lost"
AUDIT, SERVING = "audit-chain-broken", "serving-does-not-match-training"

OF_ASSET: Mapping[str, str] = {
    "raw_customers": CONTRACT,
    "churn_labels": CONTRACT,
    "validated_features": CONTRACT,
    "training_set": CONTRACT,
    "churn_model": DEFECT,
    "evaluation_report": WORSE,
    "promoted_model": REFUSED,
    "customer_scores": DRIFT,
    "served_traffic": SERVING,
    "drift_report": DRIFT,
    "churn_bento": DEFECT,
}
"""Runbook for the checks of an asset."""

OF_CHECK: Mapping[str, str] = {
    "no_feature_knows_the_label": LEAK,
    "model_not_too_good": LEAK,
    "performance_holds": WORSE,
    "served_traffic_as_training": SERVING,
    "audit_chain_unbroken": AUDIT,
    "approval_recorded": AUDIT,
    "predictions_complete": LOST,
    "every_customer_scored": FAILED,
}
"""Runbook for checks that need another runbook than their asset's."""

OF_SOURCE = {"customer_deliveries", "label_deliveries", "raw_customers", "churn_labels"}


def of_check(asset: str, name: str) -> str:
    """Returns the runbook for a failed check."""
    if name == deadlines.CHECK:
        return of_freshness(asset)
    return _anchor(OF_CHECK.get(name) or OF_ASSET.get(asset, FAILED))


def of_freshness(asset: str) -> str:
    """Returns the runbook for an asset that fails its freshness policy."""
    return _anchor(LATE if asset in OF_SOURCE else STALE)


def of_run() -> str:
    """Returns the runbook for a failed run."""
    return _anchor(FAILED)


def of_decision(action: str) -> str:
    """Returns the runbook for a reported decision: how to examine it, and how to undo it."""
    return _anchor({"retraining": DRIFT, "override": CONTRACT}.get(action, ROLLBACK))


def _anchor(name: str) -> str:
    return f"{DOCUMENT}#{name}"
