"""Comparison of challenger and champion, and movements of the champion.

The audit log records which version is the champion; the aliases in MLflow follow the log. A
movement is first appended to the log, and only if the newest movement is still the one that the
decision was based on. So of two concurrent decisions one is refused, and after a crash the next run
moves the aliases to the newest entry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.registry import (
    CHAMPION,
    PREVIOUS,
    RegistryError,
    aliases,
    champion,
    load_scorer,
    log_to_run,
    model_record,
    set_aliases,
)
from churn_assets.adapters.training_rows import training_set_of
from churn_assets.contracts.contract import Contract
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import TEST, rows_of_split
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.evaluation.metrics import Floats
from churn_assets.core.governance.audit import AuditEntry
from churn_assets.core.governance.promotion import (
    Comparison,
    PolicyName,
    approvable,
    compare,
    judge,
    policy_for,
    unless_label_is_known,
)
from churn_assets.core.governance.registry import (
    RegistryState,
    approval_recorded,
    registry_state,
)
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.policies import PromotionPolicy
from churn_assets.core.verdict import Verdict

COMPARISON_FILE = "promotion.json"


class MovementError(RuntimeError):
    """The champion has changed since the decision; nothing was moved."""


class UnusableError(RuntimeError):
    """A registered version cannot score rows of the contract; the message says why."""


@dataclass(frozen=True)
class Judged:
    """Verdict on a challenger, with its evidence.

    Attributes:
        verdict: Verdict of the policy, or a refusal because the model may know the label.
        approvable: Whether the challenger is refused, and a person's approval promotes it without
            an override.
    """

    policy: PolicyName
    comparison: Comparison | None
    verdict: Verdict
    approvable: bool
    evidence: dict[str, Any]


def judge_challenger(
    challenger: ModelRecord,
    report: EvaluationReport,
    champion_version: str | None,
    contract: Contract,
    policy: PromotionPolicy,
    lake: Lake,
    *,
    seed: int,
) -> Judged:
    """Compares a challenger with the champion, if there is one, on the challenger's test rows.

    The comparison is logged to the challenger's MLflow run. If the champion cannot score these rows
    or was lost, there is no comparison, and the challenger does not pass.

    Args:
        report: Evaluation of the challenger.
    """
    champion_record, comparison, problem = None, None, ""
    if champion_version:
        try:
            champion_record, scorer = usable(challenger.name, champion_version, contract)
        except UnusableError as error:
            problem = str(error)
    if champion_record:
        test, ours, theirs = _test_scores(challenger, scorer, contract, lake)
        comparison = compare(test, ours, theirs, contract, resamples=policy.resamples, seed=seed)
        _log(challenger, comparison)
    # The recipe of an unusable champion is unknown: the challenger has to be superior.
    recipe = champion_record.recipe if champion_record else champion_version and "unknown"
    name = policy_for(challenger.recipe, recipe)
    by_policy = judge(name, report, comparison, policy)
    if problem:
        by_policy = Verdict(False, f"{by_policy.description} {problem}.", by_policy.numbers)
    verdict = unless_label_is_known(by_policy, report)
    models = {"challenger": challenger, "champion": champion_record}
    evidence = {
        "policy": name,
        "verdict": verdict.description,
        "comparison": comparison.model_dump(mode="json") if comparison else None,
        "checks": {
            check: found.passed if found.judged else None
            for check, found in report.verdicts.items()
        },
        "mlflow_run_ids": {role: one.run_id for role, one in models.items() if one},
        "table_versions": challenger.table_versions,
    }
    return Judged(name, comparison, verdict, approvable(name, report, by_policy), evidence)


def usable(name: str, version: str, contract: Contract) -> tuple[ModelRecord, Scorer]:
    """Loads a registered version that can score rows of a contract, with its scorer.

    Raises:
        UnusableError: The version was lost, or needs inputs that the contract does not have with
            the same type.
    """
    try:
        record = model_record(name, version)
        scorer = load_scorer(record)
    except RegistryError as error:
        raise UnusableError(str(error)) from error
    numbers, categories = set(scorer.numbers), set(scorer.codes)
    missing = (numbers - set(contract.numbers)) | (categories - set(contract.categories))
    if missing:
        needed = ", ".join(sorted(missing))
        raise UnusableError(f"{name}:{version} needs {needed}, which the contract does not have")
    return record, scorer


def _test_scores(
    challenger: ModelRecord, champion_scorer: Scorer, contract: Contract, lake: Lake
) -> tuple[pd.DataFrame, Floats, Floats]:
    """Returns the challenger's test rows, and the probabilities of challenger and champion."""
    scorer = load_scorer(challenger)
    training_set = training_set_of(challenger, lake, contract)
    test = rows_of_split(training_set, TEST)
    columns = model_columns(test, contract)
    return test, scorer.score(columns), champion_scorer.score(columns)


