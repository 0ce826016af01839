"""End to end: the command of the demo on a small operator, then the content of its home."""

import hashlib
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import httpx
import numpy as np
import pytest

from churn_assets.adapters.records import BentoRecord, PromotedModel
from churn_assets.adapters.registry import (
    CHALLENGER,
    RegistryError,
    champion,
    load_fallback,
    load_scorer,
)
from churn_assets.adapters.serving import serving
from churn_assets.contracts.card import GoldenRows, ModelCard
from churn_assets.contracts.request import features, request_model
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import model_columns, model_frame
from churn_assets.core.data.splitting import TEST, rows_of_split
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.modelling.scorer import LinearScorer, Scorer
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import SERVICE_PREFIX, Settings
from churn_assets_tests.defs.daemon import Daemon
from churn_assets_tests.defs.graph import Graph
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised
from churn_assets_tests.demo_home import (
    BEFORE,
    LAST,
    MONTHS,
    SHOCKED,
    DemoHome,
    demo_home,
    run_demo,
)
from churn_assets_tests.documents import ROOT, bash, blocks, native, sent

TRACING = "docs/tracing-a-prediction.md"


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("homes") / "it's a $5; b&ü"
    (home / "dagster").mkdir(parents=True)
    shutil.copy(ROOT / "dagster.yaml", home / "dagster")
    return home, run_demo(home)


@pytest.fixture
def filled_home(first_run: tuple[Path, str]) -> DemoHome:
    import mlflow

    graph = demo_home(first_run[0])
    mlflow.set_tracking_uri(graph.platform.tracking_uri)
    return graph


def test_the_demo_materialises_every_asset_and_prints_it(first_run: tuple[Path, str]) -> None:
    output = first_run[1]
    for asset in ("raw_customers", "validated_features", "quarantined_customers", "churn_labels",
                  "training_set", "churn_model", "evaluation_report", "promoted_model",
                  "customer_scores", "served_traffic", "drift_report", "churn_bento"):  # fmt: skip
        assert f"  {asset} " in output, output
    assert ", 0 did not run" in output
    assert "churn_telecom:2" in output
    assert "make serve" in output


def test_a_price_shock_leads_to_another_model_and_the_summary_shows_how(
    first_run: tuple[Path, str],
) -> None:
    lines = [line.strip().removeprefix("chain").strip() for line in first_run[1].splitlines()]
    starts = [
        f"version 1 learnt from {MONTHS[0]} to {MONTHS[-4]}; why: first",
        "promotion by policy: There is no champion yet.",
        f"{BEFORE}: ",
        f"{SHOCKED}: ",
        f"version 2 learnt from {MONTHS[0]} to {SHOCKED}; why: drift:{SHOCKED}",
        "promotion by policy: By policy 'fresh': ROC AUC ",
        f"{LAST}: ",
    ]
    positions = [max(n for n, line in enumerate(lines) if line.startswith(text)) for text in starts]
    assert positions == sorted(positions)
    before, shocked, last = (" ".join(lines[positions[n] : positions[n] + 3]) for n in (2, 3, 6))
    assert "scored by version 1; as in training" in before
    assert "scored by version 1; failed no_feature_drift (avg_monthly_charges" in shocked
    assert "scored by version 2; " in last


def test_the_stores_agree_with_the_summary(filled_home: DemoHome) -> None:
    lake, reports = filled_home.lake, filled_home.platform.home / "reports"
    scores = lake.read("customer_scores").groupby("month")["model_version"].unique()
    assert {month: list(versions) for month, versions in scores.items()} == {
        BEFORE: ["1"], SHOCKED: ["1"], LAST: ["2"]
    }  # fmt: skip
    promoted = PromotedModel.model_validate_json((reports / "promoted_model.json").read_text())
    assert (promoted.model.version, promoted.policy, promoted.action) == ("2", "fresh", "promotion")
    assert champion(promoted.model.name) == "2"
    [reason] = promoted.model.reasons
    assert reason.startswith(f"drift:{SHOCKED}: no_feature_drift: ")
    [event] = filled_home.instance.fetch_materializations(
        dg.AssetKey("retraining_reasons"), limit=10
    ).records
    assert event.asset_materialization is not None
    assert f"drift:{SHOCKED}" in event.asset_materialization.metadata
    report = DriftReport.model_validate_json((reports / f"drift_report/{SHOCKED}.json").read_text())
    assert "avg_monthly_charges" in report.drifted


