"""A home that commit 86fc2a3 made, before the modules moved, is read and continued.

`homes/README.md` describes that home.
"""

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
import time_machine
from churn_service.access.api_keys import KeyRing
from dagster._core.definitions.selector import InstigatorSelector
from dagster._core.scheduler.instigation import InstigatorState, SensorInstigatorData
from dagster._daemon.asset_daemon import asset_daemon_cursor_from_instigator_serialized_cursor
from pydantic import BaseModel

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.records import BentoRecord, ModelRecord, PromotedModel
from churn_assets.adapters.registry import (
    aliases,
    load_fallback,
    load_report,
    load_scorer,
    model_record,
)
from churn_assets.adapters.serving import predictions, serving
from churn_assets.audit import main
from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import model_columns, model_frame, requests
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.modelling.scorer import LinearScorer
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.core.scoring.traffic import ORIGIN
from churn_assets.defs.platform.launcher import WatchedRunLauncher
from churn_assets.demo.__main__ import instance_without_step_logs, is_changed
from churn_assets.demo.__main__ import main as demo
from churn_assets.settings import load_settings
from churn_assets_tests.defs.daemon import Daemon
from churn_assets_tests.defs.graph import Graph
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised
from churn_assets_tests.documents import ROOT

HOMES = ROOT / "churn_assets_tests/homes"
COMMIT = "86fc2a3"
HOME_THEN = "/srv/churn/.churn/telecom"
"""Path at which the home was made."""

MONTHS = ["2025-01", "2025-02", "2025-03", "2025-04", "2025-05"]
LAST, NEXT = MONTHS[-1], "2025-06"
BY_MONTH = {
    "raw_customers": MONTHS,
    "validated_features": MONTHS,
    "quarantined_customers": MONTHS,
    "churn_labels": MONTHS[:-1],
    "customer_scores": MONTHS,
    "served_traffic": [LAST],
}
"""Months of each table with partitions."""

NEW_CHECKS = {
    "model_not_too_good",
    "predictions_complete",
    "training_periods_complete",
    "up_to_date_by_deadline",
}
NEW_SENSORS = {"deadlines"}
"""Checks and sensors that the commit did not have yet."""

VALIDATED = ("validated_features", "quarantined_customers")
CHECK = "quarantined_share_within_limit"
"""Blocking check that failed when the last month was validated last."""

JUNE, JULY = datetime(2025, 6, 5, 10, tzinfo=UTC), datetime(2025, 7, 2, 9, tzinfo=UTC)
FOLLOWS = ("customer_scores", "drift_report", "served_traffic")
MODEL = ("churn_model", "evaluation_report", "promoted_model")
RUNS_THEN = [
    (LAST, ("churn_labels",)),
    (LAST, FOLLOWS),
    (NEXT, ("customer_scores", "quarantined_customers", "raw_customers", "served_traffic",
            "validated_features")),
    (None, MODEL),
    (NEXT, ("drift_report",)),
    (None, ("training_set",)),
]  # fmt: skip
"""Months and assets of the runs that commit 86fc2a3 itself asks for in July, over this home."""

PERSON = {"approved_by": "ada", "reason": "the board said so"}
SAME: dict[str, Any] = {"rtol": 0, "atol": 1e-12}
"""Equal but for the last bits of a probability, which may depend on the processor."""

Document = TypeVar("Document", bound=BaseModel)


def unpack(home: Path) -> Path:
    """Unpacks the home, and copies this commit's `dagster.yaml` into it as `make home` does."""
    with tarfile.open(HOMES / f"{COMMIT}.tar.xz") as archive:
        archive.extractall(home, filter="data")
    relocate(home)
    shutil.copy(ROOT / "dagster.yaml", home / "dagster")
    return home


def relocate(home: Path) -> None:
    """Replaces the absolute paths in MLflow and in records: only a home that is moved needs it."""
    for record in (home / "reports").glob("*.json"):
        record.write_text(record.read_text().replace(HOME_THEN, str(home)))
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for _, column, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
                database.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", :then, :now) '
                    f'WHERE typeof("{column}") = \'text\' AND instr("{column}", :then)',
                    {"then": HOME_THEN, "now": str(home)},
                )


def graph_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """The present graph under the settings of then, with the home's own Dagster instance."""
    settings = json.loads((HOMES / f"{COMMIT}.json").read_text())
    others = {
        "CHURN_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",
    }
    for name, text in (settings | others).items():
        monkeypatch.setenv(name, text)
    graph = Graph(load_settings())
    mlflow.set_tracking_uri(graph.platform.tracking_uri)
    with instance_without_step_logs() as instance:
        graph.instance = instance
        yield graph


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("earlier") / "home")


