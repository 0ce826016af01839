"""The demo with months that the source cannot deliver, that a check refuses, or that fail."""

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from churn_assets.defs.automation.deadlines import CHECK, MONTHS
from churn_assets.demo import __main__ as command
from churn_assets.demo.demo import Demo
from churn_assets.demo.phases import phases
from churn_assets.demo.summary import summary
from churn_assets.settings import latest_closed_month
from churn_assets_tests.adapters.file_server import file_server
from churn_assets_tests.defs.assets.test_old_months import contract_with_months
from churn_assets_tests.defs.graph import Graph, customers, from_files

LATEST = pd.Period(latest_closed_month(), freq="M")
FIRST, SECOND, LAST = USED = [str(LATEST - back) for back in (2, 1, 0)]


def graph_of(home: Path, files: str) -> Graph:
    """A graph over a file for each of the last three months."""
    graph = from_files(home, files)
    return Graph(graph.settings.model_copy(update={"first_month": FIRST}))


def demo_of(graph: Graph) -> Demo:
    """The demo, after a run that made not all."""
    demo = Demo(graph.platform, graph.definitions, graph.instance)
    assert not demo.run(phases(graph.platform), again=False)
    return demo


def made(graph: Graph, asset: str) -> set[str]:
    return set(graph.instance.get_materialized_partitions(dg.AssetKey(asset)))


def summary_of(demo: Demo, graph: Graph) -> str:
    text = summary(
        graph.platform, graph.definitions, graph.instance, 1.0, complete=False, faults=demo.faults
    )
    return " ".join(text.split())


@pytest.mark.parametrize("refused", [FIRST, SECOND, LAST])
def test_a_month_without_a_version_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: str
) -> None:
    others = set(USED) - {refused}
    body = customers(5).to_csv(index=False).encode()
    with file_server() as files:
        for month in others:
            files.put(f"{month}.csv", body)
        url = files.put(f"{refused}.csv", status=503)
        graph = graph_of(tmp_path, f"{files.root}/{{month}}.csv")
        demo = demo_of(graph)
        output = capsys.readouterr().out
        text = summary_of(demo, graph)
    assert made(graph, "validated_features") == others
    assert made(graph, "customer_deliveries") == others
    assert output.count(f"  x customer_deliveries: {url} cannot be read") == 1
    assert f"failed customer_deliveries, {refused}: {url} cannot be read" in text


def test_customers_are_delivered_where_only_the_labels_have_no_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for month in USED:
        customers(5).to_csv(tmp_path / f"{month}.csv", index=False)
    with file_server() as files:
        for month in USED:
            files.put(f"{month}.csv", status=503)
        labels = f"{files.root}/{{month}}.csv"
        graph = from_files(tmp_path, tmp_path / "{month}.csv", file={"labels": labels})
        graph = Graph(graph.settings.model_copy(update={"first_month": FIRST}))
        demo = demo_of(graph)
    assert made(graph, "validated_features") == set(USED)
    assert {asset for asset, _ in demo.faults} >= {"label_deliveries"}
    assert "x customer_deliveries" not in capsys.readouterr().out


def test_a_file_without_any_version_ends_the_demo_with_one_line_and_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, home = tmp_path / "all.csv", tmp_path / "home"
    customers(3).assign(as_of=[SECOND, "", LAST]).to_csv(path, index=False)
    (home / "dagster").mkdir(parents=True)
    variables = {
        "CHURN_SOURCE": "file", "CHURN_FILE__CUSTOMERS": str(path), "CHURN_HOME": str(home),
        "CHURN_CONTRACT": str(contract_with_months(tmp_path)), "CHURN_FIRST_MONTH": FIRST,
        "DAGSTER_HOME": str(home / "dagster"),
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command.main() == 1
    live, after = capsys.readouterr().out.split("Not all was made")
    assert live.count(f"  x customer_deliveries: {path}: column as_of must be YYYY-MM") == 1
    assert live.count("column as_of") == 1
    text = " ".join(after.split())
    assert f"failed customer_deliveries, {FIRST}, {SECOND}, {LAST}: {path}: column as_of" in text
    assert "bento none was built" in text


def test_a_refused_month_is_shown_by_its_check_and_its_labels_are_delivered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for month in USED:
        customers(300).to_csv(tmp_path / f"{month}.csv", index=False)
    customers(300).drop(columns="age").to_csv(tmp_path / f"{FIRST}.csv", index=False)
    graph = graph_of(tmp_path, str(tmp_path / "{month}.csv"))
    demo = demo_of(graph)
    output = capsys.readouterr().out
    shown = f"  ! raw_customers: columns_of_contract_present: {tmp_path}/{FIRST}.csv lacks"
    assert output.count(shown) == 1
    assert "x raw_customers" not in output
    assert not any(asset == "raw_customers" for asset, _ in demo.faults)
    assert made(graph, "churn_labels") == {SECOND}
    assert made(graph, "label_deliveries") == {FIRST, SECOND}
    [check] = graph.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("churn_labels"), CHECK), limit=1
    )
    assert isinstance(check.evaluation, dg.AssetCheckEvaluation)
    months = check.evaluation.metadata[MONTHS].value
    assert isinstance(months, dict)
    assert "did not deliver" not in months[FIRST][1]


def test_a_step_that_a_check_stops_has_no_line_of_a_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for month in USED:
        customers(5).to_csv(tmp_path / f"{month}.csv", index=False)
    customers(1)[:0].to_csv(tmp_path / f"{FIRST}.csv", index=False)
    demo = demo_of(graph_of(tmp_path, str(tmp_path / "{month}.csv")))
    output = capsys.readouterr().out
    assert output.count("raw_customers: rows_present: ") == 1
    assert "x raw_customers" not in output
    assert "Stopped by" not in output
    assert "dagster" not in output
    assert not any(asset == "raw_customers" for asset, _ in demo.faults)


def test_a_step_that_fails_without_a_check_is_in_the_summary(tmp_path: Path) -> None:
    for month in USED:
        customers(5).to_csv(tmp_path / f"{month}.csv", index=False)
    customers(5, {"churned": "maybe"}).to_csv(tmp_path / f"{FIRST}.csv", index=False)
    graph = graph_of(tmp_path, str(tmp_path / "{month}.csv"))
    text = summary_of(demo_of(graph), graph)
    path = tmp_path / f"{FIRST}.csv"
    assert f"failed churn_labels, {FIRST}: {path}: column 'churned' must be true or false" in text