def test_a_second_demo_materialises_nothing_again(first_run: tuple[Path, str]) -> None:
    home, first = first_run
    second = run_demo(home)
    assert second.count("all there already") == 3
    assert " s   " not in second.split("Done in")[0]
    assert first.split("\n  data  ")[1] == second.split("\n  data  ")[1]


def test_the_daemon_materialises_nothing_of_the_demo_again(filled_home: DemoHome) -> None:
    daemon = Daemon(filled_home)
    assert (daemon.sense("deliveries"), daemon.sense("retraining_reasons")) == (0, 0)
    requested = dg.evaluate_automation_conditions(filled_home.definitions, filled_home.instance)
    keys = filled_home.definitions.resolve_asset_graph().materializable_asset_keys
    wanted = {key.to_user_string(): requested.get_requested_partitions(key) for key in keys}
    # Of the months before the scenario, the demo scores only the latest.
    earlier = set(MONTHS[: MONTHS.index(BEFORE)])
    assert {name: months for name, months in wanted.items() if months} == dict.fromkeys(
        ("customer_scores", "served_traffic", "drift_report"), earlier
    )


def test_a_home_of_another_contract_is_refused(first_run: tuple[Path, str]) -> None:
    with pytest.raises(AssertionError, match="holds contract 'telecom', not 'ibm_telco'"):
        run_demo(first_run[0], CHURN_CONTRACT="ibm_telco")


def test_the_model_is_in_mlflow_with_its_inputs_and_candidates(filled_home: DemoHome) -> None:
    from mlflow import MlflowClient

    record, client = filled_home.record(), MlflowClient()
    run = client.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["chosen"] == record.chosen
    assert run.data.metrics["test_roc_auc"] > 0.65
    inputs = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
    assert inputs == {name: f"v{version}" for name, version in record.table_versions.items()}
    assert set(inputs) == {"training_set", "validated_features", "churn_labels"}
    nested = client.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{record.run_id}'"
    )
    assert {child.data.params["candidate"] for child in nested} == {"logistic", "boosting"}
    assert {child.info.status for child in nested} == {"FINISHED"}
    alias = client.get_model_version_by_alias(record.name, CHALLENGER)
    assert (str(alias.version), alias.run_id) == (record.version, record.run_id)


def test_the_registered_model_needs_no_pickle_and_is_the_scorer(filled_home: DemoHome) -> None:
    import mlflow.sklearn

    record, contract = filled_home.record(), filled_home.platform.contract
    uri = f"models:/{record.name}@{CHALLENGER}"
    pipeline = mlflow.sklearn.load_model(uri)
    files = list(Path(mlflow.artifacts.download_artifacts(uri)).rglob("*"))
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".joblib")]
    test = rows_of_split(typed(filled_home.lake.read("training_set"), contract), TEST)
    scored = load_scorer(record).score(model_columns(test, contract))
    expected = pipeline.predict_proba(model_frame(test, contract))[:, 1]
    np.testing.assert_allclose(scored, expected, rtol=0, atol=1e-12)


def test_the_model_has_a_logistic_regression_to_fall_back_on(filled_home: DemoHome) -> None:
    record, contract = filled_home.record(), filled_home.platform.contract
    main, fallback = load_scorer(record), load_fallback(record)
    assert isinstance(fallback, LinearScorer)
    test = model_columns(
        rows_of_split(typed(filled_home.lake.read("training_set"), contract), TEST), contract
    )
    correlation = np.corrcoef(main.score(test), fallback.score(test))[0, 1]
    assert correlation > 0.7
    assert isinstance(main, LinearScorer) is (record.chosen == "logistic")


def test_a_run_without_a_fallback_is_named(filled_home: DemoHome) -> None:
    from mlflow import MlflowClient

    record, client = filled_home.record(), MlflowClient()
    experiment = client.get_run(record.run_id).info.experiment_id
    parent = f"tags.mlflow.parentRunId = '{record.run_id}'"
    bare = client.search_runs([experiment], parent)[0].info.run_id
    old = record.model_copy(update={"run_id": bare})
    with pytest.raises(RegistryError, match=f"{bare} of churn_telecom:.* 'fallback': materialise"):
        load_fallback(old)


