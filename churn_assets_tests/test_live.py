"""The graph under a real webserver and daemon, with nothing but time and deliveries of the source.

No test starts a run. Settings shorten the time windows. The tests read the results from the
instance's event log.
"""

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import psutil
import pytest

from churn_assets.adapters.lake import Lake
from churn_assets.core.simulation.simulator import Simulator
from churn_assets_tests.live import (
    BY_MONTH,
    CUSTOMERS,
    MODEL,
    MONTHS,
    PATIENCE,
    TICK,
    EventLog,
    LiveHome,
    dagster_dev,
    end,
    expected,
    live_home,
    wait,
)

IN_PROGRESS = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING,
               dg.DagsterRunStatus.STARTED)  # fmt: skip

ONE_SECOND = 1 / 86_400
"""One second, in days."""

STABLE = Simulator(customers=CUSTOMERS)
SHOCK = Simulator(customers=CUSTOMERS, scenario="price_shock", scenario_month=MONTHS[-1])
BROKEN = Simulator(customers=CUSTOMERS, scenario="unit_bug", scenario_month=MONTHS[1])

NO_COOL_DOWN = {"CHURN_RETRAINING__COOL_DOWN_DAYS": str(ONE_SECOND)}
SHORT_AGE = {"CHURN_RETRAINING__MAX_AGE_DAYS": str(30 * ONE_SECOND), **NO_COOL_DOWN}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHome]:
    with live_home(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.mark.long
def test_the_graph_runs_by_itself(live: LiveHome) -> None:
    live.source.deliver(MONTHS[0], STABLE, labels_of=MONTHS[0])
    with dagster_dev(live.home / "dev.log", live.environment(**SHORT_AGE)):
        empty_instance_is_filled(live)
        old_model_is_trained_again(live)
    with dagster_dev(live.home / "dev.log", live.environment(**NO_COOL_DOWN)) as dev:
        broken_month_is_stopped_and_reported(live)
        corrected_month_is_processed(live)
        price_shock_leads_to_one_retraining(live)
        daemon_is_killed_during_a_run(live, dev)
    with dagster_dev(live.home / "dev.log", live.environment(**NO_COOL_DOWN)):
        interrupted_run_is_completed_once(live)


def empty_instance_is_filled(live: LiveHome) -> None:
    wanted = expected(delivered=1, labelled=1)
    wait(lambda: wanted <= set(live.log.counts()), PATIENCE,
         lambda: (wanted - set(live.log.counts()), live.output()))  # fmt: skip


def old_model_is_trained_again(live: LiveHome) -> None:
    """Only the model has a maximum age: it is trained again, and its downstream assets follow."""
    log = live.log
    wait(lambda: log.counts()["churn_bento", None] >= 2, PATIENCE, live.output)
    names = [name for name, _, _ in log.materialisations() if name in MODEL]
    assert names[:8] == [*MODEL, *MODEL]
    assert reasons_of_last_training(log) == ["age"]
    # Delivered months are not scored again for the new model.
    assert {n for (name, m), n in log.counts().items() if name == "customer_scores"} == {1}


def broken_month_is_stopped_and_reported(live: LiveHome) -> None:
    log, month = live.log, MONTHS[1]
    # A slow machine trains so long that the model may have become too old once more.
    wait_until_no_run_is_in_progress(live)
    before = log.last_id()
    live.source.deliver(month, BROKEN)
    check = "quarantined_share_within_limit"
    wait(lambda: any(check in body for body in live.alerts()), PATIENCE,
         lambda: (live.alerts(), live.output()))  # fmt: skip
    time.sleep(3 * TICK)
    counts = log.counts(before)
    assert {name for name, m in counts if m == month} == {"raw_customers", "quarantined_customers"}
    assert not {name for name, m in counts if m is None}
    (alert,) = [body for body in live.alerts() if check in body]
    assert json.loads(alert)["text"]
    assert month in alert


def corrected_month_is_processed(live: LiveHome) -> None:
    log, month = live.log, MONTHS[1]
    before = log.last_id()
    live.source.deliver(month, STABLE)
    wait(lambda: log.counts(before)["drift_report", month], PATIENCE, live.output)
    counts = log.counts(before)
    assert {name: counts[name, month] for name in BY_MONTH} == dict.fromkeys(BY_MONTH, 1)
    # The training set follows each month's features, before or after the drift report.
    assert {name for name, m in counts if m != month} <= {"training_set"}


def price_shock_leads_to_one_retraining(live: LiveHome) -> None:
    log, month = live.log, MONTHS[2]
    before = log.last_id()
    live.source.deliver(month, SHOCK, labels_of=MONTHS[1])
    wait(lambda: log.counts(before)["churn_bento", None], PATIENCE,
         lambda: (log.counts(before), live.output()))  # fmt: skip
    counts = log.counts(before)
    assert {name: counts[name, None] for name in MODEL} == dict.fromkeys(MODEL, 1)
    assert reasons_of_last_training(log) == ["drift"]


def daemon_is_killed_during_a_run(live: LiveHome, dev: psutil.Popen) -> None:
    """The kill also ends the webserver and the run in progress."""
    log, month = live.log, MONTHS[2]
    live.before, live.since = log.last_id(), datetime.now(UTC)
    live.source.deliver(month, SHOCK, left_out=1)
    wait(lambda: log.counts(live.before)["raw_customers", month], PATIENCE, live.output)
    end(dev, signal.SIGKILL)
    assert log.runs(dg.DagsterRunStatus.STARTED)


def interrupted_run_is_completed_once(live: LiveHome) -> None:
    log, month = live.log, MONTHS[2]
    wait(lambda: log.counts(live.before)["drift_report", month], PATIENCE, live.output)
    wait_until_no_run_is_in_progress(live)
    assert {name for name, m in log.counts(live.before) if m == month} == set(BY_MONTH)
    assert not log.counts(live.before)["churn_model", None], "the price shock has had its training"
    # An interrupted step starts again; a step that had succeeded does not.
    successes = log.step_successes(live.since)
    assert max(successes.values()) == 1, successes
    for table in ("validated_features", "customer_scores"):
        stored = Lake(str(live.home / "lake")).read(table, [month])
        assert not stored.empty
        assert not stored["customer_id"].duplicated().any()


def wait_until_no_run_is_in_progress(live: LiveHome) -> None:
    wait(lambda: not live.log.runs(*IN_PROGRESS), PATIENCE, live.output)


def reasons_of_last_training(log: EventLog) -> list[str]:
    """Kinds of the reasons recorded for the newest model."""
    event = log.instance.get_latest_materialization_event(dg.AssetKey("churn_model"))
    assert event
    assert event.asset_materialization
    text = str(event.asset_materialization.metadata["reasons"].value)
    run = log.instance.get_run_by_id(event.run_id)
    assert run
    kinds = [line.split(":")[0] for line in text.splitlines()]
    assert all(kind in run.tags["churn/retraining_reasons"] for kind in kinds)
    return kinds
