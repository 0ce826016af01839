"""Every link in a document and in an alert leads to something."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import dagster as dg
import dagster_webserver
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from churn_assets.core.monitoring.incidents import Observation
from churn_assets.defs.alerting import event_log
from churn_assets.defs.alerting.incidents import Observer
from churn_assets_tests.defs.check_events import report_result
from churn_assets_tests.defs.graph import MONTH, Graph, customers, from_rows
from churn_assets_tests.documents import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for folder in (".", "docs", "bento", "benchmarks", "churn_assets_tests/homes")
    for path in (ROOT / folder).glob("*.md")
)
UI = "http://ui.example.org/base"
VIEWS = ("checks", "overview")


def anchors(document: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in headings}


def links(document: Path) -> Iterator[str]:
    """Links and images of a document outside of code blocks, to files of the project."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not urlsplit(link).scheme:
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(document: Path) -> None:
    source = ROOT / document
    for link in links(source):
        path, _, anchor = link.partition("#")
        target = source.parent / unquote(path) if path else source
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_link_of_an_alert_leads_to_an_asset_a_check_or_a_run(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20))
    assert graph.run("raw_customers", month=MONTH).success
    (tmp_path / "customers.csv").write_bytes(b"")
    assert not graph.run("raw_customers", month=MONTH).success
    report_result(graph, "churn_labels", "every_id_known", MONTH, passed=False)
    change = FreshnessStateChange(
        key=dg.AssetKey("churn_model"), previous_state=FreshnessState.PASS,
        new_state=FreshnessState.FAIL, state_change_timestamp=0.0,
    )  # fmt: skip
    graph.instance.report_runless_asset_event(change)
    kinds = set()
    for observation in observed(graph, UI):
        kinds.add((observation.kind, observation.state))
        assert_opens(graph, observation.link)
        if observation.runbook:
            path, _, anchor = observation.runbook.partition("#")
            assert anchor in anchors(ROOT / path), observation.runbook
    assert {("check", "failing"), ("run", "failing"), ("freshness", "failing")} <= kinds


def test_a_link_quotes_every_part_of_an_assets_key(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20))
    key = dg.AssetKey(["a b", "c/d?e#f"])
    graph.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=key, check_name="is it & well", passed=False)
    )
    [observation] = observed(graph, f"{UI}/")
    address = urlsplit(observation.link)
    assert address.path == "/base/assets/a%20b/c%2Fd%3Fe%23f"
    assert parse_qs(address.query) == {"view": ["checks"], "checkDetail": ["is it & well"]}
    assert address.fragment == ""


def test_the_ui_knows_the_parameters_of_the_links() -> None:
    build = Path(dagster_webserver.__file__).parent / "webapp/build"
    scripts = "".join(path.read_text(encoding="utf-8") for path in build.rglob("*.js"))
    assert re.search(r'view:"checks",checkDetail:', scripts), "the link of a check"
    for view in VIEWS:
        assert f'"{view}"' in scripts
    for route in ("/assets", "/runs/:runId"):
        assert f'"{route}' in scripts, route


def observed(graph: Graph, ui: str) -> list[Observation]:
    observer = Observer(graph.instance, ui, {}, graph.definitions.resolve_asset_graph())
    events = event_log.read_all(graph.instance, event_log.end(graph.instance), event_log.READ)
    return [found for event in events for found in observer.observe(event)]


def assert_opens(graph: Graph, link: str) -> None:
    """Asserts that a link into the UI names an asset with its check, or a run, that exists."""
    address, base = urlsplit(link), urlsplit(UI)
    assert (address.scheme, address.netloc) == (base.scheme, base.netloc)
    kind, *rest = address.path.removeprefix(f"{base.path}/").split("/")
    if kind == "runs":
        assert graph.instance.get_run_by_id(rest[0]) is not None, link
        return
    assert kind == "assets", link
    key = dg.AssetKey([unquote(part) for part in rest])
    assets, query = graph.definitions.resolve_asset_graph(), parse_qs(address.query)
    assert assets.has(key), link
    assert query["view"][0] in VIEWS
    for name in query.get("checkDetail", []):
        assert dg.AssetCheckKey(key, name) in assets.asset_check_keys, link