def test_a_second_training_from_the_same_versions_gives_the_same_model(
    filled_home: DemoHome,
) -> None:
    before = filled_home.record()
    config = {"training_set_version": before.table_versions["training_set"]}
    result = filled_home.run("churn_model", config={"ops": {"churn_model": {"config": config}}})
    assert result.success, error_of(result, "churn_model")
    after, contract = filled_home.record(), filled_home.platform.contract
    assert after.version != before.version
    assert after.table_versions == before.table_versions
    rows = model_columns(typed(filled_home.lake.read("training_set"), contract), contract)
    first, second = (load_scorer(record).score(rows) for record in (before, after))
    assert np.array_equal(first, second)
    not_evaluated = filled_home.run("promoted_model")
    assert "evaluation_report is about model version" in error_of(not_evaluated, "promoted_model")
    assert materialised(not_evaluated) == set()
    assert champion(after.name) == before.version


def test_a_training_that_fails_ends_its_run_as_failed(filled_home: DemoHome) -> None:
    from mlflow import MlflowClient

    rows = filled_home.lake.read("training_set")
    one_sided = filled_home.lake.write("training_set", rows[~rows["churned"]])
    filled_home.lake.write("training_set", rows)
    config = {"training_set_version": one_sided.version}
    result = filled_home.run("churn_model", config={"ops": {"churn_model": {"config": config}}})
    assert "customers who left are needed" in error_of(result, "churn_model")
    client = MlflowClient()
    experiment = client.get_experiment_by_name(filled_home.platform.model_name)
    (run,) = client.search_runs(
        [experiment.experiment_id], f"tags.dagster_run_id = '{result.run_id}'"
    )
    assert run.info.status == "FAILED"


