"""Scores of a champion, traffic of its service, and the drift report on both."""

import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.records import PromotedModel
from churn_assets.core.data.features import requests
from churn_assets.core.evaluation.metrics import row_gain
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.defs.gates.gates import SHUT_GATE
from churn_assets.settings import Settings, latest_closed_month
from churn_assets_tests.containers.pod_volume import PodVolume
from churn_assets_tests.defs.check_events import report_result
from churn_assets_tests.defs.graph import CUSTOMERS, MODEL, Graph
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised, retries
from churn_assets_tests.logs import KEY, write_log

LATEST = pd.Period(latest_closed_month(), freq="M")
FIRST, SECOND, THIRD = (str(LATEST - back) for back in (2, 1, 0))
PREDICTIONS = 10_000


def graph_over(home: Path, **settings: Any) -> Graph:
    defaults: dict[str, Any] = {
        "simulated": {"customers": 3_000}, "first_month": FIRST, "bootstrap_resamples": 100,
        "promotion": {"resamples": 100}, "limits": {"min_auc": 0.5},
    }  # fmt: skip
    return Graph(Settings(home=home / "home", **defaults | settings))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose champion was trained on the first month only."""
    home = tmp_path_factory.mktemp("loop")
    graph = graph_over(home)
    for month in (FIRST, SECOND, THIRD):
        assert graph.run(*CUSTOMERS, month=month).success
    assert graph.run("churn_labels", month=FIRST).success
    with pytest.MonkeyPatch.context() as patch:
        # The quality of the champion does not matter here.
        patch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
        by_hand = config("promoted_model", approved_by="ada", reason="a test")
        result = graph.run(*MODEL, "promoted_model", config=by_hand)
    failures = [event.message for event in result.all_events if event.is_failure]
    assert "promoted_model" in materialised(result), failures
    assert graph.run("churn_labels", month=SECOND).success
    return home


@pytest.fixture
def graph(trained: Path, tmp_path: Path) -> Iterator[Graph]:
    """A graph over the trained home, which is restored after the test."""
    backup = shutil.copytree(trained, tmp_path / "backup")
    yield graph_over(trained)
    for part in ("lake", "reports", "predictions"):
        shutil.rmtree(trained / "home" / part, ignore_errors=True)
        if (backup / "home" / part).exists():
            shutil.copytree(backup / "home" / part, trained / "home" / part)
    (trained / "home" / "id.key").unlink(missing_ok=True)


def evaluation(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    return next(e for e in result.get_asset_check_evaluations() if e.check_name == name)


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def scores(graph: Graph, month: str) -> pd.DataFrame:
    return graph.lake.read("customer_scores", [month]).sort_values("rank", ignore_index=True)


def another_champion(graph: Graph) -> None:
    """Promotes the same model once more, as version 2."""
    path = graph.platform.reports / "promoted_model.json"
    current = PromotedModel.model_validate_json(path.read_text())
    model = current.model.model_copy(update={"version": "2"})
    path.write_text(current.model_copy(update={"model": model}).model_dump_json())


def config(asset: str, **fields: Any) -> dict[str, Any]:
    return {"ops": {asset: {"config": fields}}}


# Gates


@pytest.mark.parametrize("asset", ["customer_scores", "served_traffic", "drift_report"])
def test_a_month_whose_features_were_refused_is_stopped_by_the_gate(
    graph: Graph, asset: str
) -> None:
    shutil.rmtree(graph.platform.home / "lake" / "validated_features")
    refused = "quarantined_share_within_limit"
    report_result(graph, "validated_features", refused, SECOND, passed=False)
    result = graph.run(asset, month=SECOND)
    failure = result.failure_data_for_node(asset)
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.metadata[SHUT_GATE].value is True
    message = error_of(result, asset)
    assert f"validated_features: {refused} of {SECOND} (run " in message
    assert "override_by" not in message, "there are no features that an override could use"
    assert retries(result) == 0

    report_result(graph, "validated_features", refused, SECOND, passed=True)
    message = error_of(graph.run(asset, month=SECOND), asset)
    assert "table 'validated_features' is not in" in message


# Scores


def test_every_customer_of_the_month_is_scored_by_the_champion(graph: Graph) -> None:
    result = graph.run("customer_scores", month=SECOND)
    assert result.success, error_of(result, "customer_scores")
    assert failed_checks(result) == {}
    scored, features = scores(graph, SECOND), graph.lake.read("validated_features", [SECOND])
    assert set(scored["customer_id"]) == set(features["customer_id"])
    assert scored["rank"].tolist() == list(range(1, len(features) + 1))
    gain = row_gain(scored["churn_probability"].to_numpy(), graph.platform.contract.economics)
    assert scored["expected_value"].to_numpy() == pytest.approx(gain)
    shown = metadata(result, "customer_scores")
    assert shown["model_version"] == "1"
    assert shown["low_risk"] + shown["medium_risk"] + shown["high_risk"] == len(features)
    assert shown["expected_value"] > 0
    sources = graph.lake.sources("customer_scores", shown["table_version"])
    assert sources["validated_features"] == graph.lake.version("validated_features")


def test_a_delivered_month_keeps_its_model_version(graph: Graph) -> None:
    assert graph.run("customer_scores", month=SECOND).success
    delivered = scores(graph, SECOND)
    another_champion(graph)
    for month, version in ((SECOND, "1"), (THIRD, "2")):
        result = graph.run("customer_scores", month=month)
        assert result.success, error_of(result, "customer_scores")
        assert set(scores(graph, month)["model_version"]) == {version}
    pd.testing.assert_frame_equal(scores(graph, SECOND), delivered)


def test_scoring_a_delivered_month_again_needs_a_name_and_a_reason(graph: Graph) -> None:
    assert graph.run("customer_scores", month=SECOND).success
    another_champion(graph)
    fields: dict[str, Any] = {"rescore": True}
    refused = graph.run("customer_scores", month=SECOND, config=config("customer_scores", **fields))
    assert "was delivered with model version 1" in error_of(refused, "customer_scores")
    assert set(scores(graph, SECOND)["model_version"]) == {"1"}
    blank = fields | {"override_by": "ada", "override_reason": " "}
    refused = graph.run("customer_scores", month=SECOND, config=config("customer_scores", **blank))
    assert "set override_reason and override_by" in error_of(refused, "customer_scores")
    fields |= {"override_by": "ada", "override_reason": "version 1 was wrong about age"}
    result = graph.run("customer_scores", month=SECOND, config=config("customer_scores", **fields))
    assert result.success, error_of(result, "customer_scores")
    assert set(scores(graph, SECOND)["model_version"]) == {"2"}
    entry = AuditLog(graph.lake).entries()[-1]
    assert (entry.action, entry.actor, entry.reason) == (
        "rescore", "ada", "version 1 was wrong about age"
    )  # fmt: skip
    assert (entry.before, entry.after) == ("1", "2")
    assert metadata(result, "customer_scores")["rescored_by"] == "ada"


# Traffic


def serve(graph: Graph, folder: Path, count: int = PREDICTIONS, **changed: Any) -> list[str]:
    """Writes the log of a service that predicts for the second month's customers, a month later."""
    graph.platform.id_key_file.write_bytes(KEY)
    features = graph.lake.read("validated_features", [SECOND]).sort_values("customer_id")
    bodies = requests(features, graph.platform.contract)
    requested = [bodies[i % len(bodies)] | changed for i in range(count)]
    ids = [f"p{i:05}" for i in range(count)]
    time = datetime.strptime(f"{THIRD}-05+0000", "%Y-%m-%d%z").astimezone(UTC)
    write_log(folder, graph.platform.contract, requested, ids, time=time, file_bytes=300_000)
    return ids


