"""Program of the tests: four processes that start at the same moment in a new home.

`python -m churn_assets_tests.first_starts <home> <months>...` has one process for each month, and
prints the error of each process that fails.
"""

import os
import signal
import sys
import traceback

from dagster import AssetKey, DagsterInstance

from churn_assets.definitions import build
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import load_settings
from churn_assets_tests.defs.graph import SILENT


def materialise(month: str) -> None:
    """Opens the instance of DAGSTER_HOME and MLflow, and materialises a month."""
    definitions = build(Platform.of(load_settings()))
    with DagsterInstance.get() as instance:
        definitions.resources["mlflow"].connect()
        job = definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            run_config=SILENT,
            instance=instance,
            partition_key=month,
            asset_selection=[AssetKey("raw_customers")],
        )


def start(month: str, ready: int, go: int) -> int:
    """Forks a process that materialises a month once all processes are ready; returns its id."""
    if child := os.fork():
        return child
    code = 1
    try:
        os.write(ready, b"r")
        os.read(go, 1)
        materialise(month)
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(months: list[str]) -> int:
    """Returns the number of processes that failed."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - once, not in each process

    build(Platform.of(load_settings()))
    (ready, is_ready), (go, release) = os.pipe(), os.pipe()
    children = [start(month, is_ready, go) for month in months]
    for _ in children:
        os.read(ready, 1)
    os.write(release, b"g" * len(children))
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    signal.alarm(300)
    sys.exit(main(sys.argv[1:]))
