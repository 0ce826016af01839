"""Tells the story: makes chapter after chapter, and prints a line an asset as each is stored."""

import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterEventType as EventType
from dagster import DagsterInstance, EventLogEntry

from churn_assets.defs.assets.deliveries import new_deliveries
from churn_assets.defs.assets.retraining import answered, event_of, open_reasons
from churn_assets.defs.platform.platform import Platform
from churn_assets.demo.phases import BENTO, MODEL, Chapter, Step

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TRAINED, CHAMPION = "churn_model", "promoted_model"


class Demo:
    """Makes what is missing, as the daemon would: each thing for its reason, behind its gate."""

    def __init__(
        self, platform: Platform, definitions: dg.Definitions, instance: DagsterInstance
    ) -> None:
        self.platform = platform
        self.job = definitions.resolve_implicit_global_asset_job_def()
        self.instance = instance
        self.made: set[str] = set()
        self.since = time.monotonic()

    def tell(self, chapters: Iterable[Chapter], *, anew: bool) -> bool:
        """Makes all chapters up to the first that is stopped.

        Args:
            anew: what is there already is made again.

        Returns:
            Everything was made.
        """
        for chapter in chapters:
            print(f"\n{chapter.headline}", flush=True)
            if all(self._is_done(step) for step in chapter.steps) and not anew:
                print("  all there already")
            elif not self._tell(chapter, anew=anew):
                return False
        return True

    def build_bento(self) -> bool:
        """Builds the bento of the champion; false where there is no champion, or it failed."""
        print("\nThe bento of the champion", flush=True)
        step = Step(BENTO)
        if not self._is_there(CHAMPION, None):
            print("  there is no champion")
            return False
        if self._is_done(step) and CHAMPION not in self.made:
            print("  there already")
            return True
        return self._make(step)

    def _tell(self, chapter: Chapter, *, anew: bool) -> bool:
        stopped, something_new = self._receive(chapter, anew=anew)
        if chapter.month in stopped and not chapter.model:
            print(f"  {chapter.month} is stopped: no scores, no training, nothing is made from it")
            return False
        for step in chapter.model or self._training():
            if something_new or not self._is_done(step):
                self._make(step)
        if not self._is_there(CHAMPION, None):
            print("  there is no champion: nothing is scored")
            return False
        if chapter.month in stopped:
            print(f"  {chapter.month} is stopped: nothing is made from it")
            return False
        fine = self._make(chapter.follows)
        self._show_reasons()
        return fine and not stopped

    def _receive(self, chapter: Chapter, *, anew: bool) -> tuple[set[str | None], bool]:
        """Pulls what arrives; the months that were stopped, and whether anything was pulled."""
        stopped: set[str | None] = set()
        something_new = False
        for step in chapter.arrivals:
            if step.month in stopped or (self._is_done(step) and not anew):
                continue
            something_new = True
            if not self._make(step):
                stopped.add(step.month)
        return stopped, something_new

    def _training(self) -> tuple[Step, ...]:
        """Another training, where there is a reason that no training has answered.

        The sensor would find the reason by itself once the cool-down is over. The demo does not
        wait for that.
        """
        trained = self.instance.get_latest_materialization_event(dg.AssetKey(TRAINED))
        cool_down = timedelta(days=self.platform.settings.retraining.cool_down_days)
        over = datetime.fromtimestamp(trained.timestamp, UTC) + cool_down if trained else None
        now = datetime.now(UTC)
        found = open_reasons(self.platform, self.instance, max(now, over or now))
        if not isinstance(found, str):
            if over and over > now:
                print(f"  ({cool_down.days} days later: the demo does not wait)")
            self.instance.report_runless_asset_event(event_of(found))
        reasons = answered(self.instance)
        for reason in reasons:
            print(f"  > {reason.key} asks for a training: {reason.text}", flush=True)
        return (Step(MODEL),) if reasons else ()

    def _show_reasons(self) -> None:
        found = open_reasons(self.platform, self.instance, datetime.now(UTC))
        said = found if isinstance(found, str) else ", ".join(reason.key for reason in found)
        print(f"  > {said}" + (" to train again" if said == "no reason" else ""), flush=True)

    def _make(self, step: Step) -> bool:
        """Materialises a step; false where a run or a blocking check failed."""
        if step.delivery and step.month:
            for event in new_deliveries(self.platform, self.instance, [step.month]):
                if event.asset_key == dg.AssetKey(step.delivery):
                    self.instance.report_runless_asset_event(event)
        run_id = str(uuid.uuid4())
        self.instance.add_event_listener(run_id, self._show)
        self.since = time.monotonic()
        done = self.job.execute_in_process(
            run_config=QUIET,
            instance=self.instance,
            partition_key=step.month,
            asset_selection=[dg.AssetKey(name) for name in step.assets],
            run_id=run_id,
            raise_on_error=False,
        )
        return done.success

    def _is_done(self, step: Step) -> bool:
        """Every asset of the step is in the instance already."""
        return all(self._is_there(name, step.month) for name in step.assets)

    def _is_there(self, name: str, month: str | None) -> bool:
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
            found = event.asset_check_evaluation_data
            if not found.passed:
                asset = found.asset_key.to_user_string()
                print(f"  ! {asset}: {found.check_name}: {found.description}")
        elif event.event_type in (EventType.STEP_FAILURE, EventType.STEP_UP_FOR_RETRY):
            print(f"  x {event.step_key}: {_cause(event.event_specific_data)}")

    def _show_asset(self, asset: dg.AssetMaterialization) -> None:
        now, name = time.monotonic(), asset.asset_key.to_user_string()
        self.made.add(name)
        rows = asset.metadata.get("dagster/row_count")
        count = f"{rows.value:>9,} rows" if rows else ""
        print(
            f"  {name:<22} {asset.partition or '':<8}{now - self.since:6.1f} s {count}",
            flush=True,
        )
        self.since = now


def _cause(failed: object) -> str:
    error = getattr(failed, "error", None)
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return str(getattr(error, "message", error)).strip()
