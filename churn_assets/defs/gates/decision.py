"""What one run of `promoted_model` may move, and who says so."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from churn_assets.adapters.audit import AuditLog, remembered_hash
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.governance.promotion import Standing, rollback_from, standing
from churn_assets.core.verdict import Verdict
from churn_assets.defs.gates.checks import GateError
from churn_assets.defs.gates.gates import (
    BY_POLICY,
    GatedConfig,
    by_a_daemon,
    how_to_configure,
    record_override,
    require_open,
    signed,
)
from churn_assets.defs.platform.platform import Platform


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
        return signed(self.approved_by, self.reason)


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
    """One run of the asset: what a person said in it, and what may move."""

    context: dg.AssetExecutionContext
    config: PromotionConfig
    audit: AuditLog
    platform: Platform

    @property
    def name(self) -> str:
        """Of the registered model."""
        return self.platform.model_name

    @property
    def anchor(self) -> str:
        """Hash of the entry that the champion's record remembers."""
        return remembered_hash(self.platform.reports / "promoted_model.json")

    def fault(self) -> dict[str, Verdict]:
        """The blocking check that forbids to move anything; none where all is well."""
        from churn_assets.adapters.promotions import finish_movement, recorded

        chain = self.audit.verify(self.anchor)
        if not chain.passed:
            return {"audit_chain_unbroken": chain}
        finish_movement(self.audit, self.name)
        approval = recorded(self.audit, self.name)
        return {} if approval.passed else {"approval_recorded": approval}

    def how_to_mend(self, fault: dict[str, Verdict]) -> str:
        """What a person must do about a fault first; empty where this run may mend it."""
        from churn_assets.adapters.promotions import corrected

        (verdict,) = fault.values()
        if "approval_recorded" not in fault:
            return f"{verdict.description} Nothing moves until the table audit_log is mended."
        if not (who := self._who_must_decide()):
            return ""
        version = corrected(self.audit, self.name)
        goal = f"version {version}" if version else "none, for the version on record is lost"
        return f"{verdict.description} To have `champion` set to {goal}, on record, say so. {who}"

    def mend(self, fault: dict[str, Verdict]) -> Outcome:
        """Has the aliases follow the audit log again, as a person says.

        That is all that such a run decides, unless it is a rollback: who puts an alias back has
        approved of no challenger.
        """
        from churn_assets.adapters.promotions import correct, promoted

        (verdict,) = fault.values()
        evidence = {**self._run, "found": verdict.description}
        now = correct(self.audit, self.name, **self._said(), evidence=evidence)
        said = "The aliases follow the audit log again; no challenger was judged."
        return Outcome(Verdict(True, said), promoted(now, self.anchor))

    def roll_back(self) -> Outcome:
        """Makes the version before the champion again.

        Raises:
            GateError: there is none that can serve, or no person asks for it.
        """
        from churn_assets.adapters.promotions import MovementError, move, promoted

        if who := self._who_must_decide("rollback: true"):
            raise GateError(description=f"A rollback needs a person. {who}", allow_retries=False)
        now = standing(self.audit.entries(), self.name)
        if not self._rolled_back_before(now):
            version = self._to_roll_back_to(now)
            try:
                now = move(
                    self.audit, self.name, version, behind=now.by,
                    action="rollback", **self._said(), evidence=self._run,
                )  # fmt: skip
            except MovementError as error:
                # Tried again, it would roll back from a version that nobody spoke of.
                raise GateError(description=str(error), allow_retries=False) from error
        said = f"Rolled back to version {now.champion}: no challenger was judged."
        return Outcome(Verdict(True, said), promoted(now, self.anchor))

    def _rolled_back_before(self, now: Standing) -> bool:
        """This run was begun before, rolled back, and was cut off afterwards."""
        last = now.by
        return bool(
            last
            and last.action == "rollback"
            and last.evidence.get("root_run_id") == self._run["root_run_id"]
        )

    def _to_roll_back_to(self, now: Standing) -> str:
        from churn_assets.adapters.promotions import UnusableError, usable

        if now.previous is None:
            none = f"{self.name} has no version with the alias `previous` to roll back to"
            raise GateError(description=none, allow_retries=False)
        try:
            usable(self.name, now.previous, self.platform.contract)
        except UnusableError as error:
            raise GateError(description=f"No rollback: {error}", allow_retries=False) from error
        if back := rollback_from(self.audit.entries(), self.name, now.previous):
            said = (
                f"{back.actor} rolled back from version {now.previous} ({back.reason}); another "
                "rollback would bring it back."
            )
            if not self.config.overrides:
                how = self._config("rollback: true", "override_reason: ...", "override_by: ...")
                raise GateError(description=f"{said} To have that:\n{how}", allow_retries=False)
            record_override(self.context, self.config, self.audit, {"refused": said})
        return now.previous

    def challenge(self, challenger: ModelRecord, report: EvaluationReport, lake: Lake) -> Outcome:
        """Promotes the challenger where it earned that, and whoever must approve does.

        Raises:
            GateError: a check before it failed, the report is about another version, or the
                challenger was trained under another contract.
            MovementError: the champion has moved meanwhile; tried again, all is judged anew.
        """
        from churn_assets.adapters.promotions import judge_challenger, move, promoted

        require_open(self.context, self.config, self.audit)
        self._require_judgeable(challenger, report)
        now = standing(self.audit.entries(), self.name)
        if now.champion == challenger.version:
            said = f"Version {now.champion} is the champion already."
            return Outcome(Verdict(True, said), promoted(now, self.anchor))
        settings = self.platform.settings
        judged = judge_challenger(
            challenger, report, now.champion, self.platform.contract,
            settings.promotion, lake, seed=settings.seed,
        )  # fmt: skip
        evidence = self._run | judged.evidence
        earned = self._not_again(challenger.version, judged.verdict)
        if not earned.passed and (not self.config.overrides or by_a_daemon(self.context)):
            return Outcome(earned)
        if settings.promotion.approval == "manual" and (who := self._who_must_decide()):
            waits = f"Version {challenger.version} waits for approval. {earned.description}\n{who}"
            return Outcome(earned, waits_for=waits)
        if not earned.passed:
            record_override(self.context, self.config, self.audit, evidence)
        now = move(
            self.audit, self.name, challenger.version, behind=now.by,
            action="promotion", **self._said(earned), evidence=evidence,
        )  # fmt: skip
        return Outcome(earned, promoted(now, self.anchor))

    def _require_judgeable(self, challenger: ModelRecord, report: EvaluationReport) -> None:
        contract, about = self.platform.contract, report.about
        made_for = f"{challenger.name} under contract version {challenger.contract_version}"
        wanted = f"{self.name} under contract version {contract.version}"
        said = ""
        if made_for != wanted:
            said = f"churn_model is {made_for}, not {wanted}: materialise it and its report first"
        elif (about.model_version, about.mlflow_run_id) != (challenger.version, challenger.run_id):
            said = (
                f"evaluation_report is about model version {about.model_version}, churn_model is "
                f"version {challenger.version}: materialise evaluation_report first"
            )
        if said:
            raise GateError(description=said, allow_retries=False)

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
        if by_a_daemon(self.context):
            return f"The daemon started this run, and decides nothing. {how}"
        return "" if self.config.approved else how

    def _said(self, earned: Verdict | None = None) -> dict[str, str]:
        """Who decided, and why: the person of the run, or else the policy."""
        config = self.config
        if config.approved and not by_a_daemon(self.context):
            return {"actor": config.approved_by.strip(), "reason": config.reason.strip()}
        if earned and not earned.passed:
            return {"actor": config.override_by.strip(), "reason": config.override_reason.strip()}
        return {"actor": BY_POLICY, "reason": earned.description if earned else ""}

    @property
    def _run(self) -> dict[str, Any]:
        """The run, and the one that it is another try of."""
        run = self.context.run
        root = run.tags.get(ROOT_RUN_ID_TAG, run.run_id)
        return {"dagster_run_id": run.run_id, "root_run_id": root}

    def _config(self, *also: str) -> str:
        return how_to_configure(self.context, "approved_by: ...", "reason: ...", *also)