@pytest.fixture
def graph(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """For tests that only read the home."""
    yield from graph_over(home, monkeypatch)


@pytest.fixture
def own_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """For tests that write to the home."""
    # Plots take long, and nothing depends on them.
    monkeypatch.setattr("churn_assets.adapters.reports.plots._png", lambda *_: b"")
    yield from graph_over(unpack(tmp_path / "home"), monkeypatch)


def stored(graph: Graph, kind: type[Document], name: str) -> Document:
    """A report or record of the home."""
    return kind.model_validate_json((graph.platform.reports / f"{name}.json").read_text())


def versions(graph: Graph) -> list[ModelRecord]:
    return [model_record(graph.platform.model_name, version) for version in ("1", "2")]


def scores(graph: Graph, month: str) -> pd.DataFrame:
    return graph.lake.read("customer_scores", [month]).sort_values("rank", ignore_index=True)


def features(graph: Graph, month: str) -> pd.DataFrame:
    return typed(graph.lake.read("validated_features", [month]), graph.platform.contract)


def held_out_rows(graph: Graph, record: ModelRecord) -> pd.DataFrame:
    """Test rows of a model version, from the version of the training set that it names."""
    version = record.table_versions["training_set"]
    rows = typed(graph.lake.read("training_set", version=version), graph.platform.contract)
    return rows[rows["split"] == "test"]


def movements(graph: Graph) -> list[tuple[str, str, str, str]]:
    entries = AuditLog(graph.lake).entries()
    return [(entry.action, entry.actor, entry.before, entry.after) for entry in entries]


def sensor_states(graph: Graph) -> dict[str, InstigatorState]:
    return {state.instigator_name: state for state in graph.instance.all_instigator_state()}


def cursor_of(graph: Graph, sensor: str) -> str:
    data = sensor_states(graph)[sensor].instigator_data
    assert isinstance(data, SensorInstigatorData)
    assert data.cursor
    return data.cursor


def validate_last_month(graph: Graph) -> None:
    """Validates the last month under the usual limit, so that its check passes again."""
    assert graph.run(*VALIDATED, month=LAST).success


# The home is read


def test_the_contract_and_the_source_are_the_same(graph: Graph) -> None:
    before = json.loads((graph.platform.home / "demo.json").read_text())
    assert before["fingerprint"] == graph.platform.contract.fingerprint
    assert not is_changed(graph.platform)


def test_every_table_is_read_at_every_version_on_record(graph: Graph) -> None:
    assert {name: graph.lake.months(name) for name in BY_MONTH} == BY_MONTH
    for name in (*BY_MONTH, "training_set"):
        records = graph.instance.fetch_materializations(dg.AssetKey(name), limit=100).records
        assert records
        for event in (record.asset_materialization for record in records):
            assert event
            version = int(str(event.metadata["table_version"].value))
            rows = graph.lake.read(name, version=version)
            if event.partition:
                rows = rows[rows["month"] == event.partition]
            assert len(rows) == event.metadata["dagster/row_count"].value
            if name not in {"raw_customers", "churn_labels"}:
                assert graph.lake.sources(name, version)


def test_the_audit_log_verifies(graph: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("2 entries")
    assert main(["list"]) == 0
    assert "promotion   churn_telecom  1 -> 2  by policy: " in capsys.readouterr().out
    assert movements(graph) == [("promotion", "policy", "", "1"), ("promotion", "policy", "1", "2")]


def test_reports_and_records_are_read(graph: Graph) -> None:
    first, second = versions(graph)
    assert stored(graph, ModelRecord, "churn_model") == second
    assert stored(graph, EvaluationReport, "evaluation_report") == load_report(second)
    promoted = stored(graph, PromotedModel, "promoted_model")
    assert (promoted.model, promoted.previous, promoted.policy) == (second, first, "fresh")
    assert promoted.audit_hash == AuditLog(graph.lake).entries()[-1].hash
    bento = stored(graph, BentoRecord, "churn_bento")
    assert bento.model == second
    assert Path(bento.archive).stat().st_size == bento.size_bytes
    for month in MONTHS:
        drift = stored(graph, DriftReport, f"drift_report/{month}")
        assert drift.model_version == scores(graph, month)["model_version"].iloc[0]


def test_the_registered_models_score_as_they_did(graph: Graph) -> None:
    contract, records = graph.platform.contract, versions(graph)
    assert aliases(graph.platform.model_name) == {
        "challenger": "2", "champion": "2", "previous": "1"
    }  # fmt: skip
    assert [load_report(record).about.model_version for record in records] == ["1", "2"]
    assert all(isinstance(load_fallback(record), LinearScorer) for record in records)
    scorers = {record.version: load_scorer(record) for record in records}
    assert [isinstance(scorer, LinearScorer) for scorer in scorers.values()] == [True, False]
    for record in records:
        pipeline = mlflow.sklearn.load_model(f"models:/{record.name}/{record.version}")
        test = held_out_rows(graph, record)
        expected = pipeline.predict_proba(model_frame(test, contract))[:, 1]
        found = scorers[record.version].score(model_columns(test, contract))
        np.testing.assert_allclose(found, expected, **SAME)
    scored_by = set()
    for month in MONTHS:
        delivered = scores(graph, month)
        [version] = delivered["model_version"].unique()
        scored_by.add(version)
        rows = features(graph, month).set_index("customer_id").loc[delivered["customer_id"]]
        found = scorers[version].score(model_columns(rows, contract))
        np.testing.assert_allclose(found, delivered["churn_probability"].to_numpy(), **SAME)
    assert scored_by == set(scorers)


def test_the_stored_bento_serves(graph: Graph) -> None:
    home, contract = graph.platform.home, graph.platform.contract
    record = stored(graph, BentoRecord, "churn_bento")
    folder = home / "bentoml/models" / record.model_tag.replace(":", "/")
    card = ModelCard.model_validate_json((folder / "card.json").read_text())
    assert card.contract_fingerprint == contract.fingerprint
    customers = features(graph, LAST).head(3)
    with serving(record.tag, home / "bentoml") as url:
        answers = predictions(url, requests(customers, contract))
    expected = load_scorer(record.model).score(model_columns(customers, contract))
    np.testing.assert_allclose(answers, expected, **SAME)


def test_an_api_key_is_known(graph: Graph) -> None:
    token = (HOMES / f"{COMMIT}.token").read_text().strip()
    key = KeyRing(graph.platform.home / "keys.json").identify(token)
    assert key
    assert (key.id, key.role) == ("crm", "predict")


def test_the_dagster_instance_knows_what_was_made_and_checked(graph: Graph) -> None:
    instance, assets = graph.instance, graph.definitions.resolve_asset_graph()
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    for key in assets.materializable_asset_keys:
        name = key.to_user_string()
        assert instance.get_latest_materialization_event(key), name
        if assets.get(key).partitions_def:
            there = instance.get_materialized_partitions(key)
            assert set(BY_MONTH.get(name, MONTHS)) <= there <= set(MONTHS), name
    checks = [key for key in assets.asset_check_keys if key.name not in NEW_CHECKS]
    store = instance.event_log_storage
    assert set(store.get_latest_asset_check_execution_by_key(checks)) == set(checks)
    [reason] = instance.fetch_materializations(dg.AssetKey("retraining_reasons"), limit=9).records
    assert reason.asset_materialization
    assert "drift:2025-04" in reason.asset_materialization.metadata
    assert versions(graph)[1].reasons[0].startswith("drift:2025-04: no_feature_drift: ")


def test_the_daemon_finds_the_states_of_the_sensors(graph: Graph) -> None:
    """It looks for them by the names of code location, repository and sensor: these must stay."""
    repository, location = graph.definitions.get_repository_def(), "churn"
    assert f"location_name: {location}\n" in (ROOT / "workspace.yaml").read_text()
    states = sensor_states(graph)
    assert set(states) == {sensor.name for sensor in repository.sensor_defs} - NEW_SENSORS
    for name, state in states.items():
        selector = InstigatorSelector(
            location_name=location, repository_name=repository.name, name=name
        )
        assert state.selector_id == selector.get_id()


# The home is continued


def test_delivered_months_are_scored_the_same_again(own_graph: Graph) -> None:
    for month, version in (("2025-02", "2"), ("2025-04", "1")):
        delivered = scores(own_graph, month)
        result = own_graph.run("customer_scores", month=month)
        assert result.success, error_of(result, "customer_scores")
        pd.testing.assert_frame_equal(scores(own_graph, month), delivered, **SAME)
        assert set(delivered["model_version"]) == {version}


def test_a_check_that_failed_then_shuts_the_gate_until_it_passes(own_graph: Graph) -> None:
    [failed] = own_graph.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    refused = own_graph.run("served_traffic", month=LAST)
    assert materialised(refused) == set()
    said = error_of(refused, "served_traffic")
    assert f"validated_features: {CHECK} of {LAST} (run {failed.run_id}): 2 of 800 rows" in said
    validate_last_month(own_graph)
    assert own_graph.run("served_traffic", month=LAST).success


def test_an_open_incident_is_closed_once_its_check_passes(own_graph: Graph) -> None:
    before = cursor_of(own_graph, "alerts")
    assert list(json.loads(before)["incidents"]) == [f"check:validated_features:{CHECK}:{LAST}"]
    validate_last_month(own_graph)
    repository = own_graph.definitions.get_repository_def()
    context = dg.build_sensor_context(
        instance=own_graph.instance, cursor=before, repository_def=repository, sensor_name="alerts"
    )
    tick = repository.get_sensor_def("alerts").evaluate_tick(context)
    assert json.loads(tick.cursor or "")["incidents"] == {}


def test_the_prediction_log_is_read_again(own_graph: Graph) -> None:
    before = own_graph.lake.read("served_traffic", [LAST])
    shutil.rmtree(own_graph.platform.home / "lake/served_traffic")
    validate_last_month(own_graph)
    result = own_graph.run("served_traffic", month=LAST)
    assert result.success, error_of(result, "served_traffic")
    assert failed_checks(result) == {}
    again = own_graph.lake.read("served_traffic", [LAST])
    # Its lines are older than the fields of the pod.
    assert (again[list(ORIGIN)] == "").all(axis=None)
    pd.testing.assert_frame_equal(again.drop(columns=list(ORIGIN)), before)
    assert len(again) == 40
    assert again["customer_id"].notna().all()


def test_the_champion_is_kept_and_rolled_back_on_the_same_record(
    own_graph: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = own_graph.run("promoted_model")
    assert kept.success, error_of(kept, "promoted_model")
    assert failed_checks(kept) == {}
    assert stored(own_graph, PromotedModel, "promoted_model").action == "kept"
    assert len(movements(own_graph)) == 2
    config = {"ops": {"promoted_model": {"config": {"rollback": True, **PERSON}}}}
    result = own_graph.run("promoted_model", config=config)
    assert result.success, error_of(result, "promoted_model")
    assert movements(own_graph)[2:] == [("rollback", "ada", "2", "1")]
    promoted = stored(own_graph, PromotedModel, "promoted_model")
    assert [promoted.model, promoted.previous] == versions(own_graph)
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("3 entries")


def test_the_demo_has_nothing_to_make_again(own_graph: Graph) -> None:
    runs = own_graph.instance.get_runs_count()
    with time_machine.travel(JUNE, tick=True):
        assert demo() == 0
    assert own_graph.instance.get_runs_count() == runs


def test_the_daemon_continues_with_the_next_month(own_graph: Graph) -> None:
    graph, delivered = own_graph, {month: scores(own_graph, month) for month in MONTHS}
    cursor = asset_daemon_cursor_from_instigator_serialized_cursor(
        cursor_of(graph, "automation"), None
    )
    daemon = Daemon(graph, without=("churn_bento",), cursor=cursor)
    with time_machine.travel(JUNE):
        assert daemon.settle() == [], "everything that it could make was there"
    with time_machine.travel(JULY):
        validate_last_month(graph)
        runs = daemon.settle()
    assert all(run.success for run in runs), runs
    assert [(run.month, run.assets) for run in runs] == RUNS_THEN
    for month, rows in delivered.items():
        pd.testing.assert_frame_equal(scores(graph, month), rows, **SAME)
    assert set(scores(graph, NEXT)["model_version"]) == {"2"}
    assert movements(graph)[2:] == [("promotion", "policy", "2", "3")]
    assert main(["verify"]) == 0
    # The labels of the last month came too late for it: version 3 has the rows of version 2.
    assert_same_model(graph, versions(graph)[1], stored(graph, ModelRecord, "churn_model"))


def assert_same_model(graph: Graph, before: ModelRecord, after: ModelRecord) -> None:
    """A model from the same rows is the same, in all that the registry has of it."""
    assert before.version != after.version
    assert (after.chosen, after.recipe) == (before.chosen, before.recipe)
    assert after.table_versions == before.table_versions
    rows = model_columns(held_out_rows(graph, before), graph.platform.contract)
    for load in (load_scorer, load_fallback):
        first, second = (load(record).score(rows) for record in (before, after))
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-9)