def traffic(graph: Graph) -> pd.DataFrame:
    return graph.lake.read("served_traffic", [SECOND])


def test_ten_thousand_predictions_are_stored_once_however_they_arrive(
    graph: Graph, tmp_path: Path
) -> None:
    ids = serve(graph, tmp_path / "written")
    files = sorted((tmp_path / "written" / graph.platform.contract.name).iterdir())
    draw, folder = random.Random(0), Path(graph.platform.predictions)
    folder.mkdir(parents=True)
    stored = 0
    for share in (0.3, 0.7, 1.0):
        for path in files:
            data = path.read_bytes()
            end = len(data) if share == 1 else int(share * len(data)) + draw.randrange(900)
            (folder / path.name).write_bytes(data[:end])
        shutil.copy(folder / files[0].name, folder / f"copied-{files[0].name}")
        result = graph.run("served_traffic", month=SECOND)
        assert result.success, error_of(result, "served_traffic")
        assert failed_checks(result) == {}
        rows = traffic(graph)
        assert rows["prediction_id"].is_unique
        assert metadata(result, "served_traffic")["new_predictions"] == len(rows) - stored
        stored = len(rows)
    assert sorted(rows["prediction_id"]) == ids
    matched = evaluation(result, "serving_matches_training")
    assert matched.metadata["rows_compared"].value == PREDICTIONS
    for path in folder.iterdir():
        path.unlink()
    assert graph.run("served_traffic", month=SECOND).success
    assert len(traffic(graph)) == PREDICTIONS


