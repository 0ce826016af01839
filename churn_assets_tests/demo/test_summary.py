"""Summary of the demo: the latest results count, also where later ones were planned."""

import re
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent, indent
from urllib.request import urlopen

import pytest

from churn_assets.adapters.records import BentoRecord, ModelRecord
from churn_assets.demo.summary import INDENT, WIDTH, summary
from churn_assets_tests.defs.check_events import plan, report_asset, report_result
from churn_assets_tests.defs.graph import MONTH, Graph, from_files

CONFIG = """\
ops:
  promoted_model:
    config:
      approved_by: ...
      reason: ..."""


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    report_asset(
        graph, "churn_model",
        model_version="churn_telecom:1", months="2025-10, 2025-11", reasons="first: no model yet",
    )  # fmt: skip
    return graph


def shown(graph: Graph) -> str:
    text = summary(graph.platform, graph.definitions, graph.instance, 1.0, complete=False)
    return " ".join(text.split())


def test_a_decision_that_was_planned_and_never_came_is_no_result(graph: Graph) -> None:
    plan(graph, "promoted_model", end="failed")
    assert "why: first not promoted" in shown(graph)


def test_the_last_decision_counts_if_a_later_one_was_planned(graph: Graph) -> None:
    report_result(graph, "promoted_model", "challenger_earned_promotion", None, passed=False)
    plan(graph, "promoted_model", end="canceled")
    assert "not promoted: as reported" in shown(graph)
    assert "checks 0 passed, 1 failed," in shown(graph)


def test_what_was_not_judged_is_counted_for_itself(graph: Graph) -> None:
    report_result(graph, "raw_customers", "rows_present", MONTH, passed=True)
    report_result(graph, "churn_labels", "every_id_known", MONTH, passed=False)
    for name in ("row_count_as_usual", "columns_of_contract_present"):
        report_result(graph, "raw_customers", name, MONTH, passed=True, judged=False)
    checks = len(graph.definitions.resolve_asset_graph().asset_check_keys)
    counts = f"1 passed, 1 failed, 2 not judged, {checks - 4} did not run"
    assert f"checks {counts} churn_labels: every_id_known: as reported" in shown(graph)


def test_a_refusal_is_shown_until_a_later_run_judges_a_challenger(graph: Graph) -> None:
    check = "promoted_model", "challenger_earned_promotion", None
    report_result(graph, *check, passed=False)
    report_result(graph, *check, passed=True, judged=False)
    assert "not promoted: as reported" in shown(graph)


@pytest.mark.parametrize("name", ["reports", "a b", "a#b", "50%41", "été?"])
def test_the_link_to_the_report_opens_and_is_shown_only_if_the_report_exists(
    tmp_path: Path, name: str
) -> None:
    # Settings refuse some of these names; a mounted store may have them all the same.
    settings = from_files(tmp_path, tmp_path / "none.csv").settings
    graph = Graph(settings.model_copy(update={"reports": str(tmp_path / name)}))
    assert "evaluation_report" not in shown(graph)
    page = tmp_path / name / "evaluation_report.html"
    page.parent.mkdir()
    page.write_text("the report")
    [link] = re.findall(r"open (\S+evaluation_report\.html)$", shown(graph))
    with urlopen(link) as opened:
        assert opened.read() == b"the report"


def test_a_run_config_in_a_fault_can_be_copied(graph: Graph) -> None:
    long = "word " * 40
    faults = {("promoted_model", f"{long}needs this run config:\n{CONFIG}\n"): ["2026-01"]}
    text = summary(
        graph.platform, graph.definitions, graph.instance, 1.0, complete=False, faults=faults
    )
    _, _, rest = text.partition("run config:\n")
    config, _, _ = rest.partition("\n  data ")
    assert dedent(config) == CONFIG
    assert all(len(line) <= WIDTH for line in text.splitlines() if "word" in line)


def test_a_run_config_of_a_check_can_be_copied(graph: Graph) -> None:
    check = "promoted_model", "challenger_earned_promotion", None
    report_result(graph, *check, passed=False, description=f"Version 1 waits.\n{CONFIG}")
    text = summary(graph.platform, graph.definitions, graph.instance, 1.0, complete=False)
    assert text.count(indent(CONFIG, " " * (INDENT + 2))) == 2, "in the chain and the checks"


def test_the_service_is_offered_only_with_a_bento(graph: Graph) -> None:
    assert "make serve" not in shown(graph)
    model = ModelRecord(
        name="churn_telecom", version="1", run_id="r", chosen="c", contract_name="telecom",
        contract_version="1", seed=1, table_versions={}, cross_validation={}, recipe="r",
        months=("2026-01",), trained_at=datetime(2026, 2, 1, tzinfo=UTC),
    )  # fmt: skip
    record = BentoRecord(
        tag="churn_telecom:1", model_tag="churn_telecom:1", archive="a.bento", size_bytes=1,
        model=model,
    )  # fmt: skip
    folder = graph.platform.reports
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "churn_bento.json").write_text(record.model_dump_json())
    assert "make serve" in shown(graph)


def test_a_stopped_month_stays_stopped_if_it_is_to_be_checked_again(graph: Graph) -> None:
    report_result(graph, "raw_customers", "rows_present", MONTH, passed=False)
    report_result(graph, "raw_customers", "row_count_as_usual", MONTH, passed=True)
    plan(graph, "raw_customers", month=MONTH)
    assert f"{MONTH}: stopped at raw_customers: rows_present: as reported" in shown(graph)
    assert "checks 1 passed, 1 failed," in shown(graph)
