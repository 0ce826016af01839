"""Preflight checks of an installation: `python -m churn_assets.preflight`.

Each system that the platform writes to is tried as the platform uses it, and every problem is named
at once. Exits with 0 if all checks pass, with 1 if one fails, with 2 for a wrong setting. It leaves
a table `preflight` of a few rows in the lake, and a deleted run in MLflow.
"""

import sys
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa

from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.loading import ContractError
from churn_assets.defs.platform.platform import Platform
from churn_assets.defs.platform.resources import resources
from churn_assets.settings import SettingsError, load_settings

NAME = "preflight"
WRITERS, APPENDS = 4, 2
"""Threads that append to one table at once, and the appends of each."""

Check = Callable[[Platform], str]


class PreflightError(Exception):
    """A system does not do what the platform needs; the message says what, and what to set."""


class NotTriedError(Exception):
    """There is nothing to try yet; the message says why."""


def dagster_storage(_: Platform) -> str:
    """Writes a value to the instance's storage and reads it again."""
    value = str(uuid.uuid4())
    with dg.DagsterInstance.get() as instance:
        storage = instance.daemon_cursor_storage
        storage.set_cursor_values({NAME: value})
        found = storage.get_cursor_values({NAME}).get(NAME)
        if found != value:
            raise PreflightError(f"the storage returns {found!r} instead of {value!r}")
        runs: Any = instance.run_storage  # sqlite's and PostgreSQL's have `connect`, the base not
        with runs.connect() as connection:
            dialect = connection.dialect
        version = ".".join(map(str, dialect.server_version_info or ()))
        return f"{dialect.name} {version}"


def mlflow_server(platform: Platform) -> str:
    """Logs an artifact to a run, reads it again and deletes the run."""
    import mlflow

    resources(platform)["mlflow"].connect()
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(platform.model_name)
    run, text = client.create_run(experiment.experiment_id, run_name=NAME).info, str(uuid.uuid4())
    try:
        client.log_text(run.run_id, text, "preflight.txt")
        with TemporaryDirectory() as folder:
            path = client.download_artifacts(run.run_id, "preflight.txt", folder)
            found = Path(path).read_text(encoding="utf-8")
    finally:
        client.set_terminated(run.run_id)
        client.delete_run(run.run_id)
    if found != text:
        raise PreflightError(f"the artifact has {found!r} instead of {text!r}")
    return f"artifacts in {run.artifact_uri.partition(run.run_id)[0]}"


def lake(platform: Platform) -> str:
    """Appends to one table by several writers at once: a store without atomic commits loses rows.

    Raises:
        PreflightError: Rows are missing: a commit has replaced another one.
    """
    run = str(uuid.uuid4())
    schema = pa.schema([("run", pa.string()), ("number", pa.int64())])

    def append(number: int) -> None:
        row = pd.DataFrame({"run": [run], "number": [number]})
        platform.lake.append(NAME, schema, lambda _: row)

    wanted = range(WRITERS * APPENDS)
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(append, wanted))
    table = platform.lake.read(NAME)
    found = sorted(table.loc[table["run"] == run, "number"])
    if found != list(wanted):
        raise PreflightError(
            f"{len(found)} of {len(wanted)} concurrent commits are left: the store has no atomic "
            "commits, so two runs at once would lose rows. Use a store with conditional writes, or "
            "set the lock of CHURN_LAKE_OPTIONS"
        )
    return f"{len(wanted)} concurrent commits in {platform.lake.root}"


def reports(platform: Platform) -> str:
    """Writes a file to the folder of the reports, reads it again and deletes it."""
    text, file = str(uuid.uuid4()), platform.reports / f".{NAME}"
    platform.reports.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    found = file.read_text(encoding="utf-8")
    file.unlink()
    if found != text:
        raise PreflightError(f"{file} has {found!r} instead of {text!r}")
    return str(platform.reports)


def predictions(platform: Platform) -> str:
    """Lists the folder of the prediction logs, which only the service writes.

    Raises:
        NotTriedError: There is no such folder.
    """
    folder = platform.predictions
    if not folder.exists():
        raise NotTriedError(f"{folder} comes with the service's first prediction")
    return f"{sum(1 for _ in folder.iterdir())} entries in {folder}"


CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (dagster_storage, mlflow_server, lake, reports, predictions)
}


def main() -> int:
    """Runs the checks and returns the exit code."""
    try:
        platform = Platform.of(load_settings())
    except (SettingsError, ContractError, SourceError) as error:
        print(error)
        return 2
    failed = False
    for name, check in CHECKS.items():
        try:
            print(f"ok        {name}: {check(platform)}")
        except NotTriedError as reason:
            print(f"not tried {name}: {reason}")
        except Exception as error:  # noqa: BLE001 - the systems' libraries share no base class
            failed = True
            print(f"FAILED    {name}: {type(error).__name__}: {error}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
