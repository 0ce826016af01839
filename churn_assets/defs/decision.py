"""What one run of `promoted_model` may move, and who says so."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.tags import (
    AUTO_MATERIALIZE_TAG,
    AUTOMATION_CONDITION_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)

from churn_assets.adapters.audit import AuditLog, remembered_hash
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.core.evaluation import EvaluationReport
from churn_assets.core.promotion import last_movement, rollback_from
from churn_assets.core.verdict import Verdict
from churn_assets.defs.checks import GateError
from churn_assets.defs.gates import GatedConfig, how_to_configure, record_override, require_open
from churn_assets.defs.platform import Platform

BY_POLICY = "policy"
"""Who approves where nobody is asked."""

OF_A_DAEMON = {AUTO_MATERIALIZE_TAG, AUTOMATION_CONDITION_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG}
"""Tags of a run that no person started."""


class PromotionConfig(GatedConfig):
    """What a person says of the champion; nothing where the policy decides."""

    approved_by: str = ""
    """Who promotes, or rolls back."""
    reason: str = ""
    """Why."""
    rollback: bool = False
    """Makes the version before the champion again; needs `approved_by` and `reason`."""

    @property
    def approved(self) -> bool:
        """A person decided, and said why."""
        return bool(self.approved_by.strip() and self.reason.strip())


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        earned: what the policy said of the challenger.
        promoted: the champion now; None where the challenger was refused or waits.
        waits_for: what a person must do before it moves; empty where nothing is waited for.
    """

    earned: Verdict
    promoted: PromotedModel | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class Decision:
    """One run of the asset: what a person said in it, and what may move.

    Attributes:
        name: of the registered model.
    """

    context: dg.AssetExecutionContext
    config: PromotionConfig
    audit: AuditLog
    platform: Platform
    name: str

    @property
    def anchor(self) -> str:
        """Hash of the entry that the champion's record remembers."""
        return remembered_hash(self.platform.reports / "promoted_model.json")

    def fault(self) -> dict[str, Verdict]:
        """The blocking check that forbids to move anything; a person may correct an alias."""
        from churn_assets.adapters.promotions import correct, finish_movement, recorded

        chain = self.audit.verify(self.anchor)
        if not chain.passed:
            return {"audit_chain_unbroken": chain}
        finish_movement(self.audit, self.name)
        approval = recorded(self.audit, self.name)
        if approval.passed:
            return {}
        if self._who_must_decide():
            return {"approval_recorded": approval}
        evidence = {**self._run_id, "found": approval.description}
        correct(self.audit, self.name, **self._said(), evidence=evidence)
        return {}

    def how_to_mend(self, fault: dict[str, Verdict]) -> str:
        """What to do about a fault, for people."""
        (verdict,) = fault.values()
        if "approval_recorded" in fault:
            put_back = "To have it put back, and this written down, say so in the run config:"
            return f"{verdict.description} {put_back}\n{self._config()}"
        return f"{verdict.description} Nothing moves until the table audit_log is mended."

    def roll_back(self) -> Outcome:
        """Makes the version before the champion again.

        Raises:
            GateError: there is none, or no person asks for it.
        """
        from churn_assets.adapters.promotions import move, promoted
        from churn_assets.adapters.registry import PREVIOUS, aliases

        if who := self._who_must_decide("rollback: true"):
            raise GateError(description=f"A rollback needs a person. {who}", allow_retries=False)
        version = aliases(self.name).get(PREVIOUS)
        if version is None:
            none = f"{self.name} has no version with the alias `previous` to roll back to"
            raise GateError(description=none, allow_retries=False)
        entry = move(
            self.audit, self.name, version,
            action="rollback", **self._said(), evidence=self._run_id,
        )  # fmt: skip
        said = f"{entry.actor} rolled back to version {version}: no challenger was judged."
        return Outcome(Verdict(True, said), promoted(entry))

    def challenge(self, challenger: ModelRecord, report: EvaluationReport, lake: Lake) -> Outcome:
        """Promotes the challenger where it earned that, and whoever must approve does.

        Raises:
            GateError: a check before it failed, or the report is about another version.
        """
        from churn_assets.adapters.promotions import judge_challenger, move, promoted

        require_open(self.context, self.config, self.audit)
        _require_evaluated(challenger, report)
        last = last_movement(self.audit.entries(), self.name)
        if last and last.after == challenger.version:
            said = f"Version {last.after} is the champion already."
            return Outcome(Verdict(True, said), promoted(last, kept=True))
        settings = self.platform.settings
        judged = judge_challenger(
            challenger, report, last.after if last else None, self.platform.contract,
            settings.promotion, lake, seed=settings.seed,
        )  # fmt: skip
        evidence = self._run_id | judged.evidence
        earned = self._not_again(challenger.version, judged.verdict)
        if not earned.passed and not self.config.overrides:
            return Outcome(earned)
        if settings.promotion.approval == "manual" and (who := self._who_must_decide()):
            waits = f"Version {challenger.version} waits for approval. {earned.description}\n{who}"
            return Outcome(earned, waits_for=waits)
        if not earned.passed:
            record_override(self.context, self.config, self.audit, evidence)
        entry = move(
            self.audit, self.name, challenger.version,
            action="promotion", **self._said(earned), evidence=evidence,
        )  # fmt: skip
        return Outcome(earned, promoted(entry))

    def _not_again(self, version: str, verdict: Verdict) -> Verdict:
        """What a person rolled back from, only a person promotes again."""
        back = rollback_from(self.audit.entries(), self.name, version)
        if not verdict.passed or back is None or not self._who_must_decide():
            return verdict
        said = (
            f"{back.actor} rolled back from version {version} ({back.reason}): only a person "
            f"promotes it again, with `approved_by` and `reason`. {verdict.description}"
        )
        return Verdict(False, said, verdict.numbers)

    def _who_must_decide(self, *also: str) -> str:
        """How a person decides, where none did; empty where one did."""
        by_hand = "Materialise promoted_model by hand with this run config:"
        how = f"{by_hand}\n{self._config(*also)}"
        if self.context.run.tags.keys() & OF_A_DAEMON:
            return f"The daemon started this run, and decides nothing. {how}"
        return "" if self.config.approved else how

    def _said(self, earned: Verdict | None = None) -> dict[str, str]:
        """Who decided, and why: the person of the run, or else the policy."""
        config = self.config
        if config.approved:
            return {"actor": config.approved_by, "reason": config.reason}
        if earned and not earned.passed:
            return {"actor": config.override_by, "reason": config.override_reason}
        return {"actor": BY_POLICY, "reason": earned.description if earned else ""}

    @property
    def _run_id(self) -> dict[str, Any]:
        return {"dagster_run_id": self.context.run.run_id}

    def _config(self, *also: str) -> str:
        return how_to_configure(self.context, "approved_by: ...", "reason: ...", *also)


def _require_evaluated(model: ModelRecord, report: EvaluationReport) -> None:
    if report.about.model_version != model.version:
        raise GateError(
            description=f"evaluation_report is about model version {report.about.model_version}, "
            f"churn_model is version {model.version}: materialise evaluation_report first",
            allow_retries=False,
        )
