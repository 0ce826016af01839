"""`make demo`: processes the months of an operator's customers, and prints a summary.

The demo runs the same definitions against the same instance as the Dagster UI, which shows every
run afterwards. Existing assets are not materialised again. The stderr output of libraries goes to
`demo.log` in the platform's home.
"""

import json
import sys
import time
from contextlib import redirect_stderr

from dagster import DagsterError, DagsterInstance

from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.loading import ContractError
from churn_assets.definitions import build
from churn_assets.defs.platform.dagster_internals import NO_COMPUTE_LOGS, InstanceRef
from churn_assets.defs.platform.platform import Platform
from churn_assets.demo.demo import Demo
from churn_assets.demo.phases import phases
from churn_assets.demo.summary import summary
from churn_assets.settings import SettingsError, load_settings


def instance_without_step_logs() -> DagsterInstance:
    """Returns the instance of DAGSTER_HOME, but with capture of the steps' output switched off.

    For that capture Dagster starts processes in every run, which take half a second each. The
    output of the demo's steps is in the demo's log.
    """
    with DagsterInstance.get() as instance:
        home = instance.root_directory
    overrides = {"compute_logs": NO_COMPUTE_LOGS}
    return DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides=overrides))


def is_changed(platform: Platform) -> bool:
    """Returns whether the contract's version or the source has changed since the home was filled.

    Raises:
        SettingsError: The home belongs to a contract of another name.
    """
    source = {"source", "simulated", "file", "snapshot_month", "first_month"}
    current = {
        "contract": platform.contract.name,
        "fingerprint": platform.contract.fingerprint,
        "source": platform.settings.model_dump(mode="json", include=source),
    }
    platform.home.mkdir(parents=True, exist_ok=True)
    path = platform.home / "demo.json"
    before = json.loads(path.read_text()) if path.is_file() else current
    if before["contract"] != current["contract"]:
        raise SettingsError(
            f"CHURN_HOME {platform.home} holds contract {before['contract']!r}, not "
            f"{current['contract']!r}: set another CHURN_HOME, or none"
        )
    path.write_text(json.dumps(current, indent=1))
    return bool(before != current)


def months_without_partition(platform: Platform) -> str:
    """Describes the months of the source that cannot be used; "" if there are none.

    Raises:
        SourceError: No month can be used.
    """
    if not platform.has_a_month_to_use:
        raise SourceError(platform.months_without_partition)
    return platform.months_without_partition


def main() -> int:
    """Runs the demo; returns 0 on success, 1 if something is missing, 2 if a setting is wrong."""
    started = time.monotonic()
    try:
        platform = Platform.of(load_settings())
        definitions = build(platform)
        others = months_without_partition(platform)
        instance = instance_without_step_logs()
        changed = is_changed(platform)
    except (SettingsError, ContractError, SourceError, DagsterError) as error:
        print(error)
        return 2
    print(f"Churn of contract {platform.contract.name}: {platform.contract.description}")
    if others:
        print(f"{others}.")
    if changed:
        print("The contract or the source has changed: everything is made again, at once.")
    log = platform.home / "demo.log"
    with instance, log.open("a") as sink, redirect_stderr(sink):
        demo = Demo(platform, definitions, instance)
        complete = demo.run(phases(platform, at_once=changed), again=changed)
        complete = demo.build_bento() and complete and not demo.faults
        seconds = time.monotonic() - started
        text = summary(
            platform, definitions, instance, seconds, complete=complete, faults=demo.faults
        )
        print(text)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
