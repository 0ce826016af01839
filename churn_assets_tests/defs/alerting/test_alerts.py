"""Alerts about the real graph: one when something breaks, one when it has recovered."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from pydantic import SecretStr

from churn_assets.adapters.alerts import DeliveryError
from churn_assets.defs.alerting import event_log, runbooks
from churn_assets.defs.automation import deadlines
from churn_assets_tests.adapters.receivers import Received, mail_server, webhook
from churn_assets_tests.defs.alerting.watched import UI, Watched
from churn_assets_tests.defs.check_events import report_result
from churn_assets_tests.defs.graph import CUSTOMERS, MONTH, customers, from_files

BROKEN = [{"age": "17"}] * 10


@pytest.fixture
def hook() -> Iterator[Received]:
    with webhook() as received:
        yield received


@pytest.fixture
def watched(tmp_path: Path, hook: Received) -> Watched:
    """A graph whose alerts go to `hook`, after the first tick of its sensor."""
    watched = Watched(tmp_path, webhook=SecretStr(hook.url))
    watched.tick()
    return watched


def fields(body: dict[str, Any]) -> dict[str, str]:
    texts = [field["text"].split("\n") for field in body["blocks"][1]["fields"]]
    return {name.strip("*"): value for name, value in texts}


def test_a_failed_check_is_reported_once_and_its_recovery_once(
    watched: Watched, hook: Received
) -> None:
    watched.deliver(*BROKEN)
    for _ in range(2):
        watched.run()
        watched.tick()
        watched.tick()
    watched.deliver()
    watched.run()
    watched.tick()
    watched.tick()
    title = f"quarantined_share_within_limit of validated_features, {MONTH}"
    assert hook.headlines == [f"ALERT: {title}", f"RECOVERED: {title}"]
    alert, recovery = hook.accepted
    assert alert["blocks"][1]["text"]["text"].startswith("10 of 20 rows (50.00%) broke")
    shown = fields(alert)
    assert (shown["quarantined_share"], shown["limit"]) == ("0.5", "0.1")
    assert shown["runbook"] == "docs/operations.md#contract-broken"
    assert shown["since"].endswith(" UTC")
    link = "/assets/validated_features?view=checks&amp;checkDetail=quarantined_share_within_limit"
    assert f"<{UI}{link}|" in alert["text"]
    assert fields(recovery)["lasted"]
    assert watched.open == set()


def test_a_check_that_only_warns_is_not_reported(watched: Watched, hook: Received) -> None:
    warning = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("drift_report"), check_name="no_feature_drift", passed=False,
        severity=dg.AssetCheckSeverity.WARN,
    )  # fmt: skip
    watched.report(warning)
    watched.tick()
    assert (hook.accepted, watched.open) == ([], set())


def test_a_check_with_nothing_to_judge_neither_opens_nor_closes_an_incident(
    watched: Watched, hook: Received
) -> None:
    title = f"every_id_known of churn_labels, {MONTH}"
    states = (
        ((True, False), []),  # passed by Dagster's flag, not judged
        ((False, True), [f"ALERT: {title}"]),
        ((True, False), []),
        ((True, True), [f"RECOVERED: {title}"]),
        ((True, False), []),
    )
    sent: list[str] = []
    for (passed, judged), messages in states:
        report_result(
            watched.graph, "churn_labels", "every_id_known", MONTH, passed=passed, judged=judged
        )
        watched.tick()
        sent += messages
        assert hook.headlines == sent


def test_the_first_tick_reports_a_failure_that_a_later_result_did_not_judge(
    tmp_path: Path, hook: Received
) -> None:
    watched = Watched(tmp_path, webhook=SecretStr(hook.url))
    for passed in (False, True):
        report_result(
            watched.graph, "churn_labels", "every_id_known", MONTH, passed=passed, judged=not passed
        )
    watched.tick()
    assert hook.headlines == [f"ALERT: every_id_known of churn_labels, {MONTH}"]


def test_a_failed_run_is_reported_until_one_succeeds(watched: Watched, hook: Received) -> None:
    watched.file.write_bytes(b"a,b\n1,2\n1,2,3\n")
    watched.run()
    watched.run()
    watched.tick()
    assert hook.headlines == [f"ALERT: run failed at raw_customers, {MONTH}"]
    (alert,) = hook.accepted
    assert "expected 2 fields in line 3, saw 3" in alert["blocks"][1]["text"]["text"]
    assert fields(alert)["runbook"] == "docs/operations.md#run-failed"
    assert f"<{UI}/runs/{fields(alert)['run']}|" in alert["text"]
    watched.deliver()
    watched.run()
    watched.tick()
    assert hook.headlines[1:] == [f"RECOVERED: run failed at raw_customers, {MONTH}"]


def test_a_failed_run_is_reported_with_the_file_and_not_with_the_librarys_error(
    watched: Watched, hook: Received
) -> None:
    watched.file.write_bytes(b'a,b\n1,"2\n1,2\n')
    watched.run()
    watched.tick()
    text = hook.accepted[0]["blocks"][1]["text"]["text"]
    assert text == f"{watched.file} cannot be read as CSV: line 3: unexpected end of data"


def test_a_run_refused_by_a_closed_gate_is_not_reported_beside_the_failed_check(
    watched: Watched, hook: Received
) -> None:
    customers(1).head(0).to_csv(watched.file, index=False)
    watched.run()
    watched.tick()
    (headline,) = hook.headlines
    assert not watched.graph.run("churn_labels", month=MONTH).success
    watched.tick()
    assert hook.headlines == [headline]


def retrying(tmp_path: Path, hook: Received, *, enabled: bool) -> tuple[Watched, dict[str, Any]]:
    """A graph on an instance with retries of failed runs, and the settings of these retries."""
    settings = {"run_retries": {"enabled": enabled, "max_retries": 1}}
    (tmp_path / "dagster").mkdir()
    instance = dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster"), settings=settings)
    watched = Watched(tmp_path, webhook=SecretStr(hook.url))
    watched.graph.instance = instance
    watched.tick()
    watched.file.write_bytes(b"")
    return watched, settings["run_retries"]


def test_a_retried_run_is_reported_after_the_last_attempt(tmp_path: Path, hook: Received) -> None:
    watched, _ = retrying(tmp_path, hook, enabled=True)
    watched.run()
    watched.tick()
    assert hook.accepted == []
    watched.run(max_retries="0", retry_number="1")
    watched.tick()
    assert hook.headlines == [f"ALERT: run failed at raw_customers, {MONTH}"]
    assert fields(hook.accepted[0])["attempts"] == "2"


def test_the_sensor_waits_until_dagster_has_decided_about_a_retry(
    tmp_path: Path, hook: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, retries = retrying(tmp_path, hook, enabled=False)
    watched.run()
    retries["enabled"] = True  # the sensor now waits for a tag that the run did not get
    watched.tick()
    assert hook.accepted == []
    monkeypatch.setattr(event_log, "UNDECIDED_SECONDS", 0.0)
    watched.tick()
    assert len(hook.accepted) == 1, "but not for ever"


def test_a_run_whose_process_died_is_reported_with_its_step_in_progress(
    watched: Watched, hook: Received
) -> None:
    graph = watched.graph
    run = graph.instance.create_run_for_job(
        graph.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset(map(dg.AssetKey, CUSTOMERS)),
        tags={"dagster/partition": MONTH},
    )
    begun = dg.DagsterEvent("STEP_START", run.job_name, step_key="raw_customers")
    graph.instance.report_dagster_event(begun, run.run_id)
    graph.instance.report_run_failed(run, message="the process is gone")
    watched.tick()
    assert hook.headlines == [f"ALERT: run failed at raw_customers, {MONTH}"]
    assert "the process is gone" in hook.accepted[0]["text"]


def test_failed_freshness_is_reported_until_it_passes(watched: Watched, hook: Received) -> None:
    states = ["UNKNOWN", "PASS", "WARN", "FAIL", "WARN", "PASS"]
    for number, (before, after) in enumerate(pairwise(states)):
        watched.report(
            FreshnessStateChange(
                key=dg.AssetKey("churn_model"),
                previous_state=FreshnessState(before),
                new_state=FreshnessState(after),
                state_change_timestamp=1_760_000_000.0 + 3_600 * number,
            )
        )
        watched.tick()
    assert hook.headlines == [
        "ALERT: freshness of churn_model",
        "RECOVERED: freshness of churn_model",
    ]
    alert, recovery = (fields(body) for body in hook.accepted)
    assert alert["freshness policy"] == "at most 30 d old, warning after 7 d"
    assert alert["runbook"] == "docs/operations.md#asset-stale"
    assert recovery["lasted"] == "1 h"
    assert f"<{UI}/assets/churn_model?view=overview|" in hook.accepted[0]["text"]


def state_changed(asset: str, state: str, hour: int = 0) -> FreshnessStateChange:
    return FreshnessStateChange(
        key=dg.AssetKey(asset),
        previous_state=FreshnessState.UNKNOWN,
        new_state=FreshnessState(state),
        state_change_timestamp=1_760_000_000.0 + 3_600 * hour,
    )


def test_failed_freshness_behind_a_shut_gate_names_the_gate_and_is_reported_once(
    watched: Watched, hook: Received
) -> None:
    watched.tick()
    for asset, name in (("evaluation_report", "auc_above_floor"), ("churn_model", "reproducible")):
        watched.report(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset), check_name=name, passed=False, metadata={},
                description="AUC 0.51, at least 0.7", severity=dg.AssetCheckSeverity.ERROR,
            )
        )  # fmt: skip
    watched.tick()
    for hour in range(3):
        watched.report(state_changed("promoted_model", "FAIL", hour))
        watched.tick()
    assert hook.headlines.count("ALERT: freshness of promoted_model") == 1
    text = hook.accepted[-1]["text"]
    assert "stopped by evaluation_report: auc_above_floor (AUC 0.51, at least 0.7)" in text
    assert "reproducible" not in text, "it does not block"


def months(asset: str, **states: str) -> dg.AssetCheckEvaluation:
    """Result of the check of deadlines: the state of each month, such as m2026_08="overdue"."""
    named = {name.strip("m").replace("_", "-"): state for name, state in states.items()}
    late = {month: state for month, state in named.items() if state in ("waiting", "overdue")}
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset), check_name=deadlines.CHECK, passed=not late,
        severity=dg.AssetCheckSeverity.ERROR, description="of months",
        metadata={deadlines.MONTHS: {
            month: [state, f"not there ({state})" if month in late else ""]
            for month, state in named.items()
        }},
    )  # fmt: skip


def test_a_late_month_is_reported_once_and_recovers_by_itself(
    watched: Watched, hook: Received
) -> None:
    watched.tick()
    for result in (
        months("raw_customers", m2026_07="kept", m2026_08="overdue"),
        months("validated_features", m2026_08="waiting"),
        months("raw_customers", m2026_07="kept", m2026_08="overdue", m2026_09="overdue"),
        months("raw_customers", m2026_07="kept", m2026_08="kept", m2026_09="overdue"),
    ):
        watched.report(result)
        watched.tick()
    assert hook.headlines == [
        "ALERT: freshness of raw_customers, 2026-08",
        "ALERT: freshness of raw_customers, 2026-09",
        "RECOVERED: freshness of raw_customers, 2026-08",
    ]
    alert = hook.accepted[0]
    assert "2026-08 is not there (overdue)." in alert["text"]
    assert fields(alert)["runbook"] == "docs/operations.md#data-late"
    assert watched.open == {"freshness:raw_customers:2026-09"}


def test_dagsters_own_state_of_a_monthly_asset_is_not_reported(
    watched: Watched, hook: Received
) -> None:
    watched.tick()
    watched.report(state_changed("raw_customers", "FAIL"))
    watched.tick()
    assert hook.headlines == []


@pytest.mark.parametrize(
    ("asset", "metadata", "headline", "says"),
    [
        ("promoted_model", {"action": "promotion", "approved_by": "policy", "reason": "superior"},
         "promotion of the champion", "policy: superior"),
        ("promoted_model", {"action": "rollback", "approved_by": "ann", "reason": "complaints"},
         "rollback of the champion", "ann: complaints"),
        ("customer_scores", {"override_by": "ann", "override_reason": "it is due"},
         "closed gate overridden for customer_scores, 2026-01", "ann: it is due"),
    ],
)  # fmt: skip
def test_decisions_are_reported(
    watched: Watched, hook: Received, asset: str, metadata: dict[str, str], headline: str, says: str
) -> None:
    month = None if asset == "promoted_model" else MONTH
    watched.report(dg.AssetMaterialization(asset, partition=month, metadata=metadata))
    watched.tick()
    watched.tick()
    assert hook.headlines == [f"NOTICE: {headline}"]
    assert says in hook.accepted[0]["text"]
    assert watched.open == set()


def test_a_champion_that_stays_is_not_reported(watched: Watched, hook: Received) -> None:
    watched.report(dg.AssetMaterialization("promoted_model", metadata={"action": "kept"}))
    watched.tick()
    assert hook.accepted == []


def evaluated(version: str) -> dg.AssetMaterialization:
    return dg.AssetMaterialization("evaluation_report", metadata={"model_version": version})


def decided(version: str) -> dg.AssetMaterialization:
    return dg.AssetMaterialization("promoted_model", metadata={"model_version": version})


def test_a_challenger_that_waits_for_a_person_is_reported_until_the_decision(
    tmp_path: Path, hook: Received
) -> None:
    watched = Watched(tmp_path, approval="manual", webhook=SecretStr(hook.url))
    watched.tick()
    for event in (decided("3"), evaluated("4"), evaluated("4"), decided("4"), evaluated("4")):
        watched.report(event)
        watched.tick()
    title = "a challenger waits for approval"
    assert hook.headlines == [f"ALERT: {title}", f"RECOVERED: {title}"]
    alert = hook.accepted[0]["text"]
    assert "Version 4 is evaluated, and the champion is version 3." in alert
    assert "`approved_by` and `reason`" in alert
    assert watched.open == set()


def test_the_first_challenger_waits_too(tmp_path: Path, hook: Received) -> None:
    watched = Watched(tmp_path, approval="manual", webhook=SecretStr(hook.url))
    watched.tick()
    watched.report(evaluated("1"))
    watched.tick()
    assert "the champion is version none" in hook.accepted[0]["text"]


def test_where_the_policy_decides_nobody_waits(watched: Watched, hook: Received) -> None:
    watched.report(evaluated("4"))
    watched.tick()
    assert hook.accepted == []


def test_an_old_instance_reports_only_current_failures(tmp_path: Path, hook: Received) -> None:
    watched = Watched(tmp_path, webhook=SecretStr(hook.url))
    watched.deliver()
    watched.run()
    watched.file.write_bytes(b"")
    watched.run()
    watched.report(dg.AssetMaterialization("promoted_model", metadata={"action": "promotion"}))
    watched.deliver(*BROKEN)
    watched.run()
    watched.tick()
    watched.tick()
    title = f"quarantined_share_within_limit of validated_features, {MONTH}"
    assert hook.headlines == [f"ALERT: {title}"]


def test_a_message_that_is_not_accepted_fails_the_tick_and_is_resent_once(
    tmp_path: Path, hook: Received
) -> None:
    with mail_server() as mail:
        watched = Watched(
            tmp_path, webhook=SecretStr(hook.url), smtp_host="127.0.0.1", smtp_port=mail.port,
            smtp_security="none", mail_to="ops@example.org",
        )  # fmt: skip
        watched.tick()
        watched.deliver(*BROKEN)
        watched.run()
        hook.responses += [500, 500]
        before = watched.cursor
        for _ in range(2):
            with pytest.raises(DeliveryError, match="the webhook responded with 500"):
                watched.tick()
            assert watched.cursor == before
        assert watched.tick().startswith("1 message(s) sent, 1 incident(s) open")
        watched.tick()
    assert (len(hook.accepted), len(mail.accepted)) == (1, 1)


def test_a_webhook_that_fails_twice_is_retried_within_the_tick(
    tmp_path: Path, hook: Received
) -> None:
    watched = Watched(tmp_path, webhook=SecretStr(hook.url), retries=2)
    watched.tick()
    watched.deliver(*BROKEN)
    watched.run()
    hook.responses += [500, 500]
    watched.tick()
    assert (hook.requests, len(hook.accepted)) == (3, 1)


def test_many_events_are_read_in_batches_and_in_order(
    watched: Watched, hook: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    for passed in (False, True, False, True):
        watched.report(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey("raw_customers"), check_name="rows_present", passed=passed
            )
        )
        watched.report(dg.AssetMaterialization("promoted_model", metadata={"action": "promotion"}))
    module = "churn_assets.defs.alerting.event_log"
    monkeypatch.setattr(f"{module}.read.__defaults__", (event_log.READ, 3))
    for _ in range(4):
        watched.tick()
    words = [headline.split(":")[0] for headline in hook.headlines]
    assert words == ["ALERT", "NOTICE", "RECOVERED", "NOTICE"] * 2


def test_every_check_and_every_kind_has_a_runbook(tmp_path: Path) -> None:
    document = Path(__file__).parents[3] / runbooks.DOCUMENT
    headings = {
        f"{runbooks.DOCUMENT}#{line.lstrip('# ').strip().lower().replace(' ', '-')}"
        for line in document.read_text().splitlines()
        if line.startswith("#")
    }
    graph = from_files(tmp_path, tmp_path / "none.csv").definitions.resolve_asset_graph()
    named = {runbooks.of_run(), *map(runbooks.of_decision, ("rollback", "retraining", "promotion"))}
    named |= {runbooks.of_freshness(key.to_user_string()) for key in graph.get_all_asset_keys()}
    for check in graph.asset_check_keys:
        asset = check.asset_key.to_user_string()
        assert asset in runbooks.OF_ASSET, f"{asset} has checks, and no runbook"
        named.add(runbooks.of_check(asset, check.name))
    assert named <= headings


def test_the_cursor_is_json(watched: Watched) -> None:
    watched.deliver(*BROKEN)
    watched.run()
    watched.tick()
    assert set(json.loads(watched.cursor or "")) == {"after", "seen", "incidents"}
