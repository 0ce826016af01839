"""`make demo`: tells what becomes of an operator's customers, and says what came of it.

It runs the same definitions against the same instance as the Dagster UI, which shows every run
afterwards. What is there already is not made again. What libraries write to stderr goes to
`demo.log` in the platform's home.
"""

import json
import sys
import time
from contextlib import redirect_stderr

from dagster import DagsterInstance
from dagster._core.instance import InstanceRef

from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.loading import ContractError
from churn_assets.definitions import build
from churn_assets.defs.platform.platform import Platform
from churn_assets.demo.demo import Demo
from churn_assets.demo.phases import chapters
from churn_assets.demo.summary import summary
from churn_assets.settings import SettingsError, load_settings


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
        print("The contract or the source has changed: everything is made again, at once.")
    log = platform.home / "demo.log"
    with instance_without_step_logs() as instance, log.open("a") as sink, redirect_stderr(sink):
        demo = Demo(platform, definitions, instance)
        told = demo.tell(chapters(platform, at_once=anew), anew=anew)
        fine = demo.build_bento() and told
        seconds = time.monotonic() - started
        print(summary(platform, definitions, instance, seconds, fine=fine))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
