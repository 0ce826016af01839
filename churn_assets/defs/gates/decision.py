"""Decisions about the champion, in the order in which a run takes them.

`verify` first: nothing moves while the audit log or the aliases are wrong. Then one of
`repair_aliases`, `roll_back` and `challenge`. `approval.py` says who may decide each of them. The
movements themselves are in `adapters/promotions.py`.

The step of `promoted_model` imports this module, because sklearn comes with it.
"""

from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.promotions import (
    MovementError,
    UnusableError,
    correct,
    corrected,
    finish_movement,
    judge_challenger,
    move,
    promoted,
    recorded,
    usable,
)
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.governance.registry import RegistryState, registry_state, rollback_from
from churn_assets.core.verdict import Verdict, not_judged
from churn_assets.defs.gates.approval import (
    PromotionConfig,
    decider,
    how_to_configure,
    may_override,
    missing_approval,
    record_override,
)
from churn_assets.defs.gates.checks import GateError
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.dagster_internals import ROOT_RUN_ID_TAG
from churn_assets.defs.platform.platform import Platform


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        earned: Verdict of the policy on the challenger.
        promoted: The champion now; None where the challenger was refused or waits.
        waits_for: What a person must do before the challenger is promoted; "" where nothing.
    """

    earned: Verdict
    promoted: PromotedModel | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class Fault:
    """A blocking check that failed before anything moved.

    Attributes:
        check: Name of the check.
        to_do: What a person must do first; "" where this run may repair the fault.
    """

    check: str
    verdict: Verdict
    to_do: str = ""


def verify(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    audit: AuditLog,
    name: str,
    anchor: str,
) -> Fault | None:
    """Checks the audit log, and the aliases against it.

    A movement whose run crashed after the entry in the audit log is completed first.

    Args:
        name: Name of the registered model.
        anchor: Hash of the entry that the champion's record names.

    Returns:
        The fault that forbids every movement; None where there is none.
    """
    chain = audit.verify(anchor)
    if not chain.passed:
        to_do = f"{chain.description} Nothing moves until the table audit_log is repaired."
        return Fault("audit_chain_unbroken", chain, to_do)
    finish_movement(audit, name)
    approval = recorded(audit, name)
    if approval.passed:
        return None
    to_do = ""
    if how := missing_approval(context, config):
        version = corrected(audit, name)
        goal = f"version {version}" if version else "none, because the version on record is lost"
        to_do = f"{approval.description} A person can set `champion` to {goal}, on record. {how}"
    return Fault("approval_recorded", approval, to_do)


def repair_aliases(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    audit: AuditLog,
    name: str,
    anchor: str,
    fault: Fault,
) -> Outcome:
    """Sets the aliases back to what the audit log says, by a person's approval.

    The run judges no challenger: a person who corrects an alias has approved none.
    """
    evidence = {**_run(context), "found": fault.verdict.description}
    state = correct(audit, name, **decider(context, config), evidence=evidence)
    why = "the aliases follow the audit log again; a challenger is judged by the next run."
    return Outcome(not_judged(why), promoted(state, anchor))


def roll_back(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    audit: AuditLog,
    platform: Platform,
    anchor: str,
) -> Outcome:
    """Makes the version before the champion again, by a person's approval.

    Raises:
        GateError: No version can be rolled back to, or no person requests it.
    """
    name = platform.model_name
    if how := missing_approval(context, config, "rollback: true"):
        raise GateError(description=f"A rollback needs a person. {how}", allow_retries=False)
    state = registry_state(audit.entries(), name)
    if not _rolled_back_already(context, state):
        version = _version_to_roll_back_to(context, config, audit, platform, state)
        try:
            state = move(
                audit, name, version, behind=state.by,
                action="rollback", **decider(context, config), evidence=_run(context),
            )  # fmt: skip
        except MovementError as error:
            # Another attempt would roll back from a version that nobody named.
            raise GateError(description=str(error), allow_retries=False) from error
    why = f"rolled back to version {state.champion}; a challenger is judged by the next run."
    return Outcome(not_judged(why), promoted(state, anchor))


def challenge(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    audit: AuditLog,
    platform: Platform,
    anchor: str,
    challenger: ModelRecord,
    report: EvaluationReport,
    lake: Lake,
) -> Outcome:
    """Promotes the challenger if it earned the promotion and has the approval that it needs.

    Raises:
        GateError: A check upstream failed, the report is about another version, or the challenger
            was trained under another contract.
        MovementError: The champion has moved meanwhile; a retry judges everything again.
    """
    require_open(context, config, audit)
    name, policy = platform.model_name, platform.settings.promotion
    _require_judgeable(challenger, report, name, platform.contract.version)
    state = registry_state(audit.entries(), name)
    if state.champion == challenger.version:
        message = f"Version {state.champion} is the champion already."
        return Outcome(Verdict(True, message), promoted(state, anchor))
    judged = judge_challenger(
        challenger, report, state.champion, platform.contract, policy, lake,
        seed=platform.settings.seed,
    )  # fmt: skip
    evidence = _run(context) | judged.evidence
    how = missing_approval(context, config)
    earned = judged.verdict
    if earned.passed and how:
        earned = _unless_rolled_back(earned, audit, name, challenger.version)
    elif judged.approvable and not how:
        approved = f"{earned.description} {config.approved_by.strip()} approved it."
        earned = replace(earned, passed=True, description=approved)
    waits = f"Version {challenger.version} waits for approval. {earned.description}\n{how}"
    manual = policy.approval == "manual"
    if not earned.passed and not may_override(context, config):
        if not judged.approvable:
            return Outcome(earned)
        # Without `manual` the daemon starts this run, and the failed check alone is reported.
        return Outcome(replace(earned, description=waits), waits_for=waits if manual else "")
    if manual and how:
        return Outcome(earned, waits_for=waits)
    if not earned.passed:
        record_override(context, config, audit, evidence)
    state = move(
        audit, name, challenger.version, behind=state.by,
        action="promotion", **decider(context, config, earned), evidence=evidence,
    )  # fmt: skip
    return Outcome(earned, promoted(state, anchor))


def _require_judgeable(
    challenger: ModelRecord, report: EvaluationReport, name: str, contract_version: str
) -> None:
    about = report.about
    trained = f"{challenger.name} under contract version {challenger.contract_version}"
    wanted = f"{name} under contract version {contract_version}"
    if trained != wanted:
        message = f"churn_model is {trained}, not {wanted}: materialise it and its report first"
        raise GateError(description=message, allow_retries=False)
    if (about.model_version, about.mlflow_run_id) != (challenger.version, challenger.run_id):
        message = (
            f"evaluation_report is about model version {about.model_version}, churn_model is "
            f"version {challenger.version}: materialise evaluation_report first"
        )
        raise GateError(description=message, allow_retries=False)


def _unless_rolled_back(earned: Verdict, audit: AuditLog, name: str, version: str) -> Verdict:
    """The verdict, or a refusal where a person rolled back from the version."""
    rollback = rollback_from(audit.entries(), name, version)
    if rollback is None:
        return earned
    message = (
        f"{rollback.actor} rolled back from version {version} ({rollback.reason}): only a person "
        f"promotes it again, with `approved_by` and `reason`. {earned.description}"
    )
    return Verdict(False, message, earned.numbers)


def _rolled_back_already(context: dg.AssetExecutionContext, state: RegistryState) -> bool:
    """Whether an earlier attempt of this run rolled back and was cut off afterwards."""
    last = state.by
    root = _run(context)["root_run_id"]
    return bool(last and last.action == "rollback" and last.evidence.get("root_run_id") == root)


def _version_to_roll_back_to(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    audit: AuditLog,
    platform: Platform,
    state: RegistryState,
) -> str:
    name, version = platform.model_name, state.previous
    if version is None:
        message = f"{name} has no version with the alias `previous` to roll back to"
        raise GateError(description=message, allow_retries=False)
    try:
        usable(name, version, platform.contract)
    except UnusableError as error:
        raise GateError(description=f"No rollback: {error}", allow_retries=False) from error
    if rollback := rollback_from(audit.entries(), name, version):
        message = (
            f"{rollback.actor} rolled back from version {version} ({rollback.reason}); another "
            "rollback would bring it back."
        )
        if not config.overrides:
            fields = ("approved_by: ...", "reason: ...", "rollback: true",
                      "override_reason: ...", "override_by: ...")  # fmt: skip
            how = how_to_configure(context, *fields)
            raise GateError(description=f"{message} To do that:\n{how}", allow_retries=False)
        record_override(context, config, audit, {"refused": message})
    return version


def _run(context: dg.AssetExecutionContext) -> dict[str, Any]:
    """The run, and the first attempt where the run is a retry."""
    run = context.run
    root = run.tags.get(ROOT_RUN_ID_TAG, run.run_id)
    return {"dagster_run_id": run.run_id, "root_run_id": root}