def _log(challenger: ModelRecord, comparison: Comparison) -> None:
    gained = {"auc": comparison.auc_gained, "profit": comparison.profit_gained}
    found = {f"promotion_{name}_gained": one.value for name, one in gained.items()}
    metrics = {name: value for name, value in found.items() if value is not None}
    log_to_run(challenger, metrics, {COMPARISON_FILE: comparison.model_dump_json(indent=1)})


def move(
    audit: AuditLog,
    name: str,
    version: str,
    *,
    behind: AuditEntry | None,
    action: str,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> RegistryState:
    """Makes a version the champion and the current champion `previous`, through the audit log.

    Args:
        name: Name of the registered model.
        behind: Newest movement at the time of the decision.
        action: `promotion` or `rollback`.
        actor: The person who decided, or `policy`.

    Raises:
        MovementError: The champion has moved since.
    """

    def not_moved(entries: Sequence[AuditEntry]) -> None:
        if (last := registry_state(entries, name).by) != behind and last:
            raise MovementError(
                f"the champion of {name} has moved meanwhile: entry {last.sequence} of the audit "
                f"log is a {last.action} by {last.actor} to version {last.after or 'none'}"
            )

    audit.append(
        action=action, actor=actor, subject=name, reason=reason,
        before=(behind.after if behind else ""), after=version, evidence=evidence,
        require=not_moved,
    )  # fmt: skip
    return _settle(audit, name)


def correct(
    audit: AuditLog, name: str, *, actor: str, reason: str, evidence: Mapping[str, Any]
) -> RegistryState:
    """Moves the aliases back to the state in the audit log, and records that as a correction."""
    found = champion(name)
    audit.append(
        action="correction", actor=actor, subject=name, reason=reason,
        before=found or "", after=corrected(audit, name) or "", evidence=evidence,
    )  # fmt: skip
    return _settle(audit, name)


def corrected(audit: AuditLog, name: str) -> str | None:
    """Returns the champion after a correction: that of the audit log; None where it was lost.

    If the log has no movement at all, the current champion in MLflow is kept.
    """
    state = registry_state(audit.entries(), name)
    version = state.champion if state.by else champion(name)
    return version if version and _record(name, version) else None


def finish_movement(audit: AuditLog, name: str) -> None:
    """Moves the aliases if a crash followed the newest movement before its aliases were moved."""
    last, found = registry_state(audit.entries(), name).by, champion(name) or ""
    if last and found == last.before != last.after and _record(name, last.after):
        _settle(audit, name)


def _settle(audit: AuditLog, name: str) -> RegistryState:
    """Moves the aliases to the state in the log; repeated if an entry was appended meanwhile."""
    while True:
        state = registry_state(audit.entries(), name)
        set_aliases(name, state.champion, state.previous)
        if registry_state(audit.entries(), name) == state:
            return state


def recorded(audit: AuditLog, name: str) -> Verdict:
    """Verifies that the aliases are at the versions that the audit log records."""
    found = aliases(name)
    return approval_recorded(
        found.get(CHAMPION), found.get(PREVIOUS), registry_state(audit.entries(), name)
    )


def promoted(state: RegistryState, anchor: str) -> PromotedModel | None:
    """Returns the champion by the audit log as the stored asset; None where there is none.

    Args:
        anchor: Hash of the entry in the stored asset; the action is `kept` where it is unchanged.
    """
    if state.champion is None or (entry := state.by) is None:
        return None
    kept = entry.hash == anchor or entry.action == "correction"
    return PromotedModel.model_validate(
        {
            "model": model_record(entry.subject, state.champion),
            "previous": _record(entry.subject, state.previous) if state.previous else None,
            "action": "kept" if kept else entry.action,
            "policy": entry.evidence.get("policy"),
            "comparison": entry.evidence.get("comparison"),
            "approved_by": entry.actor,
            "reason": entry.reason,
            "decided_at": entry.at,
            "dagster_run_id": entry.evidence["dagster_run_id"],
            "audit_hash": entry.hash,
        }
    )


def _record(name: str, version: str) -> ModelRecord | None:
    """Record of a registered version; None where it was lost."""
    try:
        return model_record(name, version)
    except RegistryError:
        return None
