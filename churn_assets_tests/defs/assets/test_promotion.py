"""Movements of the champion, by policy or by a person, recorded in the real stores."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient

from churn_assets.adapters.audit import TABLE, AuditLog
from churn_assets.adapters.records import ModelRecord, PromotedModel
from churn_assets.adapters.registry import aliases, load_report, model_record
from churn_assets.audit import main
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.evaluation.metrics import Interval
from churn_assets.core.governance.promotion import Comparison
from churn_assets.defs.alerting.alerts import SENSOR as ALERTS
from churn_assets.defs.gates import decision
from churn_assets.defs.gates.approval import DAEMON_TAGS
from churn_assets_tests.adapters.receivers import webhook
from churn_assets_tests.defs.graph import (
    CUSTOMERS,
    LABELS,
    MODEL,
    MONTH,
    Graph,
    customers,
    from_files,
)
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised

PERSON = {"approved_by": "ada", "reason": "seen by the board"}
DOCUMENTS = ("churn_model", "evaluation_report")
Command = Callable[[str], tuple[int, str]]
Crash = Callable[[], AbstractContextManager[None]]
MANUAL = {"approval": "manual", "resamples": 100}


@dataclass
class Promotions:
    """A graph with trained versions: 1 and 2 by one recipe, 3 by another recipe."""

    graph: Graph
    trained: Path

    def challenger(self, version: int) -> None:
        """Makes a version the newest that was trained and evaluated."""
        for name in DOCUMENTS:
            document = self.trained / f"{version}-{name}.json"
            shutil.copy(document, self.graph.platform.home / "reports" / f"{name}.json")

    def run(self, tags: dict[str, str] | None = None, **config: Any) -> dg.ExecuteInProcessResult:
        run_config = {"ops": {"promoted_model": {"config": config}}}
        return self.graph.run("promoted_model", config=run_config, tags=tags)

    def promote(self, version: int, **config: Any) -> dg.ExecuteInProcessResult:
        self.challenger(version)
        return self.run(**config)

    @property
    def name(self) -> str:
        return self.graph.platform.model_name

    @property
    def aliases(self) -> dict[str, str]:
        return {k: v for k, v in aliases(self.name).items() if k != "challenger"}

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.graph.lake)

    @property
    def moves(self) -> list[tuple[str, str, str, str]]:
        return [(e.action, e.actor, e.before, e.after) for e in self.audit.entries()]

    @property
    def document(self) -> PromotedModel:
        path = self.graph.platform.home / "reports/promoted_model.json"
        return PromotedModel.model_validate_json(path.read_text())


def noisy_customers() -> pd.DataFrame:
    """Customers whose churn is predictable by two columns together, but not with certainty."""
    rows = customers(900)
    draw = np.random.default_rng(0).random(len(rows))
    idle, new = rows["usage_days"].astype(int) < 9, rows["tenure"].astype(int) < 20
    rows["churned"] = np.where(draw < 0.05 + 0.45 * idle + 0.4 * new, "true", "false")
    return rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three trained and evaluated versions, none of them promoted."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
        train(folder, noisy_customers(), 0, 0, 1)
    return folder


@pytest.fixture(scope="module")
def noise_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one trained and evaluated version; its customers leave by chance alone."""
    folder = tmp_path_factory.mktemp("noise")
    rows = customers(900)
    draw = np.random.default_rng(0).random(len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
        rows["churned"] = np.where(draw < 0.3, "true", "false")
        train(folder, rows, 0, limits={"min_auc": 0.5})
    return folder


def train(folder: Path, rows: pd.DataFrame, *seeds: int, **settings: Any) -> None:
    """Trains and evaluates a version with each seed; another seed is another recipe."""
    rows.to_csv(folder / "customers.csv", index=False)
    for version, seed in enumerate(seeds, 1):
        graph = from_files(
            folder, folder / "customers.csv", seed=seed, bootstrap_resamples=100, **settings
        )
        if version == 1:
            assert graph.run(*CUSTOMERS, month=MONTH).success
            assert graph.run(*LABELS, month=MONTH).success
        assert graph.run(*(MODEL if version == 1 else MODEL[1:])).success
        for name in DOCUMENTS:
            document = graph.platform.home / f"reports/{name}.json"
            shutil.copy(document, folder / f"{version}-{name}.json")


def promotions(
    home: Path, folder: Path, alerts: dict[str, Any] | None = None, **promotion: Any
) -> Promotions:
    shutil.copytree(home / "home", folder / "home", dirs_exist_ok=True)
    policy = {"resamples": 100} | promotion
    graph = from_files(
        folder, home / "customers.csv", promotion=policy, bootstrap_resamples=100,
        alerts=alerts or {},
    )  # fmt: skip
    mlflow.set_tracking_uri(graph.platform.tracking_uri)
    return Promotions(graph, home)


@pytest.fixture
def auto(home: Path, tmp_path: Path) -> Promotions:
    return promotions(home, tmp_path)


@pytest.fixture
def manual(home: Path, tmp_path: Path) -> Promotions:
    return promotions(home, tmp_path, **MANUAL)


def test_a_good_first_model_is_promoted_by_the_policy(auto: Promotions) -> None:
    result = auto.promote(1)
    assert result.success, error_of(result, "promoted_model")
    assert not failed_checks(result)
    assert auto.aliases == {"champion": "1"}
    assert auto.moves == [("promotion", "policy", "", "1")]
    (entry,) = auto.audit.entries()
    document = auto.document
    assert (document.action, document.policy, document.previous) == ("promotion", "first", None)
    assert document.audit_hash == entry.hash
    assert document.dagster_run_id == entry.evidence["dagster_run_id"] == result.run_id
    assert entry.evidence["checks"]["auc_above_floor"] is True
    assert entry.evidence["table_versions"] == document.model.table_versions
    assert entry.evidence["mlflow_run_ids"] == {"challenger": document.model.run_id}


def with_profit(promotions: Promotions, version: int, **per_customer: float | None) -> None:
    """Makes a version the newest, with another expected profit in its report."""
    promotions.challenger(version)
    path = promotions.graph.platform.home / "reports/evaluation_report.json"
    report = EvaluationReport.model_validate_json(path.read_text())
    profit = report.profit.model_copy(update={"per_customer": Interval(**per_customer)})
    path.write_text(report.model_copy(update={"profit": profit}).model_dump_json())


def earned(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    """Result of `challenger_earned_promotion` in a run."""
    (found,) = [
        one for one in result.get_asset_check_evaluations()
        if one.check_name == "challenger_earned_promotion"
    ]  # fmt: skip
    return found


HOW = "promoted_model:\n    config:\n      approved_by: ...\n      reason: ..."


def test_a_first_model_of_noise_waits_and_a_person_promotes_it(
    noise_home: Path, tmp_path: Path
) -> None:
    noise = promotions(noise_home, tmp_path)
    noise.challenger(1)
    for tags in ({}, {next(iter(DAEMON_TAGS)): "it"}):
        result = noise.run(tags=tags)
        assert result.success
        assert materialised(result) == set()
        check = failed_checks(result)["challenger_earned_promotion"]
        assert check.severity == dg.AssetCheckSeverity.ERROR
        text = str(check.description)
        assert "Version 1 waits for approval. There is no champion yet." in text
        assert "Failed: beats_simple_baseline" in text
        assert "EUR per 1,000 customers (95% interval " in text
        assert HOW in text
        assert ("The daemon started this run" in text) is bool(tags)
    assert (noise.moves, noise.aliases) == ([], {})
    result = noise.run(**PERSON)
    assert not failed_checks(result)
    assert str(earned(result).description).endswith("ada approved it.")
    assert noise.moves == [("promotion", "ada", "", "1")]
    (entry,) = noise.audit.entries()
    assert entry.evidence["checks"]["beats_simple_baseline"] is False
    assert "EUR per 1,000 customers" in entry.evidence["verdict"]
    assert (noise.document.policy, noise.document.approved_by) == ("first", "ada")


@pytest.mark.parametrize(
    ("value", "promoted"), [(-0.1, False), (0.0, False), (1e-6, True), (None, False)]
)
def test_a_first_model_that_is_not_expected_to_earn_money_waits(
    auto: Promotions, value: float | None, promoted: bool
) -> None:
    with_profit(auto, 1, value=value, low=-0.4, high=0.3)
    result = auto.run()
    assert result.success
    assert earned(result).passed is promoted
    assert auto.moves == ([("promotion", "policy", "", "1")] if promoted else [])
    if value == -0.1:
        assert (
            "Its offers are expected to lose 100.00 EUR per 1,000 customers (95% interval -400.00 "
            "to 300.00); they must earn more than 0."
        ) in str(earned(result).description)
        assert earned(result).metadata["failed"].value == "earns_money"


def test_a_first_model_that_waits_is_promoted_by_an_override_too(auto: Promotions) -> None:
    with_profit(auto, 1, value=-0.1, low=-0.4, high=0.3)
    result = auto.run(override_reason="a trial", override_by="bob")
    assert "waits for approval" not in str(earned(result).description)
    assert [move[:2] for move in auto.moves] == [("override", "bob"), ("promotion", "bob")]


def test_a_first_model_that_waits_needs_one_approval_where_approval_is_manual(
    manual: Promotions,
) -> None:
    with_profit(manual, 1, value=-0.1, low=-0.4, high=0.3)
    message = error_of(manual.run(), "promoted_model")
    assert "are expected to lose 100.00 EUR" in message
    assert HOW in message
    assert manual.moves == []
    assert manual.run(**PERSON).success
    assert manual.moves == [("promotion", "ada", "", "1")]


def test_a_first_model_that_waits_is_reported_once_until_a_good_one_is_promoted(
    home: Path, tmp_path: Path
) -> None:
    with webhook() as hook:
        auto = promotions(home, tmp_path, {"webhook": hook.url})
        repository = auto.graph.definitions.get_repository_def()
        sensor = repository.get_sensor_def(ALERTS)
        cursor: str | None = None

        def tick() -> None:
            nonlocal cursor
            with dg.build_sensor_context(
                auto.graph.instance, cursor=cursor, repository_def=repository
            ) as context:
                cursor = sensor.evaluate_tick(context).cursor

        tick()
        for version in (1, 3):
            with_profit(auto, version, value=-0.1, low=-0.4, high=0.3)
            auto.run(tags={next(iter(DAEMON_TAGS)): "it"})
            tick()
        title = "challenger_earned_promotion of promoted_model"
        assert hook.headlines == [f"ALERT: {title}"]
        assert HOW in hook.accepted[0]["text"], "the alert says how a person promotes it"
        assert "docs/operations.md#promotion-refused" in str(hook.accepted[0])
        auto.promote(2)
        tick()
    assert hook.headlines[1:] == ["NOTICE: promotion of the champion", f"RECOVERED: {title}"]
    assert auto.moves == [("promotion", "policy", "", "2")]


def test_the_same_recipe_on_newer_data_is_promoted(auto: Promotions) -> None:
    auto.promote(1)
    result = auto.promote(2)
    assert auto.aliases == {"champion": "2", "previous": "1"}
    document = auto.document
    assert (document.policy, document.model.version) == ("fresh", "2")
    assert document.previous
    assert document.previous.version == "1"
    assert document.comparison
    assert document.comparison.rows > 50
    (event,) = result.asset_materializations_for_node("promoted_model")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert (shown["from"], shown["to"], shown["policy"]) == ("1", "2", "fresh")
    assert "| ROC AUC |" in shown["comparison"]
    run = MlflowClient().get_run(document.model.run_id)
    assert "promotion_auc_gained" in run.data.metrics
    text = mlflow.artifacts.load_text(f"runs:/{document.model.run_id}/promotion.json")
    assert Comparison.model_validate_json(text) == document.comparison


def test_another_recipe_that_is_not_better_is_refused_and_the_champion_stays(
    auto: Promotions,
) -> None:
    auto.promote(1)
    before = auto.document
    result = auto.promote(3)
    assert result.success
    assert materialised(result) == set()
    (check,) = failed_checks(result).values()
    assert check.check_name == "challenger_earned_promotion"
    assert check.metadata["limit"].value == 0
    assert "By policy 'superior': ROC AUC" in str(check.description)
    assert auto.document == before
    assert auto.aliases == {"champion": "1"}
    assert len(auto.moves) == 1


def test_a_refused_challenger_is_promoted_by_a_recorded_override(auto: Promotions) -> None:
    auto.promote(1)
    result = auto.promote(3, override_reason="a law", override_by="bob")
    assert "challenger_earned_promotion" in failed_checks(result)
    assert auto.moves[1:] == [
        ("override", "bob", "refused", "made"), ("promotion", "bob", "1", "3"),
    ]  # fmt: skip
    assert auto.document.approved_by == "bob"
    (event,) = result.asset_materializations_for_node("promoted_model")
    assert event.metadata["override_reason"].value == "a law"


def test_the_champion_materialised_again_is_kept_without_an_entry(auto: Promotions) -> None:
    auto.promote(1)
    before = auto.document
    result = auto.run()
    assert materialised(result) == {"promoted_model"}
    assert auto.document == before.model_copy(update={"action": "kept"})
    assert len(auto.moves) == 1


def test_a_report_about_another_version_promotes_nothing(auto: Promotions) -> None:
    auto.challenger(1)
    home = auto.graph.platform.home
    shutil.copy(auto.trained / "2-churn_model.json", home / "reports/churn_model.json")
    assert "evaluation_report is about model version 1" in error_of(auto.run(), "promoted_model")
    assert auto.moves == []


def test_a_rollback_brings_back_the_version_before(auto: Promotions) -> None:
    auto.promote(1)
    auto.promote(2)
    for lacking in PERSON:
        refused = auto.run(rollback=True, **PERSON | {lacking: ""})
        assert "A rollback needs a person" in error_of(refused, "promoted_model")
    result = auto.run(rollback=True, **PERSON)
    assert result.success, error_of(result, "promoted_model")
    assert auto.aliases == {"champion": "1", "previous": "2"}
    assert auto.moves[2:] == [("rollback", "ada", "2", "1")]
    document = auto.document
    check = earned(result)
    assert (check.description or "").startswith("Not judged: rolled back to version 1")
    assert check.metadata["judged"].value is False
    assert (document.action, document.model.version) == ("rollback", "1")
    assert document.previous
    assert document.previous.version == "2"
    assert (document.approved_by, document.reason) == ("ada", "seen by the board")


def test_a_second_rollback_needs_an_override(
    auto: Promotions,
) -> None:
    auto.promote(1)
    auto.promote(2)
    assert auto.run(rollback=True, **PERSON).success
    message = error_of(auto.run(rollback=True, **PERSON), "promoted_model")
    assert "ada rolled back from version 2 (seen by the board); another rollback would" in message
    assert auto.aliases["champion"] == "1"
    meant = {"override_reason": "it was not the model", "override_by": "bob"}
    assert auto.run(rollback=True, **PERSON, **meant).success
    assert [move[0] for move in auto.moves[3:]] == ["override", "rollback"]
    assert auto.aliases == {"champion": "2", "previous": "1"}


def test_a_rollback_of_the_only_version_is_an_error(auto: Promotions) -> None:
    auto.promote(1)
    result = auto.run(rollback=True, **PERSON)
    assert "no version with the alias `previous`" in error_of(result, "promoted_model")
    assert auto.aliases == {"champion": "1"}


def test_the_policy_does_not_promote_a_version_that_was_rolled_back(
    auto: Promotions,
) -> None:
    auto.promote(1)
    auto.promote(2)
    auto.run(rollback=True, **PERSON)
    result = auto.run()
    (check,) = failed_checks(result).values()
    assert "ada rolled back from version 2" in str(check.description)
    assert auto.aliases["champion"] == "1"
    assert auto.run(**PERSON).success
    assert auto.aliases == {"champion": "2", "previous": "1"}


def test_a_manual_promotion_waits_for_a_name_and_a_reason(manual: Promotions) -> None:
    result = manual.promote(1)
    message = error_of(result, "promoted_model")
    assert "Version 1 waits for approval. There is no champion yet." in message
    assert "promoted_model:\n    config:\n      approved_by: ...\n      reason: ..." in message
    assert manual.moves == []
    assert manual.run(**PERSON).success
    assert manual.moves == [("promotion", "ada", "", "1")]
    assert (manual.document.approved_by, manual.document.policy) == ("ada", "first")


@pytest.mark.parametrize("name", ["", " ", "policy", " Policy "])
def test_a_blank_name_and_the_policys_name_approve_nothing(manual: Promotions, name: str) -> None:
    manual.challenger(1)
    result = manual.run(approved_by=name, reason="r")
    assert "waits for approval" in error_of(result, "promoted_model")
    assert manual.moves == []


@pytest.mark.parametrize("tag", sorted(DAEMON_TAGS))
def test_a_daemon_cannot_approve_or_roll_back(manual: Promotions, tag: str) -> None:
    manual.challenger(1)
    daemon = {tag: "it"}
    message = error_of(manual.run(tags=daemon, **PERSON), "promoted_model")
    assert "The daemon started this run" in message
    assert "approved_by" in message
    message = error_of(manual.run(tags=daemon, rollback=True, **PERSON), "promoted_model")
    assert "A rollback needs a person" in message
    assert manual.moves == []
    assert manual.aliases == {}


def test_a_daemon_cannot_override(auto: Promotions) -> None:
    auto.promote(1)
    auto.challenger(3)
    daemon = {next(iter(DAEMON_TAGS)): "it"}
    result = auto.run(tags=daemon, override_reason="r", override_by="bob", **PERSON)
    assert "challenger_earned_promotion" in failed_checks(result)
    assert len(auto.moves) == 1


def test_a_daemon_promotes_by_policy_with_automatic_approval(auto: Promotions) -> None:
    auto.challenger(1)
    assert auto.run(tags={next(iter(DAEMON_TAGS)): "it"}).success
    assert auto.moves == [("promotion", "policy", "", "1")]


ALIAS = "mlflow.MlflowClient.set_registered_model_alias"
DOCUMENT = "churn_assets.defs.platform.storage.DocumentIOManager.dump_to_path"


@pytest.fixture(params=[ALIAS, DOCUMENT])
def crash(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Crash:
    """A context in which a run crashes after its entry in the audit log."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the machine is gone")

    @contextmanager
    def crashing() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(request.param, fail)
            yield

    return crashing


def test_a_crash_after_the_entry_is_completed_by_the_next_run(
    auto: Promotions, crash: Crash
) -> None:
    auto.promote(1)
    auto.challenger(2)
    with crash():
        assert not auto.run().success
    assert auto.moves[1:] == [("promotion", "policy", "1", "2")]
    assert auto.document.model.version == "1"
    completed = auto.run()
    assert not failed_checks(completed)
    assert auto.aliases == {"champion": "2", "previous": "1"}
    assert len(auto.moves) == 2, "no decision is taken twice"
    document = auto.document
    assert (document.action, document.model.version, document.policy) == ("promotion", "2", "fresh")
    assert document.audit_hash == auto.audit.entries()[-1].hash


def test_a_crashed_rollback_that_is_retried_happens_once(auto: Promotions, crash: Crash) -> None:
    auto.promote(1)
    auto.promote(2)
    with crash():
        crashed = auto.run(rollback=True, **PERSON)
    assert not crashed.success
    retry = {"dagster/root_run_id": crashed.run_id, "dagster/parent_run_id": crashed.run_id}
    completed = auto.run(tags=retry, rollback=True, **PERSON)
    assert completed.success, error_of(completed, "promoted_model")
    assert auto.moves[2:] == [("rollback", "ada", "2", "1")]
    assert auto.aliases == {"champion": "1", "previous": "2"}
    assert (auto.document.action, auto.document.model.version) == ("rollback", "1")


def test_an_alias_moved_by_hand_stops_promotions_until_a_person_corrects_it(
    auto: Promotions,
) -> None:
    auto.promote(1)
    MlflowClient().set_registered_model_alias(auto.name, "champion", "3")
    result = auto.promote(2)
    (check,) = failed_checks(result).values()
    assert (check.check_name, check.severity) == (
        "approval_recorded", dg.AssetCheckSeverity.ERROR,
    )  # fmt: skip
    assert "`champion` is version 3 and `previous` none; by entry 1" in str(check.description)
    assert auto.aliases["champion"] == "3"
    message = error_of(result, "promoted_model")
    assert "A person can set `champion` to version 1, on record." in message
    assert auto.run(**PERSON).success
    assert auto.moves[1:] == [("correction", "ada", "3", "1")], "no challenger was approved"
    assert auto.aliases == {"champion": "1"}
    assert auto.run().success
    assert auto.moves[2:] == [("promotion", "policy", "1", "2")]
    assert auto.aliases == {"champion": "2", "previous": "1"}


def test_a_rollback_follows_the_audit_log_and_not_an_alias_moved_by_hand(
    auto: Promotions,
) -> None:
    auto.promote(1)
    auto.promote(2)
    MlflowClient().set_registered_model_alias(auto.name, "previous", "3")
    assert "approval_recorded" in failed_checks(auto.run())
    assert auto.run(rollback=True, **PERSON).success
    assert auto.moves[2:] == [("correction", "ada", "2", "2"), ("rollback", "ada", "2", "1")]
    assert auto.aliases == {"champion": "1", "previous": "2"}


def test_a_deleted_champion_is_recorded_and_the_version_before_comes_back(
    auto: Promotions,
) -> None:
    auto.promote(1)
    auto.promote(2)
    MlflowClient().delete_model_version(auto.name, "2")
    message = error_of(auto.run(), "promoted_model")
    assert "A person can set `champion` to none, because the version on record is lost" in message
    result = auto.run(rollback=True, **PERSON)
    assert result.success, error_of(result, "promoted_model")
    assert auto.moves[2:] == [("correction", "ada", "", ""), ("rollback", "ada", "", "1")]
    assert auto.aliases == {"champion": "1"}
    assert auto.document.model.version == "1"


def test_after_the_only_champion_is_deleted_the_next_counts_as_the_first(auto: Promotions) -> None:
    auto.promote(1)
    MlflowClient().delete_model_version(auto.name, "1")
    auto.challenger(2)
    assert materialised(auto.run(**PERSON)) == set()
    assert auto.moves[1:] == [("correction", "ada", "", "")]
    assert auto.run().success
    assert auto.document.policy == "first"
    assert auto.aliases == {"champion": "2"}


def test_one_of_two_concurrent_decisions_moves_the_champion(
    auto: Promotions, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto.promote(1)
    auto.promote(2)
    judge = decision.usable

    def while_a_challenger_is_promoted(*given: Any) -> Any:
        monkeypatch.setattr(decision, "usable", judge)
        assert auto.promote(3, override_reason="r", override_by="bob").success
        return judge(*given)

    monkeypatch.setattr(decision, "usable", while_a_challenger_is_promoted)
    message = error_of(auto.run(rollback=True, **PERSON), "promoted_model")
    assert "the champion of churn_telecom has moved meanwhile: entry 4" in message
    assert auto.moves[-1] == ("promotion", "bob", "2", "3")
    assert auto.aliases == {"champion": "3", "previous": "2"}


def test_a_challenger_of_another_contract_is_not_judged(auto: Promotions) -> None:
    auto.challenger(1)
    path = auto.graph.platform.home / "reports/churn_model.json"
    record = ModelRecord.model_validate_json(path.read_text())
    for change in ({"name": "churn_other"}, {"contract_version": "0.0"}):
        path.write_text(record.model_copy(update=change).model_dump_json())
        assert "churn_model is churn_" in error_of(auto.run(), "promoted_model")
    assert auto.moves == []


def test_an_altered_log_stops_promotions_and_the_entry_is_named(
    auto: Promotions, command: Command
) -> None:
    auto.promote(1)
    auto.promote(2)
    assert command("verify")[0] == 0
    assert "1 -> 2  by policy" in command("list")[1]
    uri = f"{auto.graph.lake.root}/{TABLE}"
    rows = auto.graph.lake.read(TABLE)
    rows.loc[rows["sequence"] == 1, "actor"] = "eve"
    DeltaTable(uri).alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(uri, rows, mode="overwrite")
    code, output = command("verify")
    assert (code, output.split(":")[0]) == (1, "Entry 1 was altered")
    result = auto.promote(3, override_reason="r", override_by="o")
    (check,) = failed_checks(result).values()
    assert check.check_name == "audit_chain_unbroken"
    assert check.metadata["first_altered"].value == 1
    assert auto.aliases == {"champion": "2", "previous": "1"}
    DeltaTable(uri).restore(2)
    assert command("verify")[0] == 0, "every version of the table is kept"


def test_a_truncated_log_is_detected_by_the_champions_record(
    auto: Promotions, command: Command
) -> None:
    auto.promote(1)
    auto.promote(2)
    uri = f"{auto.graph.lake.root}/{TABLE}"
    rows = auto.graph.lake.read(TABLE)
    DeltaTable(uri).alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(uri, rows[rows["sequence"] < 2].reset_index(drop=True), mode="overwrite")
    code, output = command("verify")
    assert (code, output[:18]) == (1, "Entry 2 is missing")
    assert "audit_chain_unbroken" in failed_checks(auto.run())


@pytest.fixture
def command(
    auto: Promotions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The audit log's command over the same home; it returns its exit code and its output."""

    def run(name: str) -> tuple[int, str]:
        monkeypatch.setenv("CHURN_HOME", str(auto.graph.platform.home))
        capsys.readouterr()
        return main([name]), capsys.readouterr().out

    return run


def test_a_version_loads_with_its_record_and_report(auto: Promotions) -> None:
    records = [model_record(auto.name, str(version)) for version in (1, 2, 3)]
    text = (auto.trained / "2-churn_model.json").read_text()
    assert records[1] == ModelRecord.model_validate_json(text)
    assert [record.months for record in records] == [(MONTH,)] * 3
    assert records[0].recipe == records[1].recipe != records[2].recipe
    assert records[0].trained_at < records[1].trained_at < records[2].trained_at
    assert [load_report(record).about.model_version for record in records] == ["1", "2", "3"]
