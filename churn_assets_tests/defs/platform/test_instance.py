"""The Dagster instance of a home: created by one process at a time, and only where it was asked."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock, Timeout

from churn_assets.core.settings_errors import SettingsError
from churn_assets.defs.platform import instance as instances
from churn_assets.defs.platform.instance import LOCK_FILE, HomeInstance
from churn_assets_tests.documents import ROOT

MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04")


def dagster_home(folder: Path, *more: str) -> Path:
    folder.mkdir(parents=True)
    text = (ROOT / "dagster.yaml").read_text(encoding="utf-8")
    (folder / "dagster.yaml").write_text("\n".join([text, *more]), encoding="utf-8")
    return folder


def test_four_processes_that_start_at_once_in_a_new_home_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "it's a $5; b&ü"
    variables = {
        "CHURN_HOME": str(home),
        "DAGSTER_HOME": str(dagster_home(home / "dagster")),
        "CHURN_SIMULATED__CUSTOMERS": "500",
        "CHURN_FIRST_MONTH": MONTHS[0],
        "CHURN_RETRIES": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "churn_assets_tests.first_starts", *MONTHS],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        raw = instance.get_materialized_partitions(dg.AssetKey("raw_customers"))
        assert raw == set(MONTHS)
    assert {path.name for path in home.iterdir()} == {
        "dagster", "lake", "mlflow.db", "mlflow-artifacts.lock"
    }  # fmt: skip


def test_an_instance_waits_for_the_process_that_creates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dagster_home(tmp_path / "dagster")
    monkeypatch.setattr(instances, "LOCK_SECONDS", 0.2)
    with FileLock(folder / LOCK_FILE), pytest.raises(Timeout):
        dg.DagsterInstance.from_config(str(folder))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert isinstance(instance, HomeInstance)
        assert instance.get_runs() == []
    assert (folder / "history" / "runs.db").is_file()


@pytest.mark.parametrize("name", ["a?b", "a%41b", "a#b"])
def test_a_home_where_the_databases_would_be_elsewhere_is_refused(
    tmp_path: Path, name: str
) -> None:
    folder = dagster_home(tmp_path / name)
    with pytest.raises(SettingsError, match=r"DAGSTER_HOME is .* has a meaning of its own"):
        dg.DagsterInstance.from_config(str(folder))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in folder.iterdir()] == ["dagster.yaml"]


def test_another_storage_in_the_file_counts(tmp_path: Path) -> None:
    other = tmp_path / "other"
    section = f"storage: {{sqlite: {{base_dir: '{other}'}}}}"
    folder = dagster_home(tmp_path / "dagster", section)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert instance.get_runs() == []
    assert (other / "history" / "runs.db").is_file()
    assert not (folder / "history").exists()
