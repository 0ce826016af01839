"""Challenger against champion, and movements of the champion.

A movement stands in the audit log before the aliases move. So a crash in between leaves an entry
whose movement is not done yet, and the next run does it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.registry import (
    PREVIOUS,
    aliases,
    champion,
    load_scorer,
    log_to_run,
    model_record,
    promote,
)
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import typed
from churn_assets.core.audit import AuditEntry
from churn_assets.core.evaluation import EvaluationReport
from churn_assets.core.features import model_columns
from churn_assets.core.policies import PromotionPolicy
from churn_assets.core.promotion import (
    Comparison,
    PolicyName,
    approval_recorded,
    compare,
    judge,
    last_movement,
    policy_for,
)
from churn_assets.core.scorer import Scorer
from churn_assets.core.splitting import TEST, of_split
from churn_assets.core.verdict import Verdict

COMPARISON_FILE = "promotion.json"


@dataclass(frozen=True)
class Judged:
    """What a policy says of a challenger, and on which evidence."""

    policy: PolicyName
    comparison: Comparison | None
    verdict: Verdict
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
    """Compares a challenger with the champion, where there is one, on the challenger's test rows.

    The comparison is written to the challenger's MLflow run.

    Args:
        report: on the challenger.
    """
    other = model_record(challenger.name, champion_version) if champion_version else None
    name = policy_for(challenger.recipe, other.recipe if other else None)
    comparison = None
    if other and not (missing := _missing(theirs := load_scorer(other), contract)):
        version = challenger.table_versions["training_set"]
        test = of_split(typed(lake.read("training_set", version=version), contract), TEST)
        columns = model_columns(test, contract)
        ours = load_scorer(challenger).score(columns)
        comparison = compare(
            test, ours, theirs.score(columns), contract, resamples=policy.resamples, seed=seed
        )
        _log(challenger, comparison)
    verdict = judge(name, report, comparison, policy)
    if other and comparison is None:
        said = f"{verdict.description} Its version {other.version} asks for {', '.join(missing)}."
        verdict = Verdict(False, said, verdict.numbers)
    models = {"challenger": challenger, "champion": other}
    evidence = {
        "policy": name,
        "verdict": verdict.description,
        "comparison": comparison.model_dump(mode="json") if comparison else None,
        "checks": {check: found.passed for check, found in report.verdicts.items()},
        "mlflow_run_ids": {role: one.run_id for role, one in models.items() if one},
        "table_versions": challenger.table_versions,
    }
    return Judged(name, comparison, verdict, evidence)


def _missing(scorer: Scorer, contract: Contract) -> list[str]:
    """Inputs that a scorer asks for and rows of the contract do not have as it knows them."""
    numbers, categories = set(scorer.numbers), set(scorer.codes)
    return sorted((numbers - set(contract.numbers)) | (categories - set(contract.categories)))


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
    action: str,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> AuditEntry:
    """Makes a version the champion and the present champion the one before it, on record.

    Args:
        name: registered model.
        action: promotion or rollback.
        actor: who decided.
    """
    before = champion(name)
    entry = audit.append(
        action=action, actor=actor, subject=name, reason=reason,
        before=before or "", after=version, evidence=evidence,
    )  # fmt: skip
    promote(name, version, before)
    return entry


def correct(
    audit: AuditLog, name: str, *, actor: str, reason: str, evidence: Mapping[str, Any]
) -> None:
    """Puts an alias back that somebody moved beside the audit log, on record.

    Where no movement is on record at all, the champion that was found is taken over.
    """
    found, last = champion(name), last_movement(audit.entries(), name)
    after = last.after if last else found
    audit.append(
        action="correction", actor=actor, subject=name, reason=reason,
        before=found or "", after=after or "", evidence=evidence,
    )  # fmt: skip
    if last:
        promote(name, last.after, None)


def finish_movement(audit: AuditLog, name: str) -> None:
    """Moves the aliases where the newest movement on record was cut off before it did."""
    last = last_movement(audit.entries(), name)
    if last and last.after != last.before and champion(name) == (last.before or None):
        promote(name, last.after, last.before or None)


def recorded(audit: AuditLog, name: str) -> Verdict:
    """Whether the champion is the version that the newest movement on record made it."""
    return approval_recorded(champion(name), last_movement(audit.entries(), name))


def promoted(entry: AuditEntry, *, kept: bool = False) -> PromotedModel:
    """The champion that a movement on record made, as the asset is stored."""
    name, evidence = entry.subject, entry.evidence
    previous = aliases(name).get(PREVIOUS)
    action = "kept" if kept else entry.action
    return PromotedModel.model_validate(
        {
            "model": model_record(name, entry.after),
            "previous": model_record(name, previous) if previous else None,
            "action": action,
            "policy": evidence.get("policy"),
            "comparison": evidence.get("comparison"),
            "approved_by": entry.actor,
            "reason": entry.reason,
            "decided_at": entry.at,
            "dagster_run_id": evidence["dagster_run_id"],
            "audit_hash": entry.hash,
        }
    )
