"""Who may decide: a person, by name and reason in the run config, or else the policy.

A run that the daemon started has no person behind it, so its config approves nothing.

| decision                                  | who may take it                                  |
|-------------------------------------------|--------------------------------------------------|
| promote a challenger that earned it       | the policy; a person where approval is `manual`  |
| promote a challenger that did not earn it | a person, by `override_by` and `override_reason` |
| promote a first champion that may not pay | a person, by `approved_by` and `reason`          |
| promote a model that may know the label   | a person, by `approved_by` and `reason`          |
| promote a version that was rolled back    | a person, by `approved_by` and `reason`          |
| roll back                                 | a person, by `approved_by` and `reason`          |
| roll back to a version rolled back before | the same person, with an override as well        |
| set the aliases back to the audit log     | a person, by `approved_by` and `reason`          |
| materialise behind a closed gate, rescore | a person, by `override_by` and `override_reason` |
"""

from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.core.verdict import Verdict
from churn_assets.defs.platform.dagster_internals import (
    AUTO_MATERIALIZE_TAG,
    AUTOMATION_CONDITION_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)

OVERRIDE = "override"
"""Action of an override in the audit log."""

BY_POLICY = "policy"
"""Actor of a decision that no person took; no person may use this name."""

DAEMON_TAGS = {AUTO_MATERIALIZE_TAG, AUTOMATION_CONDITION_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG}
"""Tags of a run that no person started."""


class GatedConfig(dg.Config):
    """Run config of every asset that stands behind checks."""

    override_reason: str = ""
    """Why the asset is materialised in spite of a refusal; needs `override_by`."""
    override_by: str = ""
    """Name of the person who decides that."""

    @property
    def overrides(self) -> bool:
        """Whether a person overrides a refusal, and says why."""
        return _signed(self.override_by, self.override_reason)


class PromotionConfig(GatedConfig):
    """Run config of `promoted_model`; empty where the policy decides."""

    approved_by: str = ""
    """Name of the person who promotes, rolls back or corrects."""
    reason: str = ""
    """Reason of that person."""
    rollback: bool = False
    """Makes the version before the champion again; needs `approved_by` and `reason`."""

    @property
    def approved(self) -> bool:
        """Whether a person decides, and says why."""
        return _signed(self.approved_by, self.reason)


def _signed(name: str, reason: str) -> bool:
    return bool(reason.strip()) and name.strip().casefold() not in {"", BY_POLICY}


def started_by_daemon(context: dg.AssetExecutionContext) -> bool:
    """Whether no person started the run."""
    return bool(context.run.tags.keys() & DAEMON_TAGS)


def may_override(context: dg.AssetExecutionContext, config: GatedConfig) -> bool:
    """Whether a person started the run and overrides what refuses it."""
    return config.overrides and not started_by_daemon(context)


def missing_approval(
    context: dg.AssetExecutionContext, config: PromotionConfig, *fields: str
) -> str:
    """Returns how a person decides about the champion; "" where a person did.

    Args:
        fields: Further lines of the run config, such as `rollback: true`.
    """
    lines = how_to_configure(context, "approved_by: ...", "reason: ...", *fields)
    how = f"Materialise promoted_model by hand with this run config:\n{lines}"
    if started_by_daemon(context):
        return f"The daemon started this run, and decides nothing. {how}"
    return "" if config.approved else how


def decider(
    context: dg.AssetExecutionContext, config: PromotionConfig, earned: Verdict | None = None
) -> dict[str, str]:
    """Returns `actor` and `reason` of a decision: the person of the run, or else the policy.

    Args:
        earned: Verdict of the policy on the challenger; None where the policy has no say.
    """
    if config.approved and not started_by_daemon(context):
        return {"actor": config.approved_by.strip(), "reason": config.reason.strip()}
    if earned and not earned.passed:
        return {"actor": config.override_by.strip(), "reason": config.override_reason.strip()}
    return {"actor": BY_POLICY, "reason": earned.description if earned else ""}


def record_override(
    context: dg.AssetExecutionContext,
    config: GatedConfig,
    audit: AuditLog,
    evidence: dict[str, Any],
) -> None:
    """Writes an override to the audit log and to the metadata of the step's assets.

    Args:
        evidence: What was overridden.
    """
    entry = audit.append(
        action=OVERRIDE,
        actor=config.override_by.strip(),
        subject=assets_of(context),
        reason=config.override_reason.strip(),
        before="refused",
        after="made",
        evidence={"dagster_run_id": context.run.run_id, **evidence},
    )
    for key in context.selected_asset_keys:
        context.add_asset_metadata(
            {
                "override_by": config.override_by,
                "override_reason": config.override_reason,
                "override_entry": entry.sequence,
            },
            asset_key=key,
        )


def assets_of(context: dg.AssetExecutionContext) -> str:
    """The assets that a step materialises, and their partition, in words."""
    names = ", ".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
    return f"{names} of {context.partition_key}" if context.has_partition_key else names


def how_to_configure(context: dg.AssetExecutionContext, *fields: str) -> str:
    """The run config with some fields of a step's config, as the UI takes it."""
    lines = "".join(f"\n      {field}" for field in fields)
    return f"ops:\n  {context.op_execution_context.op.name}:\n    config:{lines}"
