"""The graph runs with its records on a real PostgreSQL."""

import re
from pathlib import Path

import dagster as dg
import pytest

from churn_assets import preflight
from churn_assets_tests.defs.graph import CUSTOMERS, MONTH, customers, from_files


def test_a_month_is_materialised_and_checked(
    instance_on_postgres: dg.DagsterInstance, tmp_path: Path
) -> None:
    file = tmp_path / "customers.csv"
    customers(20).to_csv(file, index=False)
    graph = from_files(tmp_path, file)
    graph.__dict__["instance"] = instance_on_postgres
    assert graph.run(*CUSTOMERS, month=MONTH).success
    for name in CUSTOMERS:
        found = instance_on_postgres.get_latest_materialization_event(dg.AssetKey(name))
        assert found, name


def test_the_preflight_check_writes_to_the_server(
    instance_on_postgres: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster-home"))
    graph = from_files(tmp_path, tmp_path / "customers.csv")
    assert re.fullmatch(r"postgresql \d+\.\d+", preflight.dagster_storage(graph.platform))
