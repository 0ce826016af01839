"""Events of deliveries: one for each new content of a month, and none for anything else."""

import os
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem

from churn_assets.adapters.sources.file_versions import FileVersions
from churn_assets.adapters.sources.source import SourceError, SourceUnavailableError
from churn_assets.contracts.loading import load_contract
from churn_assets.defs.assets import deliveries
from churn_assets.defs.assets.deliveries import CUSTOMERS, LABELS, new_deliveries
from churn_assets.defs.platform.dagster_internals import DATA_VERSION_TAG
from churn_assets.settings import latest_closed_month
from churn_assets_tests.adapters.file_server import file_server
from churn_assets_tests.defs.graph import Graph, customers, from_files

LABELLED = pd.Period(latest_closed_month(), freq="M") - load_contract("telecom").horizon_months
FIRST, SECOND, THIRD = MONTHS = [str(LABELLED - back) for back in (2, 1, 0)]
"""The last three months whose labels are known."""


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A graph over one file for each of three months."""
    for month in MONTHS:
        customers(5).to_csv(tmp_path / f"{month}.csv", index=False)
    return from_files(tmp_path, tmp_path / "{month}.csv")


def reported(graph: Graph) -> list[tuple[str, str]]:
    """Reports the new deliveries, and returns their assets and months."""
    events = list(new_deliveries(graph.platform, graph.instance))
    for event in events:
        graph.instance.report_runless_asset_event(event)
    return [(event.asset_key.to_user_string(), str(event.partition)) for event in events]


def tick(graph: Graph) -> list[str]:
    """Months of the customers that a tick of the sensor reports."""
    repository = graph.definitions.get_repository_def()
    context = dg.build_sensor_context(instance=graph.instance, repository_def=repository)
    result = repository.get_sensor_def("deliveries").evaluate_tick(context)
    events = [event for event in result.asset_events if event.asset_key.path == [CUSTOMERS]]
    for event in result.asset_events:
        graph.instance.report_runless_asset_event(event)
    return [str(event.partition) for event in events]


def test_each_content_is_reported_once(graph: Graph, tmp_path: Path) -> None:
    every = {(asset, month) for asset in (CUSTOMERS, LABELS) for month in MONTHS}
    assert set(reported(graph)) == every
    assert reported(graph) == []
    for month in MONTHS:
        path = tmp_path / f"{month}.csv"
        os.utime(path, (1, 1))
        path.with_suffix(".link").hardlink_to(path)
    assert reported(graph) == []
    customers(6).to_csv(tmp_path / f"{SECOND}.csv", index=False)
    assert reported(graph) == [(CUSTOMERS, SECOND), (LABELS, SECOND)]
    restarted = from_files(tmp_path, tmp_path / "{month}.csv")
    restarted.instance = graph.instance
    assert reported(restarted) == []


def test_the_versions_of_an_earlier_release_are_known(graph: Graph, tmp_path: Path) -> None:
    for month in MONTHS:
        tag = {DATA_VERSION_TAG: str(LocalFileSystem().ukey(str(tmp_path / f"{month}.csv")))}
        for asset in (CUSTOMERS, LABELS):
            event = dg.AssetMaterialization(asset, partition=month, tags=tag)
            graph.instance.report_runless_asset_event(event)
    assert reported(graph) == []
    customers(6).to_csv(tmp_path / f"{THIRD}.csv", index=False)
    assert reported(graph) == [(CUSTOMERS, THIRD), (LABELS, THIRD)]
    assert reported(graph) == []


@pytest.mark.parametrize("length", [249, 250, 251, 5_000])
def test_a_long_version_is_reported_once(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    for last in "ab":
        version = "v" * (length - 1) + last
        monkeypatch.setattr(FileVersions, "version", lambda *_, text=version: text)
        first = reported(graph)
        assert (CUSTOMERS, FIRST) in first
        assert reported(graph) == []
        [event] = graph.instance.fetch_materializations(dg.AssetKey(CUSTOMERS), limit=1).records
        stored = event.asset_materialization
        assert stored
        assert stored.metadata["delivery"].value == version
        assert ((stored.tags or {})[DATA_VERSION_TAG] == version) is (length <= 250)


def test_a_month_with_an_error_does_not_hide_the_others(tmp_path: Path) -> None:
    body = customers(5).to_csv(index=False).encode()
    with file_server() as files:
        graph = from_files(tmp_path, f"{files.root}/{{month}}.csv")
        for month in (FIRST, THIRD):
            files.put(f"{month}.csv", body, headers={"ETag": '"1"'})
        url = files.put(f"{SECOND}.csv", status=503)
        assert tick(graph) == [FIRST, THIRD]
        with pytest.raises(SourceUnavailableError, match=f"{url} cannot be read: .* 503"):
            list(new_deliveries(graph.platform, graph.instance))
        with pytest.raises(SourceUnavailableError):
            tick(graph)
        files.put(f"{SECOND}.csv", body, headers={"ETag": '"1"'})
        assert tick(graph) == [SECOND]
        assert tick(graph) == []


@pytest.mark.parametrize("seconds", [20.0, -1.0])
def test_errors_end_the_look_up_when_its_time_is_over(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    asked = []

    def unavailable(_: object, path: str, *__: object) -> str:
        asked.append(path)
        raise SourceUnavailableError(f"{path} does not respond")

    monkeypatch.setattr(deliveries, "ERROR_SECONDS", seconds)
    monkeypatch.setattr(FileVersions, "version", unavailable)
    wanted, labelled = graph.platform.months_in_use, graph.platform.labelled_months
    with pytest.raises(SourceError, match=rf"{wanted[0]}\.csv does not respond"):
        list(new_deliveries(graph.platform, graph.instance))
    every = len(wanted) + len(set(wanted) & set(labelled.get_partition_keys()))
    assert len(asked) == (every if seconds > 0 else 1)
