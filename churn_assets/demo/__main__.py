"""`make demo`: materialises the graph once, shows the work, and says what came of it.

It runs the same definitions against the same instance as the Dagster UI, which shows every run
afterwards. What is there already is not made again. What libraries write to stderr goes to
`demo.log` in the platform's home.
"""

import json
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterEventType as EventType
from dagster import DagsterInstance, EventLogEntry
from dagster._core.instance import InstanceRef

from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.loading import ContractError
from churn_assets.definitions import build
from churn_assets.defs.platform import Platform
from churn_assets.demo.summary import summary
from churn_assets.settings import SettingsError, load_settings

MONTHS = 6
CUSTOMERS = ("raw_customers", "validated_features", "quarantined_customers")
LABELS = ("churn_labels",)
MODEL = ("training_set", "churn_model", "evaluation_report", "promoted_model", "churn_bento")
DRIFT = ("drift_report",)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Step:
    """One run: assets that are made together, of one month or of none.

    Attributes:
        from_all: it is made from all that came before, and so again when any of that is new.
    """

    assets: tuple[str, ...]
    month: str | None = None
    from_all: bool = False


class Demo:
    """Runs steps and prints a line an asset as each is stored."""

    def __init__(self, definitions: dg.Definitions, instance: DagsterInstance) -> None:
        self.job = definitions.resolve_implicit_global_asset_job_def()
        self.instance = instance
        self.since = time.monotonic()

    def run(self, step: Step) -> bool:
        """Materialises a step; false where a run or a blocking check failed."""
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

    def is_done(self, step: Step) -> bool:
        """Every asset of the step is in the instance already."""
        return all(self._is_materialised(name, step.month) for name in step.assets)

    def _is_materialised(self, name: str, month: str | None) -> bool:
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
        now = time.monotonic()
        rows = asset.metadata.get("dagster/row_count")
        count = f"{rows.value:>9,} rows" if rows else ""
        print(
            f"  {asset.asset_key.to_user_string():<22} {asset.partition or '':<8}"
            f"{now - self.since:6.1f} s {count}",
            flush=True,
        )
        self.since = now


def instance_without_step_logs() -> DagsterInstance:
    """The instance of DAGSTER_HOME, but for keeping what each step prints.

    Dagster starts processes for that with every run, half a second each; what the demo's steps
    print is in its log.
    """
    with DagsterInstance.get() as instance:
        home = instance.root_directory
    kept_nowhere = {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
    return DagsterInstance.from_ref(
        InstanceRef.from_dir(home, overrides={"compute_logs": kept_nowhere})
    )


def steps(platform: Platform) -> Iterator[Step]:
    """What the demo makes, in order: the data of the last months, the model, and drift."""
    wanted = MONTHS - 1 + platform.contract.horizon_months  # five of them with labels
    months = platform.closed_months.get_partition_keys()[-wanted:]
    labelled = set(platform.labelled_months.get_partition_keys())
    yield from (Step(CUSTOMERS, month) for month in months)
    yield from (Step(LABELS, month) for month in months if month in labelled)
    yield Step(MODEL, from_all=True)
    yield Step(DRIFT, months[-1], from_all=True)


def run(demo: Demo, todo: Iterable[Step], *, anew: bool) -> bool:
    """Makes what is missing or out of date, or all of it; false where any of it failed."""
    something_new, fine = anew, True
    for step in todo:
        if demo.is_done(step) and not (anew or (step.from_all and something_new)):
            print(f"  {', '.join(step.assets)} {step.month or ''}: there already")
            continue
        fine &= demo.run(step)
        something_new = True
    return fine


def is_changed(platform: Platform) -> bool:
    """The home was filled from another contract's version or another source than the present one.

    Raises:
        SettingsError: the home belongs to a contract of another name.
    """
    source = {"source", "simulated", "file", "snapshot_month", "first_month"}
    present = {
        "contract": platform.contract.name,
        "fingerprint": platform.contract.fingerprint,
        "source": platform.settings.model_dump(mode="json", include=source),
    }
    platform.home.mkdir(parents=True, exist_ok=True)
    path = platform.home / "demo.json"
    before = json.loads(path.read_text()) if path.is_file() else present
    if before["contract"] != present["contract"]:
        raise SettingsError(
            f"CHURN_HOME {platform.home} holds contract {before['contract']!r}, not "
            f"{present['contract']!r}: set another, or none"
        )
    path.write_text(json.dumps(present, indent=1))
    return bool(before != present)


def main() -> int:
    """Runs the demo; 0 where everything was made, 1 where not, 2 where a setting is wrong."""
    started = time.monotonic()
    try:
        platform = Platform.of(load_settings())
        definitions = build(platform)
        anew = is_changed(platform)
    except (SettingsError, ContractError, SourceError) as error:
        print(error)
        return 2
    print(f"Churn of contract {platform.contract.name}: {platform.contract.description}")
    if anew:
        print("The contract or the source has changed: everything is made again.")
    log = platform.home / "demo.log"
    with instance_without_step_logs() as instance, log.open("a") as sink, redirect_stderr(sink):
        fine = run(Demo(definitions, instance), steps(platform), anew=anew)
        seconds = time.monotonic() - started
        print(summary(platform, definitions, instance, seconds, fine=fine))
    return 0 if fine else 1


def _cause(failed: object) -> str:
    error = getattr(failed, "error", None)
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return str(getattr(error, "message", error)).strip()


if __name__ == "__main__":
    sys.exit(main())
