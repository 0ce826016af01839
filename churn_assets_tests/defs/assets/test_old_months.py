"""A source whose months have no partition says so, with the setting that adds one."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from churn_assets.definitions import build
from churn_assets.demo import __main__ as command
from churn_assets.demo.phases import phases
from churn_assets.settings import latest_closed_month
from churn_assets_tests.adapters.file_server import file_server
from churn_assets_tests.defs.graph import Graph, customers, from_files
from churn_assets_tests.defs.run_results import error_of

OLD = ("2023-05", "2023-06", "2023-07")
LATEST = latest_closed_month()
HINT = "set CHURN_FIRST_MONTH=2023-05 to use 2023-05 to 2023-07, because the first partition is"


def folder_of(home: Path, *months: str) -> str:
    for month in months:
        customers(5).to_csv(home / f"{month}.csv", index=False)
    return str(home / "{month}.csv")


def contract_with_months(home: Path) -> Path:
    """The contract of the telecom operator, whose rows also have the month."""
    text = Path(build.__code__.co_filename).with_name("contracts").joinpath("telecom.py")
    line = "    customer_id: str = customer_id("
    source = text.read_text(encoding="utf-8").replace(
        "    number,\n", "    month,\n    number,\n", 1
    )
    source = source.replace(line, f'    as_of: str = month("Close of the month")\n{line}')
    (path := home / "operator_with_months.py").write_text(source, encoding="utf-8")
    return path


def column_of(home: Path, *months: str) -> str:
    frames = [customers(5).assign(as_of=month) for month in months]
    pd.concat(frames).to_parquet(home / "all.parquet")
    return str(home / "all.parquet")


def graph_of(kind: str, home: Path, *months: str, **settings: object) -> Graph:
    if kind == "folder":
        return from_files(home, folder_of(home, *months), **settings)
    contract = str(contract_with_months(home))
    return from_files(home, column_of(home, *months), contract=contract, **settings)


def tick(graph: Graph) -> Any:
    repository = graph.definitions.get_repository_def()
    context = dg.build_sensor_context(instance=graph.instance, repository_def=repository)
    return repository.get_sensor_def("deliveries").evaluate_tick(context)


@pytest.mark.parametrize("kind", ["folder", "column"])
def test_old_months_are_named_where_a_user_looks(kind: str, tmp_path: Path) -> None:
    graph = graph_of(kind, tmp_path, *OLD)
    assert f"has 2023-05 to 2023-07; {HINT} 2026-01" in str(tick(graph).skip_message)
    for asset in ("raw_customers", "churn_labels"):
        if asset == "churn_labels":
            graph.lake.write("raw_customers", customers(5).assign(month="2026-01"), "2026-01")
        result = graph.run(asset, month="2026-01")
        assert HINT in str(error_of(result, asset))


@pytest.mark.parametrize("kind", ["folder", "column"])
def test_old_months_are_delivered_once_they_have_partitions(kind: str, tmp_path: Path) -> None:
    graph = graph_of(kind, tmp_path, *OLD)
    settings = graph.settings.model_copy(update={"first_month": "2023-05"})
    graph = Graph(settings)
    months = {str(event.partition) for event in tick(graph).asset_events}
    assert months == set(OLD)
    (only,) = phases(graph.platform)
    assert only.month == "2023-07"


@pytest.mark.parametrize(("first", "outside"), [("2023-05", ""), ("2023-06", "2023-05")])
def test_one_month_before_the_first_partition_is_named(
    tmp_path: Path, first: str, outside: str
) -> None:
    graph = from_files(tmp_path, folder_of(tmp_path, *OLD))
    graph = Graph(graph.settings.model_copy(update={"first_month": first}))
    others = graph.platform.months_without_partition
    assert (f"set CHURN_FIRST_MONTH=2023-05 to use {outside}, " in others) == bool(outside)
    assert graph.platform.has_a_month_to_use


def test_a_month_that_is_not_over_is_named(tmp_path: Path) -> None:
    current = str(pd.Period(LATEST, freq="M") + 1)
    graph = from_files(tmp_path, folder_of(tmp_path, current))
    assert not graph.platform.has_a_month_to_use
    says = f"has {current}; {current} cannot be used yet, because the latest closed month is"
    assert says in str(tick(graph).skip_message)


def test_a_source_that_cannot_list_its_months_says_that_it_has_none(tmp_path: Path) -> None:
    with file_server() as files:
        graph = from_files(tmp_path, f"{files.root}/{{month}}.csv")
        first, *_, last = graph.platform.months_in_use
        says = f"nothing new: the source never had one of the months {first} to {last}. Older"
        assert says in tick(graph).skip_message
        files.put(f"{last}.csv", customers(5).to_csv(index=False).encode())
        for event in tick(graph).asset_events:
            graph.instance.report_runless_asset_event(event)
        assert tick(graph).skip_message == "nothing new"


def test_months_of_a_label_file_are_named(tmp_path: Path) -> None:
    customer_file = column_of(tmp_path, LATEST)
    labels = tmp_path / "labels.csv"
    customers(5).assign(as_of="2023-05").to_csv(labels, index=False)
    contract = str(contract_with_months(tmp_path))
    graph = from_files(tmp_path, customer_file, contract=contract, file={"labels": str(labels)})
    others = graph.platform.months_without_partition
    assert others.startswith(f"{labels} has 2023-05; set CHURN_FIRST_MONTH=2023-05")


def test_the_demo_ends_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    variables = {
        "CHURN_SOURCE": "file", "CHURN_FILE__CUSTOMERS": folder_of(tmp_path, *OLD),
        "CHURN_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"),
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command.main() == 2
    assert f"has 2023-05 to 2023-07; {HINT} 2025-01" in capsys.readouterr().out
    assert not home.exists()


def test_the_demo_needs_a_dagster_home_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("CHURN_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    assert command.main() == 2
    assert f'$DAGSTER_HOME "{home}/dagster" is not a directory' in capsys.readouterr().out
    assert not home.exists()
