"""Challenger against champion, and movements of the champion.

Who is champion stands in the audit log; the aliases of MLflow follow it. A movement is written
there first, and only behind the one that it was decided on. So of two that are decided at once one
is refused, and a crash in between leaves an entry whose aliases the next run moves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    place,
)
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import TEST, of_split
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.governance.audit import AuditEntry
from churn_assets.core.governance.promotion import (
    Comparison,
    PolicyName,
    Standing,
    approval_recorded,
    compare,
    judge,
    policy_for,
    standing,
)
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.policies import PromotionPolicy
from churn_assets.core.verdict import Verdict

COMPARISON_FILE = "promotion.json"


class MovementError(RuntimeError):
    """The champion is not the one any more that a movement was decided on; nothing was moved."""


class UnusableError(RuntimeError):
    """A registered version cannot score rows of the contract; the message says why."""


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

    The comparison is written to the challenger's MLflow run. With a champion that cannot score
    these rows, or was lost, nothing is compared, and the challenger does not pass.

    Args:
        report: on the challenger.
    """
    other, comparison, hindrance = None, None, ""
    name = policy_for(challenger.recipe, champion_version and "unknown")
    if champion_version:
        try:
            other, scorer = usable(challenger.name, champion_version, contract)
        except UnusableError as error:
            hindrance = str(error)
        else:
            name = policy_for(challenger.recipe, other.recipe)
            comparison = _compared(
                challenger, scorer, contract, lake, resamples=policy.resamples, seed=seed
            )
            _log(challenger, comparison)
    verdict = judge(name, report, comparison, policy)
    if hindrance:
        verdict = Verdict(False, f"{verdict.description} {hindrance}.", verdict.numbers)
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


def usable(name: str, version: str, contract: Contract) -> tuple[ModelRecord, Scorer]:
    """A registered version that can score rows of a contract, and its scorer.

    Raises:
        UnusableError: it was lost, or asks for inputs that rows of the contract do not have as it
            knows them.
    """
    try:
        record = model_record(name, version)
        scorer = load_scorer(record)
    except RegistryError as error:
        raise UnusableError(str(error)) from error
    numbers, categories = set(scorer.numbers), set(scorer.codes)
    missing = (numbers - set(contract.numbers)) | (categories - set(contract.categories))
    if missing:
        asks = ", ".join(sorted(missing))
        raise UnusableError(f"{name}:{version} asks for {asks}, which the contract does not have")
    return record, scorer


def _compared(
    challenger: ModelRecord,
    theirs: Scorer,
    contract: Contract,
    lake: Lake,
    *,
    resamples: int,
    seed: int,
) -> Comparison:
    version = challenger.table_versions["training_set"]
    test = of_split(typed(lake.read("training_set", version=version), contract), TEST)
    columns = model_columns(test, contract)
    ours, others = (one.score(columns) for one in (load_scorer(challenger), theirs))
    return compare(test, ours, others, contract, resamples=resamples, seed=seed)


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
) -> Standing:
    """Makes a version the champion and the present champion the one before it, on record.

    Args:
        name: registered model.
        behind: the newest movement when this one was decided.
        action: promotion or rollback.
        actor: who decided.

    Raises:
        MovementError: the champion has moved since.
    """

    def not_moved(entries: Sequence[AuditEntry]) -> None:
        if (last := standing(entries, name).by) != behind and last:
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
) -> Standing:
    """Has the aliases follow the audit log again after somebody moved them beside it, on record."""
    found = champion(name)
    audit.append(
        action="correction", actor=actor, subject=name, reason=reason,
        before=found or "", after=corrected(audit, name) or "", evidence=evidence,
    )  # fmt: skip
    return _settle(audit, name)


def corrected(audit: AuditLog, name: str) -> str | None:
    """The champion after a correction: that of the audit log, unless it was lost.

    Where no movement is on record at all, the champion that was found is taken over.
    """
    recorded = standing(audit.entries(), name)
    version = recorded.champion if recorded.by else champion(name)
    return version if version and _record(name, version) else None


def finish_movement(audit: AuditLog, name: str) -> None:
    """Moves the aliases where the newest movement on record was cut off before it did."""
    last, found = standing(audit.entries(), name).by, champion(name) or ""
    if last and found == last.before != last.after and _record(name, last.after):
        _settle(audit, name)


def _settle(audit: AuditLog, name: str) -> Standing:
    """Has the aliases follow the audit log; of two that do so at once the later sees both."""
    while True:
        recorded = standing(audit.entries(), name)
        place(name, recorded.champion, recorded.previous)
        if standing(audit.entries(), name) == recorded:
            return recorded


def recorded(audit: AuditLog, name: str) -> Verdict:
    """Whether the aliases are where the movements on record took them."""
    found = aliases(name)
    return approval_recorded(
        found.get(CHAMPION), found.get(PREVIOUS), standing(audit.entries(), name)
    )


def promoted(recorded: Standing, anchor: str) -> PromotedModel | None:
    """The champion by the audit log, as the asset is stored; None where there is none.

    Args:
        anchor: hash of the entry that the stored asset names: with that one nothing is new.
    """
    if recorded.champion is None or (entry := recorded.by) is None:
        return None
    kept = entry.hash == anchor or entry.action == "correction"
    return PromotedModel.model_validate(
        {
            "model": model_record(entry.subject, recorded.champion),
            "previous": _record(entry.subject, recorded.previous) if recorded.previous else None,
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
    """What is on record of a version; None where it was lost."""
    try:
        return model_record(name, version)
    except RegistryError:
        return None
