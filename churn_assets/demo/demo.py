"""Run of the demo, phase by phase, which prints a line per stored asset."""

import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterEventType as EventType
from dagster import DagsterInstance, EventLogEntry

from churn_assets.adapters.sources.source import SourceError
from churn_assets.defs.alerting.event_log import failures
from churn_assets.defs.assets.deliveries import new_deliveries
from churn_assets.defs.assets.retraining import event_of, open_reasons, pending_reasons
from churn_assets.defs.automation import deadlines
from churn_assets.defs.platform.faults import error_message, is_failed_check
from churn_assets.defs.platform.platform import Platform
from churn_assets.demo.phases import BENTO, MODEL, Phase, Step

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TRAINED, CHAMPION = "churn_model", "promoted_model"


class Demo:
    """Materialises missing assets as the daemon would: for the same reasons, behind the gates.

    Attributes:
        materialised: Names of the assets that were materialised.
        faults: Months of each fault that no check reports, by asset and message; a fault of an
            asset without partitions has no months.
        explained: Messages that are on the screen already, and need no second line.
    """

    def __init__(
        self, platform: Platform, definitions: dg.Definitions, instance: DagsterInstance
    ) -> None:
        self.platform = platform
        self.job = definitions.resolve_implicit_global_asset_job_def()
        self.instance = instance
        self.materialised: set[str] = set()
        self.faults: dict[tuple[str, str], list[str]] = {}
        self.explained: set[str] = set()
        self.since = time.monotonic()

    def run(self, phases: Iterable[Phase], *, again: bool) -> bool:
        """Runs all phases, up to the first that is stopped.

        Args:
            phases: Phases in order.
            again: Whether existing assets are materialised again.

        Returns:
            Whether everything was materialised.
        """
        for phase in phases:
            print(f"\n{phase.headline}", flush=True)
            if all(self._is_done(step) for step in phase.steps) and not again:
                print("  all there already")
            elif not self._run_phase(phase, again=again):
                return False
        return True

    def build_bento(self) -> bool:
        """Builds the champion's bento; returns false if there is no champion or the run fails."""
        print("\nThe bento of the champion", flush=True)
        step = Step(BENTO)
        if not self._exists(CHAMPION, None):
            print("  there is no champion")
            return False
        if self._is_done(step) and CHAMPION not in self.materialised:
            print("  there already")
            return True
        return self._materialise(step)

    def _run_phase(self, phase: Phase, *, again: bool) -> bool:
        stopped, pulled = self._receive(phase, again=again)
        if phase.month in stopped and not phase.model:
            print(f"  {phase.month} is stopped: no scores, no training, nothing is made from it")
            return False
        for step in phase.model or self._training():
            if pulled or not self._is_done(step):
                self._materialise(step)
        if not self._exists(CHAMPION, None):
            print("  there is no champion: nothing is scored")
            return False
        if phase.month in stopped:
            print(f"  {phase.month} is stopped: nothing is made from it")
            return False
        success = self._materialise(phase.monthly)
        self._show_reasons()
        return success and not stopped

    def _receive(self, phase: Phase, *, again: bool) -> tuple[set[str | None], bool]:
        """Pulls the arrivals; returns the stopped months, and whether anything was pulled."""
        stopped: set[str | None] = set()
        pulled = False
        for step in phase.arrivals:
            if self._is_done(step) and not again:
                continue
            # The labels of a refused month are delivered all the same.
            if not self._report_delivery(step):
                stopped.add(step.month)
            if step.month in stopped:
                continue
            pulled = True
            if not self._materialise(step):
                stopped.add(step.month)
        return stopped, pulled

    def _training(self) -> tuple[Step, ...]:
        """Returns the step of another training, if a reason for it is pending.

        The sensor would report the reason by itself once the cool-down is over. The demo does not
        wait for that.
        """
        trained = self.instance.get_latest_materialization_event(dg.AssetKey(TRAINED))
        cool_down = timedelta(days=self.platform.settings.retraining.cool_down_days)
        over = datetime.fromtimestamp(trained.timestamp, UTC) + cool_down if trained else None
        now = datetime.now(UTC)
        new = open_reasons(self.platform, self.instance, max(now, over or now))
        if not isinstance(new, str):
            if over and over > now:
                print(f"  ({cool_down.days} days later: the demo does not wait)")
            self.instance.report_runless_asset_event(event_of(new))
        reasons = pending_reasons(self.instance)
        for reason in reasons:
            print(f"  > {reason.key} asks for a training: {reason.text}", flush=True)
        return (Step(MODEL),) if reasons else ()

    def _show_reasons(self) -> None:
        new = open_reasons(self.platform, self.instance, datetime.now(UTC))
        text = new if isinstance(new, str) else ", ".join(reason.key for reason in new)
        print(f"  > {text}" + (" to train again" if text == "no reason" else ""), flush=True)

    def _materialise(self, step: Step) -> bool:
        """Materialises a step; returns false if the run or a blocking check failed."""
        run_id = str(uuid.uuid4())
        self.instance.add_event_listener(run_id, self._show)
        self.since = time.monotonic()
        result = self.job.execute_in_process(
            run_config=QUIET,
            instance=self.instance,
            partition_key=step.month,
            asset_selection=[dg.AssetKey(name) for name in step.assets],
            run_id=run_id,
            raise_on_error=False,
        )
        return result.success

    def _report_delivery(self, step: Step) -> bool:
        """Reports the delivery that a step pulls; returns false if the source cannot be read."""
        if not (step.delivery and step.month):
            return True
        try:
            deliveries = new_deliveries(self.platform, self.instance, [step.month], [step.delivery])
            for event in deliveries:
                self.instance.report_runless_asset_event(event)
        except SourceError as error:
            message = str(error)
            # A source without a file for each month has the same fault in all of them.
            if message not in self.explained:
                print(f"  x {step.delivery}: {message}", flush=True)
            self.explained.add(message)
            self._add_fault(step.delivery, step.month, message)
            return False
        return True

    def _add_fault(self, asset: str, month: str | None, message: str) -> None:
        self.faults.setdefault((asset, message), []).extend([month] if month else [])

    def _is_done(self, step: Step) -> bool:
        """Returns whether every asset of the step exists already."""
        return all(self._exists(name, step.month) for name in step.assets)

    def _exists(self, name: str, month: str | None) -> bool:
        key = dg.AssetKey(name)
        if month is not None:
            return month in self.instance.get_materialized_partitions(key)
        return self.instance.get_latest_materialization_event(key) is not None

    def _show(self, entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            return
        if event.event_type == EventType.ASSET_MATERIALIZATION:
            self._show_asset(event.step_materialization_data.materialization)
        elif event.event_type == EventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            # Months are late until the demo pulls them: the last result counts, in the summary.
            if not check.passed and check.check_name != deadlines.CHECK:
                asset = check.asset_key.to_user_string()
                print(f"  ! {asset}: {check.check_name}: {check.description}")
                self.explained.add(check.description or "")
        elif event.event_type in (EventType.STEP_FAILURE, EventType.STEP_UP_FOR_RETRY):
            error = getattr(event.event_specific_data, "error", None)
            message = error_message(error)
            if not is_failed_check(error) and message not in self.explained:
                print(f"  x {event.step_key}: {message}")
        elif event.event_type == EventType.RUN_FAILURE:
            for step, reason in failures(self.instance, entry):
                self._add_fault(", ".join(step.assets), step.partition, reason)

    def _show_asset(self, asset: dg.AssetMaterialization) -> None:
        now, name = time.monotonic(), asset.asset_key.to_user_string()
        self.materialised.add(name)
        rows = asset.metadata.get("dagster/row_count")
        count = f"{rows.value:>9,} rows" if rows else ""
        print(
            f"  {name:<22} {asset.partition or '':<8}{now - self.since:6.1f} s {count}",
            flush=True,
        )
        self.since = now
