"""Versions of a source: they show that a month was delivered, or delivered again."""

from pathlib import Path

import pandas as pd
import pytest

from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.rdatasets import RdatasetsSource
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.contract import Column
from churn_assets.contracts.loading import load_contract
from churn_assets.core.simulation.simulator import Simulator
from churn_assets_tests.defs.graph import customers

TELECOM, IBM = load_contract("telecom"), load_contract("ibm_telco")
CLOSED = Column(name="month", source_name="closed", role="month", kind="text", description="Month")
BY_MONTH = TELECOM.model_copy(update={"columns": (*TELECOM.columns, CLOSED)})


def test_a_month_is_delivered_when_its_file_exists(tmp_path: Path) -> None:
    source = FileSource(TELECOM, str(tmp_path / "{month}.csv"), str(tmp_path / "left-{month}.csv"))
    assert source.customers_version("2026-01") is None
    customers(5).to_csv(tmp_path / "2026-01.csv", index=False)
    assert source.customers_version("2026-01") is not None
    assert source.customers_version("2026-02") is None
    assert source.labels_version("2026-01") is None


def test_reading_a_file_does_not_change_its_version(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    customers(5).to_csv(path, index=False)
    source = FileSource(TELECOM, str(path))
    first = source.customers_version("2026-01")
    source.snapshot("2026-01")
    assert source.customers_version("2026-01") == first
    customers(6).to_csv(path, index=False)
    assert source.customers_version("2026-01") != first


def test_a_file_of_many_months_delivers_exactly_those(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    months = [customers(3).assign(closed=month) for month in ("2026-01", "2026-03-31")]
    pd.concat(months).to_csv(path, index=False)
    source = FileSource(BY_MONTH, str(path))
    delivered = [m for m in ("2026-01", "2026-02", "2026-03") if source.customers_version(m)]
    assert delivered == ["2026-01", "2026-03"]


def test_an_unknown_protocol_is_an_error(tmp_path: Path) -> None:
    source = FileSource(TELECOM, "nowhere://bucket/{month}.csv")
    with pytest.raises(SourceError, match="nowhere"):
        source.customers_version("2026-01")


@pytest.mark.parametrize("month", ["2026-01", "2026-03", "2026-04"])
def test_a_scenario_changes_the_version_of_the_months_it_affects(month: str) -> None:
    stable = SimulatedSource(TELECOM, Simulator(customers=100))
    shocked = SimulatedSource(
        TELECOM, Simulator(customers=100, scenario="price_shock", scenario_month="2026-03")
    )
    same = stable.customers_version(month) == shocked.customers_version(month)
    assert same is (month < "2026-03")
    assert same is stable.snapshot(month).equals(shocked.snapshot(month))


def test_the_public_data_set_has_one_version() -> None:
    source = RdatasetsSource(IBM)
    assert source.customers_version("2026-01") == source.labels_version("2026-01") is not None