@pytest.fixture
def shipped(graph: Graph, tmp_path: Path) -> int:
    """Logs of a stable pod and of a killed canary, as the shipper stores them.

    Returns:
        Number of lines that the canary lost.
    """
    graph.platform.id_key_file.write_bytes(KEY)
    features = graph.lake.read("validated_features", [SECOND]).sort_values("customer_id")
    bodies = requests(features, graph.platform.contract)[:600]
    time = datetime.strptime(f"{THIRD}-05+0000", "%Y-%m-%d%z").astimezone(UTC)
    for prefix, role, part in (("a", "stable", bodies[:400]), ("b", "canary", bodies[400:])):
        pod = PodVolume(tmp_path / role)
        (pod.info / "role").write_text(role)
        (pod.info / "pod").write_text(f"churn-{role}")
        ids = [f"{prefix * 16}-{number:08x}" for number in range(len(part))]
        write_log(
            pod.log, graph.platform.contract, part, ids, time=time, file_bytes=30_000,
            pod_info=pod.info, keep_last=True,
        )  # fmt: skip
        last = max(pod.log.glob("*/*.jsonl"))
        if role == "canary":
            lines = last.read_bytes().splitlines(keepends=True)
            last.write_bytes(b"".join(lines[:-7]) + lines[-7][:100])
        pod.variables["CHURN_SHIP_URL"] = Path(graph.platform.predictions).parent.as_uri()
        pod.shipper().ship()
        assert pod.waiting() == []
    return 7


def test_shipped_logs_are_read_once_with_their_releases_and_gaps(
    graph: Graph, shipped: int
) -> None:
    folder = Path(graph.platform.predictions)
    for _ in range(2):
        result = graph.run("served_traffic", month=SECOND)
        assert result.success, error_of(result, "served_traffic")
        rows = traffic(graph)
        assert rows["prediction_id"].is_unique
        assert rows["role"].value_counts().to_dict() == {"stable": 400, "canary": 200 - shipped}
        assert set(rows["release"]) == {"churn"}
        assert metadata(result, "served_traffic")["lost_predictions"] == shipped
        check = failed_checks(result)["predictions_complete"]
        assert check.severity == dg.AssetCheckSeverity.WARN
        [gap] = [record.data for record in check.metadata["gaps"].records]
        assert (gap["pod"], gap["lost"], gap["missing"]) == ("churn-canary", 7, "193-199")
        releases = evaluation(result, "serving_matches_training").metadata["releases"].records
        assert {r.data["role"]: r.data["compared"] for r in releases} == {
            "canary": 193, "stable": 400
        }  # fmt: skip
        # The same file again, in the flat layout.
        path = max(folder.glob("churn/*/*.jsonl"))
        shutil.copy(path, folder / path.name)


def test_nothing_is_lost_before_the_end_of_its_process_is_known(graph: Graph, shipped: int) -> None:
    ends = list(Path(graph.platform.predictions).rglob("*.ended.json"))
    assert len(ends) == 2
    for path in ends:
        path.unlink()
    result = graph.run("served_traffic", month=SECOND)
    assert metadata(result, "served_traffic")["lost_predictions"] == 0
    assert "predictions_complete" not in failed_checks(result)
    assert evaluation(result, "predictions_complete").metadata["logged"].value == 600 - shipped


def test_requests_with_other_features_than_the_graphs_fail_a_check(graph: Graph) -> None:
    folder = Path(graph.platform.predictions).parent
    serve(graph, folder, 100, tenure=700)
    result = graph.run("served_traffic", month=SECOND)
    assert result.success
    check = failed_checks(result)["serving_matches_training"]
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert not check.blocking
    assert check.metadata["columns_differing"].value == "tenure"
    assert check.metadata["rows_differing"].value == 100
    assert {r.data["served"] for r in check.metadata["differences"].records} == {"700"}


