"""Models that know the label, in the real graph: what stops, what a person reads and decides."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from churn_assets.adapters.audit import AuditLog
from churn_assets.defs.alerting.alerts import SENSOR
from churn_assets.defs.gates.approval import DAEMON_TAGS
from churn_assets_tests.adapters.receivers import webhook
from churn_assets_tests.defs.graph import CUSTOMERS, LABELS, MODEL, MONTH, Graph, from_files
from churn_assets_tests.defs.run_results import error_of, failed_checks, materialised

CONTRACT = """
from churn_assets.contracts.vocabulary import *


class Phone(CustomerContract):
    '''Customers of a telephone company.'''

    customer_id: str = customer_id("Number")
    status_code: int = number("Code of the account's state", ge=0, le=9)
    calls: float = number("Calls", ge=0, le=1)
    data: float = number("Data", ge=0, le=1)
    bills: float = number("Bills", ge=0, le=1)
    visits: float = number("Visits", ge=0, le=1)
    reason: str = category("Reason", nullable=True)
    left: bool = label("Left")

    __terms__ = Terms(
        economics=Economics(value_of_kept_customer=200, cost_of_offer=10, acceptance_rate=0.3)
    )
"""
ROWS = 1_200
USE = ["calls", "data", "bills", "visits"]
PERSON = {"approved_by": "ada", "reason": "the code is known a month before"}
HOW = "promoted_model:\n    config:\n      approved_by: ...\n      reason: ..."

Change = Callable[[pd.DataFrame], pd.DataFrame]


def clean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows


def code_in_the_middle(rows: pd.DataFrame) -> pd.DataFrame:
    """Every customer who left has code 4, and no other has."""
    code = np.where(rows["left"], 4, np.where(rows["status_code"] < 5, 3, 5))
    return rows.assign(status_code=code)


def reason_of_most(rows: pd.DataFrame) -> pd.DataFrame:
    """Seven of ten customers who left have a reason, and no other has."""
    left = rows["left"] & (np.arange(len(rows)) % 10 < 7)
    reasons = np.where(np.arange(len(rows)) % 2, "price", "moved")
    return rows.assign(reason=pd.Series(reasons).where(left, None))


def known_by_all_together(rows: pd.DataFrame) -> pd.DataFrame:
    """Four columns together decide who leaves, and none of them alone."""
    return rows.assign(left=rows[USE].sum(axis=1) > 2.4)


@dataclass
class Phone:
    """A graph over a file of customers."""

    graph: Graph
    file: Path

    def deliver(self, change: Change) -> None:
        random = np.random.default_rng(0)
        rows = pd.DataFrame({"customer_id": [f"c{i}" for i in range(ROWS)]})
        rows["status_code"] = random.integers(0, 10, ROWS)
        rows[USE] = random.random((ROWS, 4))
        rows["reason"] = random.choice(["a", "b"], ROWS)
        hazard = 0.03 + 0.4 * (rows["calls"] > 0.6) + 0.4 * (rows["data"] > 0.7)
        rows["left"] = random.random(ROWS) < hazard
        change(rows).to_csv(self.file, index=False)

    def train(self, change: Change) -> dict[str, dg.AssetCheckEvaluation]:
        """Trains and evaluates a model of the customers; returns the results of the checks."""
        self.deliver(change)
        assert self.graph.run(*CUSTOMERS, month=MONTH).success
        assert self.graph.run(*LABELS, month=MONTH).success
        result = self.graph.run(*MODEL)
        assert set(MODEL) <= materialised(result)
        return {one.check_name: one for one in result.get_asset_check_evaluations()}

    def promote(
        self, tags: dict[str, str] | None = None, **config: str
    ) -> dg.ExecuteInProcessResult:
        run_config = {"ops": {"promoted_model": {"config": config}}}
        return self.graph.run("promoted_model", config=run_config, tags=tags)

    @property
    def moves(self) -> list[tuple[str, str, str, str]]:
        entries = AuditLog(self.graph.lake).entries()
        return [(e.action, e.actor, e.before, e.after) for e in entries]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    return made(tmp_path, monkeypatch)


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Phone:
    monkeypatch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
    # Plots take long, and nothing here depends on them.
    monkeypatch.setattr("churn_assets.adapters.reports.plots._png", lambda *_: b"")
    (folder / "phone.py").write_text(CONTRACT)
    policy = {"resamples": 100} | settings.pop("promotion", {})
    graph = from_files(
        folder, folder / "customers.csv", contract=str(folder / "phone.py"),
        bootstrap_resamples=100, promotion=policy, **settings,
    )  # fmt: skip
    return Phone(graph, folder / "customers.csv")


def test_a_model_without_a_leak_is_promoted_by_the_policy(phone: Phone) -> None:
    checks = phone.train(clean)
    leaks, plausible = checks["no_feature_knows_the_label"], checks["model_not_too_good"]
    assert leaks.passed
    assert "No feature or pair is a leak. The strongest feature calls has" in str(leaks.description)
    assert plausible.passed
    assert "up to 0.97 it is plausible." in str(plausible.description)
    result = phone.promote()
    assert not failed_checks(result)
    assert phone.moves == [("promotion", "policy", "", "1")]


@pytest.mark.parametrize(
    ("change", "feature", "too_good"),
    [(code_in_the_middle, "status_code", True), (reason_of_most, "reason", False)],
)
def test_a_first_model_that_knows_the_label_waits_and_a_person_promotes_it(
    phone: Phone, change: Change, feature: str, too_good: bool
) -> None:
    checks = phone.train(change)
    leaks, plausible = checks["no_feature_knows_the_label"], checks["model_not_too_good"]
    assert (leaks.passed, leaks.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert leaks.metadata["leaks"].value == feature
    assert plausible.passed is not too_good
    if too_good:
        assert plausible.severity == dg.AssetCheckSeverity.ERROR
        assert not plausible.blocking
        assert plausible.metadata["features"].value == feature
    for tags in ({}, {next(iter(DAEMON_TAGS)): "it"}):
        result = phone.promote(tags=tags)
        assert result.success
        assert materialised(result) == set()
        text = str(failed_checks(result)["challenger_earned_promotion"].description)
        assert "Version 1 waits for approval. The model may know the label: " in text
        assert f"{feature} has an out-of-fold ROC AUC of " in text
        assert "of the churned rows (limit 25%)" in text
        assert ("up to 0.97 it is plausible. Alone, out of fold, status_code has" in text) == (
            too_good
        )
        assert HOW in text
    assert phone.moves == []
    result = phone.promote(**PERSON)
    assert not failed_checks(result)
    assert phone.moves == [("promotion", "ada", "", "1")]


def test_a_challenger_that_knows_the_label_waits_and_the_champion_stays(phone: Phone) -> None:
    phone.train(clean)
    assert not failed_checks(phone.promote())
    phone.train(code_in_the_middle)
    result = phone.promote()
    assert materialised(result) == set()
    check = failed_checks(result)["challenger_earned_promotion"]
    assert "Version 2 waits for approval. The model may know the label: " in str(check.description)
    assert "By policy 'fresh': ROC AUC +" in str(check.description)
    assert check.metadata["suspected_features"].value == "status_code"
    assert phone.moves == [("promotion", "policy", "", "1")]
    phone.promote(**PERSON)
    assert phone.moves[1:] == [("promotion", "ada", "1", "2")]
    (_, entry) = AuditLog(phone.graph.lake).entries()
    assert "status_code" in entry.evidence["verdict"]
    assert entry.evidence["checks"]["model_not_too_good"] is False


def test_a_high_auc_of_all_features_together_is_a_warning_and_stops_nothing(phone: Phone) -> None:
    checks = phone.train(known_by_all_together)
    assert checks["no_feature_knows_the_label"].passed
    plausible = checks["model_not_too_good"]
    assert (plausible.passed, plausible.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "No feature or pair alone has more than 85%" in str(plausible.description)
    assert not failed_checks(phone.promote())
    assert phone.moves == [("promotion", "policy", "", "1")]


def test_one_approval_is_enough_where_approval_is_manual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = made(tmp_path, monkeypatch, promotion={"approval": "manual"})
    phone.train(reason_of_most)
    message = error_of(phone.promote(), "promoted_model")
    assert "The model may know the label: reason has an out-of-fold ROC AUC of" in message
    assert HOW in message
    assert phone.promote(**PERSON).success
    assert phone.moves == [("promotion", "ada", "", "1")]


def test_a_leak_is_reported_with_its_runbook_and_how_to_promote_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook:
        phone = made(tmp_path, monkeypatch, alerts={"webhook": hook.url})
        repository = phone.graph.definitions.get_repository_def()
        phone.train(code_in_the_middle)
        phone.promote(tags={next(iter(DAEMON_TAGS)): "it"})
        with dg.build_sensor_context(phone.graph.instance, repository_def=repository) as context:
            repository.get_sensor_def(SENSOR).evaluate_tick(context)
    messages = dict(zip(hook.headlines, hook.accepted, strict=True))
    for name in ("no_feature_knows_the_label of training_set",
                 "model_not_too_good of evaluation_report"):  # fmt: skip
        assert "docs/operations.md#leak-suspected" in str(messages.pop(f"ALERT: {name}"))
    waits = messages.pop("ALERT: challenger_earned_promotion of promoted_model")
    assert HOW in waits["text"]
    assert messages == {}