def test_a_model_that_differs_from_its_scorer_is_not_registered(
    filled_home: DemoHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    before = filled_home.record()
    monkeypatch.setattr("churn_assets.core.data.quality.SAME_PROBABILITY", -1.0)
    result = filled_home.run("churn_model")
    assert "scorer_equals_pipeline" in failed_checks(result)
    assert materialised(result) == set()
    assert filled_home.record() == before
    alias = MlflowClient().get_model_version_by_alias(before.name, CHALLENGER)
    assert str(alias.version) == before.version


def test_no_bento_is_built_behind_a_failed_check(filled_home: DemoHome) -> None:
    strict = demo_home(filled_home.platform.home, limits={"min_auc": 0.999})
    built = set(filled_home.platform.home.glob("bentoml/**/bento.yaml"))
    downstream = ("promoted_model", "churn_bento")
    # The model is trained too: the newest one failed a check, which closes the gate of its report.
    evaluated = strict.run("churn_model", "evaluation_report", *downstream)
    assert failed_checks(evaluated)["auc_above_floor"].metadata["limit"].value == 0.999
    assert materialised(evaluated) == {"churn_model", "evaluation_report"}
    by_hand = strict.run(*downstream)
    assert "evaluation_report: auc_above_floor (run " in error_of(by_hand, "promoted_model")
    assert materialised(by_hand) == set()
    assert set(filled_home.platform.home.glob("bentoml/**/bento.yaml")) == built
    assert filled_home.run("evaluation_report", *downstream).success, "the gate opens again"


def test_the_bento_has_labels_of_its_origin(filled_home: DemoHome) -> None:
    import yaml

    home = filled_home.platform.home
    record = BentoRecord.model_validate_json((home / "reports/churn_bento.json").read_text())
    assert Path(record.archive).stat().st_size == record.size_bytes
    [event] = filled_home.instance.fetch_materializations(
        dg.AssetKey("churn_bento"), limit=1
    ).records
    assert event.asset_materialization is not None
    checksum = hashlib.sha256(Path(record.archive).read_bytes()).hexdigest()
    assert event.asset_materialization.metadata["archive_sha256"].value == checksum
    manifest = home / "bentoml/bentos" / record.tag.replace(":", "/") / "bento.yaml"
    labels = yaml.safe_load(manifest.read_text())["labels"]
    assert labels["mlflow_run"] == record.model.run_id
    assert labels["contract"] == "telecom-1.0.0"
    assert filled_home.instance.get_run_by_id(labels["dagster_run"]) is not None


def test_the_bento_has_the_card_of_the_evaluated_model(filled_home: DemoHome) -> None:
    home, contract = filled_home.platform.home, filled_home.platform.contract
    record = BentoRecord.model_validate_json((home / "reports/churn_bento.json").read_text())
    report = EvaluationReport.model_validate_json(
        (home / "reports/evaluation_report.json").read_text()
    )
    folder = home / "bentoml/models" / record.model_tag.replace(":", "/")
    card = ModelCard.model_validate_json((folder / "card.json").read_text())
    assert (card.name, card.version, card.chosen) == (
        record.model.name, record.model.version, record.model.chosen
    )  # fmt: skip
    assert (card.mlflow_run_id, card.table_versions) == (
        record.model.run_id, record.model.table_versions
    )  # fmt: skip
    assert filled_home.instance.get_run_by_id(card.dagster_run_id) is not None
    assert card.contract_fingerprint == contract.fingerprint
    assert (card.threshold, card.test_rows) == (report.profit.threshold, report.rows)
    assert card.test_months == report.months
    assert card.metrics["accuracy"].model_dump() == report.metrics["accuracy"].model_dump()
    assert datetime.now(UTC) - card.built_at < timedelta(hours=1)
    assert sum(card.scores.shares) == pytest.approx(1)
    golden = GoldenRows.model_validate_json((folder / "golden.json").read_text())
    model, scorer = request_model(contract), Scorer.load(folder)
    rows = [features(model.model_validate(body), contract) for body in golden.customers]
    assert tuple(scorer.score_one(row) for row in rows) == golden.main


def test_a_prediction_is_traced_to_the_training_rows_of_its_model(filled_home: DemoHome) -> None:
    home, lake = filled_home.platform.home, filled_home.lake
    record = BentoRecord.model_validate_json((home / "reports/churn_bento.json").read_text())
    (body,) = sent(TRACING)
    customer = json.loads(body) | {"customer_id": lake.read("training_set")["customer_id"].iloc[0]}
    variables = native(home)
    settings = {name: text for name, text in variables.items() if name.startswith(SERVICE_PREFIX)}
    with serving(record.tag, home / "bentoml", settings=settings) as url:
        prediction = httpx.post(f"{url}/predict", json=customer).raise_for_status().json()
    script = "\n".join(blocks(TRACING, "bash"))
    output = bash(script, variables | {"ID": prediction["prediction_id"]})
    assert f'"churn_probability": {prediction["churn_probability"]!r}' in output
    assert f'"mlflow_run_id": "{record.model.run_id}"' in output
    assert f'"run_id": "{record.model.run_id}"' in output
    for name, version in record.model.table_versions.items():
        assert f"\n{name} {version} " in output
    training_set = lake.read("training_set", version=record.model.table_versions["training_set"])
    own = training_set[training_set["customer_id"] == customer["customer_id"]]
    rows = re.findall(rf"^\d+ +{customer['customer_id']} +(\S+) +(\S+)", output, re.MULTILINE)
    assert rows == list(zip(own["month"], own["split"], strict=True))
    assert rows


def test_reports_are_kept_as_json_and_as_one_html_page(filled_home: DemoHome) -> None:
    reports = filled_home.platform.home / "reports"
    month = filled_home.platform.closed_months.get_last_partition_key()
    for name in ("evaluation_report", f"drift_report/{month}"):
        page = (reports / f"{name}.html").read_text()
        assert "<html" in page
        assert "data:image/png;base64," in page
        assert 'src="http' not in page
    report = EvaluationReport.model_validate_json((reports / "evaluation_report.json").read_text())
    assert report.about.table_versions == filled_home.record().table_versions


def test_the_ui_shows_columns_with_their_tags(filled_home: DemoHome) -> None:
    graph = filled_home.definitions.resolve_asset_graph()
    for name in ("raw_customers", "validated_features", "quarantined_customers", "training_set"):
        schema = graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
        columns = {column.name: column for column in schema.columns}
        assert set(columns["age"].tags) == {"personal", "sensitive"}, name
        assert columns["age"].description.startswith("Age (full years)")


def test_every_asset_has_a_group_an_owner_kinds_a_version_and_a_description() -> None:
    definitions = Graph(Settings()).definitions
    materialisable = definitions.resolve_asset_graph().materializable_asset_keys
    for spec in definitions.resolve_all_asset_specs():
        assert spec.group_name in {"data", "model", "monitoring", "serving"}, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert spec.code_version or spec.key not in materialisable, spec.key
        assert len(spec.description or "") > 60, spec.key


def test_a_platform_of_the_other_contract_has_one_partition() -> None:
    platform = Platform.of(Settings(contract="ibm_telco", snapshot_month="2026-03"))
    assert platform.closed_months.get_partition_keys() == ["2026-03"]
    assert platform.labelled_months.get_partition_keys() == ["2026-03"]