def test_unreadable_lines_are_kept(graph: Graph) -> None:
    folder = Path(graph.platform.predictions)
    serve(graph, folder.parent, 50)
    [log] = folder.iterdir()
    first, *others = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + b"garbage\n" + b"".join(others))
    for _ in range(2):
        result = graph.run("served_traffic", month=SECOND)
        check = failed_checks(result)["predictions_readable"]
        assert check.metadata["unreadable"].value == 1
        rejected = graph.lake.read("served_traffic_rejected", [SECOND])
        assert rejected["line"].tolist() == ["garbage"]
        assert "Invalid JSON" in rejected["reason"].iloc[0]
        assert len(traffic(graph)) == 50


def test_a_month_without_log_has_no_rows_and_without_key_no_known_customers(graph: Graph) -> None:
    result = graph.run("served_traffic", month=SECOND)
    assert result.success
    check = evaluation(result, "serving_matches_training")
    why = "nothing could be compared: there are no predictions; "
    assert (check.description or "").startswith(f"Not judged: {why}")
    assert check.metadata["judged"].value is False
    serve(graph, Path(graph.platform.predictions).parent, 20)
    graph.platform.id_key_file.unlink()
    result = graph.run("served_traffic", month=SECOND)
    assert failed_checks(result) == {}
    description = evaluation(result, "serving_matches_training").description or ""
    assert "without the key of the pseudonyms, 20 predictions cannot be matched" in description
    assert traffic(graph)["customer_id"].isna().all()


# Drift and realised performance


def report(graph: Graph, month: str) -> DriftReport:
    path = graph.platform.reports / "drift_report" / f"{month}.json"
    return DriftReport.model_validate_json(path.read_text())


def test_the_report_has_scores_traffic_and_their_realised_performance(graph: Graph) -> None:
    serve(graph, Path(graph.platform.predictions).parent, 3_000)
    for month in (SECOND, THIRD):
        assert graph.run("customer_scores", "served_traffic", month=month).success
        result = graph.run("drift_report", month=month)
        assert result.success, error_of(result, "drift_report")
    early, late = report(graph, SECOND), report(graph, THIRD)
    assert early.performance == ()
    assert early.served is not None
    assert late.served is None
    assert late.predictions is not None
    assert late.predictions.rows == len(scores(graph, THIRD))
    assert late.model_version == "1"
    assert late.tested_auc is not None
    assert [(entry.source, entry.month, entry.in_training) for entry in late.performance] == [
        ("scores", SECOND, False), ("served", SECOND, False)
    ]  # fmt: skip
    scored = late.performance[0]
    labels = graph.lake.read("churn_labels", [SECOND])["churned"]
    assert scored.positives == pytest.approx(labels.sum(), abs=5)
    assert evaluation(result, "performance_holds").metadata["month"].value == SECOND
    page = (graph.platform.reports / "drift_report" / f"{THIRD}.html").read_text()
    assert "Realised performance" in page


def test_a_failed_check_has_a_page_with_plot_and_table(graph: Graph) -> None:
    strict = graph_over(graph.platform.home.parent, limits={"max_prediction_psi": 1e-9})
    assert strict.run("customer_scores", month=THIRD).success
    result = strict.run("drift_report", month=THIRD)
    page = failed_checks(result)["no_prediction_drift"].metadata["page"].value
    assert page.startswith("![no_prediction_drift](data:image/png;base64,")
    assert "\n| --- |" in page
    assert "page" not in evaluation(result, "nulls_as_in_training").metadata


def test_the_report_waits_for_the_labels_of_one_horizon_before(graph: Graph) -> None:
    assets = graph.definitions.resolve_asset_graph()
    node = assets.get(dg.AssetKey("drift_report"))
    mapping = node.partition_mappings[dg.AssetKey("churn_labels")]
    assert (mapping.start_offset, mapping.end_offset) == (-1, -1)  # type: ignore[attr-defined]
    single = Graph(Settings(contract="ibm_telco", home=graph.platform.home / "other"))
    node = single.definitions.resolve_asset_graph().get(dg.AssetKey("drift_report"))
    assert dg.AssetKey("churn_labels") not in node.parent_keys
