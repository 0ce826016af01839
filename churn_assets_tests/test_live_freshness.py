"""Freshness alone, under a real webserver and daemon: no event, no delivery, and no person.

Everything is older than the settings promise. Each asset is materialised once, in order. Then the
clock of the daemon is a day ahead, the settings promise what they do by default, and nothing is
materialised.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from churn_assets.core.simulation.simulator import Simulator
from churn_assets.defs.platform.promise_tags import TAG
from churn_assets_tests.live import (
    BY_MONTH,
    CUSTOMERS,
    MODEL,
    MONTHS,
    PATIENCE,
    TICK,
    LiveHome,
    dagster_dev,
    live_home,
    wait,
)

DAY = 86_400
AGE, WINDOW = 120, 100
"""Seconds after which the model is stale; a deadline comes as often, and has a shorter window."""

QUIET = {
    # Nothing but freshness may lead to a run.
    "CHURN_AUTOMATION__TRAFFIC_CRON": "0 0 29 2 *",
    "CHURN_AUTOMATION__CATCH_UP_CRON": "0 0 29 2 *",
    "CHURN_RETRAINING__MAX_AGE_DAYS": "10000",
    "FRESHNESS_DAEMON_INTERVAL_SECONDS": str(TICK),
}
STALE = QUIET | {
    **{f"CHURN_FRESHNESS__{name}_DEADLINE": "*/2 * * * *" for name in ("RAW", "DERIVED")},
    **{f"CHURN_FRESHNESS__{name}_WINDOW_HOURS": str(WINDOW / 3_600) for name in ("RAW", "DERIVED")},
    "CHURN_FRESHNESS__MODEL_WARN_DAYS": str(AGE / DAY),
    "CHURN_FRESHNESS__TRAFFIC_WARN_HOURS": str(AGE / 3_600),
}
LABELLED, LATEST = MONTHS[1:]
FIRST = {"CHURN_FIRST_MONTH": LABELLED}
HEALED = {
    **{(name, LATEST): 1 for name in BY_MONTH},
    ("churn_labels", LABELLED): 1,
    **{(name, None): 1 for name in ("training_set", *MODEL)},
}
"""Every asset once: the months that are the latest ones, and were delivered."""

AHEAD = """
import os
import sys
from datetime import UTC, datetime, timedelta
if "dagster._daemon" in sys.orig_argv:
    import time_machine
    ahead = timedelta(days=float(os.environ["DAYS_AHEAD"]))
    time_machine.travel(datetime.now(UTC) + ahead).start()
"""
"""Runs first in every process of `dagster dev`. It moves the clock of the daemon, which computes
freshness and evaluates the conditions, and no other: with it a gRPC server does not start."""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveHome]:
    with live_home(tmp_path) as live:
        yield live


@pytest.mark.long
def test_a_stale_graph_heals_by_freshness_alone_and_then_is_idle_for_a_day(live: LiveHome) -> None:
    operator = Simulator(customers=CUSTOMERS)
    live.source.deliver(LABELLED, operator, labels_of=LABELLED)
    live.source.deliver(LATEST, operator)
    log = live.home / "dev.log"
    with dagster_dev(log, live.environment(**QUIET, **FIRST)):
        filled = set(HEALED) | {(name, LABELLED) for name in BY_MONTH}
        wait(lambda: filled <= set(live.log.counts()), PATIENCE,
             lambda: (filled - set(live.log.counts()), live.output()))  # fmt: skip
    wait_until_everything_is_stale()
    everything_heals_in_order_and_once(live)
    a_day_is_idle(live)


def wait_until_everything_is_stale() -> None:
    """Waits for the first deadline whose whole window lies after now."""
    deadline = -(-(time.time() + WINDOW) // AGE) * AGE
    time.sleep(max(deadline - time.time(), AGE) + 1)


def everything_heals_in_order_and_once(live: LiveHome) -> None:
    before = live.log.last_id()
    with dagster_dev(live.home / "dev.log", live.environment(**STALE, **FIRST)):
        wait(lambda: set(HEALED) <= set(live.log.counts(before)), AGE, lambda: (
            set(HEALED) - set(live.log.counts(before)), live.output()))  # fmt: skip
    assert live.log.counts(before) == Counter(HEALED)
    order = [name for name, _, _ in live.log.materialisations(before)]
    steps = ("raw_customers", "validated_features", "training_set", *MODEL)
    assert [name for name in order if name in steps] == list(steps)
    late = {
        name for run in live.log.runs() if TAG in run.tags for name in run.tags[TAG].split(", ")
    }
    assert {"raw_customers", "churn_labels", "churn_model"} <= late
    model = live.log.instance.get_latest_materialization_event(dg.AssetKey("churn_model"))
    assert model
    assert model.asset_materialization
    assert "has learnt all labels" in str(model.asset_materialization.metadata["current"].value)


def a_day_is_idle(live: LiveHome) -> None:
    (live.home / "sitecustomize.py").write_text(AHEAD)
    ahead = {"PYTHONPATH": str(live.home), "DAYS_AHEAD": "1"}
    before, runs = live.log.last_id(), len(live.log.runs())
    tomorrow = time.time() + DAY
    with dagster_dev(live.home / "dev.log", live.environment(**QUIET, **FIRST, **ahead)):
        wait(lambda: live.log.ticks("automation", tomorrow) >= 3, PATIENCE, live.output)
    assert len(live.log.runs()) == runs
    assert not live.log.counts(before)
