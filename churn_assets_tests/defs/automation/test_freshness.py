"""Freshness acts: what is past its promise is materialised, once a breach, without an event."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from churn_assets.settings import Settings
from churn_assets_tests.defs.small_graph import FIRST, SmallGraph

NEVER = "0 0 29 2 *"
START = datetime(2026, 9, 10, 12, tzinfo=UTC)
MONTHS = ["2026-05", "2026-06", "2026-07", "2026-08"]
LATEST, LABELLED = MONTHS[-1], MONTHS[-2]
MODEL = ["churn_model", "evaluation_report", "promoted_model", "churn_bento"]
MONTHLY = ["raw_customers", "validated_features", "quarantined_customers", "served_traffic",
           "customer_scores", "drift_report"]  # fmt: skip
EVERY = {
    **dict.fromkeys(MONTHLY, LATEST),
    "churn_labels": LABELLED,
    **dict.fromkeys(["training_set", *MODEL]),
}
"""Every asset with a policy, and its latest month."""


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[SmallGraph]:
    """A graph in which everything is materialised, and no clock but that of freshness ticks."""
    settings = Settings(first_month=FIRST, automation={"traffic_cron": NEVER})
    with time_machine.travel(START) as clock:
        graph = SmallGraph(clock, tmp_path, settings=settings)
        graph.settle()
        for month in MONTHS:
            graph.deliver("customer_deliveries", month)
        for month in MONTHS[:-1]:
            graph.deliver("label_deliveries", month)
        graph.settle()
        yield graph


def report(graph: SmallGraph, state: str, *assets: str) -> None:
    """Reports a freshness state, as Dagster's freshness daemon would."""
    for asset in assets:
        graph.instance._report_runless_asset_event(
            FreshnessStateChange(
                key=dg.AssetKey(asset),
                previous_state=FreshnessState.UNKNOWN,
                new_state=FreshnessState(state),
                state_change_timestamp=datetime.now(UTC).timestamp(),
            )
        )


def requests(graph: SmallGraph) -> Counter[tuple[str, str | None]]:
    """Ticks until nothing is requested; returns how often each asset and month was."""
    return Counter((name, month) for month, names in graph.settle() for name in names.split())


@pytest.mark.parametrize("state", ["WARN", "FAIL"])
def test_each_asset_past_its_promise_is_materialised_once(filled: SmallGraph, state: str) -> None:
    for asset, month in EVERY.items():
        report(filled, state, asset)
        assert requests(filled)[asset, month] == 1, asset
    assert not requests(filled), "no state changed: each breach has had its run"


def test_a_stale_graph_heals_in_order_and_each_asset_once(filled: SmallGraph) -> None:
    report(filled, "FAIL", *EVERY)
    runs = filled.settle()
    order = [name for _, names in runs for name in names.split()]
    assert Counter(order) == Counter(list(EVERY))
    for before, after in [("raw_customers", "validated_features"),
                          ("validated_features", "customer_scores"),
                          ("validated_features", "training_set"),
                          ("churn_labels", "training_set"),
                          ("training_set", "churn_model"),
                          ("churn_model", "evaluation_report"),
                          ("promoted_model", "churn_bento")]:  # fmt: skip
        assert order.index(before) < order.index(after), (before, after)
    assert {month for month, _ in runs} == {LATEST, LABELLED, None}


def test_a_state_that_was_stale_before_the_first_tick_acts_too(filled: SmallGraph) -> None:
    report(filled, "FAIL", "evaluation_report")
    filled.cursor = None
    assert requests(filled)["evaluation_report", None] == 1


def test_a_warning_and_the_failure_after_it_are_two_breaches(filled: SmallGraph) -> None:
    for state, count in [("WARN", 1), ("FAIL", 1), ("PASS", 0), ("WARN", 1)]:
        report(filled, state, "churn_model")
        assert requests(filled)["churn_model", None] == count, state


def test_behind_a_shut_gate_nothing_is_requested_until_it_opens(filled: SmallGraph) -> None:
    filled.failing.add(("evaluation_report", None))
    filled.deliver("retraining_reasons")
    filled.settle()
    report(filled, "FAIL", "promoted_model")
    assert not requests(filled)
    filled.failing.clear()
    filled.deliver("retraining_reasons")
    assert requests(filled)["promoted_model", None] == 1


def test_what_its_own_check_refused_is_not_made_again_from_the_same_input(
    filled: SmallGraph,
) -> None:
    filled.failing.add(("evaluation_report", None))
    filled.deliver("retraining_reasons")
    filled.settle()
    report(filled, "FAIL", "evaluation_report")
    assert not requests(filled)


def test_a_month_that_was_not_delivered_is_not_requested(filled: SmallGraph) -> None:
    filled.clock.move_to(datetime(2026, 10, 5, tzinfo=UTC))
    filled.settle()
    report(filled, "FAIL", *MONTHLY)
    assert "2026-09" not in {month for _, month in requests(filled)}


def test_a_cancelled_run_is_made_good_the_next_day(filled: SmallGraph) -> None:
    """No event is left: the delivery was handled by the run that was cancelled."""
    filled.cancelling.add(("raw_customers", LATEST))
    filled.deliver("customer_deliveries", LATEST)
    filled.settle()
    filled.cancelling.clear()
    filled.clock.move_to(datetime(2026, 9, 11, 5, 50, tzinfo=UTC))
    assert not requests(filled)
    filled.clock.move_to(datetime(2026, 9, 11, 6, 0, tzinfo=UTC))
    asked = requests(filled)
    assert asked["raw_customers", LATEST] == 1
    assert asked["customer_scores", LATEST] == 1
    filled.clock.shift(timedelta(days=1))
    assert not requests(filled)


def test_a_cancelled_training_is_made_good_the_next_day(filled: SmallGraph) -> None:
    filled.cancelling.add(("churn_model", None))
    filled.deliver("retraining_reasons")
    filled.settle()
    filled.cancelling.clear()
    filled.clock.shift(timedelta(days=1))
    assert requests(filled) == Counter([(name, None) for name in MODEL])


def test_a_crashed_run_is_asked_for_again_at_the_deadline_only(filled: SmallGraph) -> None:
    filled.clock.move_to(datetime(2026, 10, 1, 2, tzinfo=UTC))
    filled.settle()
    filled.crashing.add(("raw_customers", "2026-09"))
    filled.deliver("customer_deliveries", "2026-09")
    assert requests(filled)["raw_customers", "2026-09"] == 1
    filled.clock.move_to(datetime(2026, 10, 1, 7, tzinfo=UTC))
    assert not requests(filled)
    filled.clock.move_to(datetime(2026, 10, 2, 6, tzinfo=UTC))
    assert requests(filled)["raw_customers", "2026-09"] == 1


def test_a_step_that_crashed_after_its_input_in_one_run_is_made_at_the_deadline(
    filled: SmallGraph,
) -> None:
    """The run of the input was to make the asset as well, so that no event is left."""
    filled.crashing.add(("validated_features", LATEST))
    filled.deliver("customer_deliveries", LATEST)
    assert requests(filled)["validated_features", LATEST] == 1
    filled.crashing.clear()
    filled.clock.shift(timedelta(days=1))
    assert not requests(filled)["validated_features", LATEST]
    filled.clock.move_to(datetime(2026, 10, 3, 6, tzinfo=UTC))
    asked = requests(filled)
    assert asked["validated_features", LATEST] == 1
    assert asked["customer_scores", LATEST] == 1


def test_a_daemon_that_was_down_over_the_deadlines_makes_good_what_is_missing(
    filled: SmallGraph,
) -> None:
    filled.clock.move_to(datetime(2026, 10, 1, 2, tzinfo=UTC))
    filled.settle()
    filled.cancelling.add(("raw_customers", "2026-09"))
    filled.deliver("customer_deliveries", "2026-09")
    filled.settle()
    filled.cancelling.clear()
    filled.clock.move_to(datetime(2026, 10, 20, 2, tzinfo=UTC))
    asked = requests(filled)
    assert {asked[name, "2026-09"] for name in MONTHLY} == {1}


def test_a_wiped_asset_is_made_again(filled: SmallGraph) -> None:
    filled.instance.wipe_assets([dg.AssetKey("customer_scores"), dg.AssetKey("churn_bento")])
    asked = requests(filled)
    assert {asked["customer_scores", month] for month in MONTHS} == {1}
    assert asked["churn_bento", None] == 1


def test_a_fresh_graph_is_idle_for_a_day(filled: SmallGraph) -> None:
    filled.freshness = True
    filled.settle()
    for _ in range(8):
        filled.clock.shift(timedelta(hours=3))
        assert not requests(filled)


def test_the_freshness_daemon_and_the_conditions_keep_a_graph_fresh(filled: SmallGraph) -> None:
    """Without a delivery: the traffic is read, and the model judged, before a policy fails."""
    filled.freshness = True
    asked: Counter[tuple[str, str | None]] = Counter()
    for _ in range(16):
        filled.clock.shift(timedelta(days=1))
        asked += requests(filled)
    assert {asked[name, None] for name in MODEL} == {2}
    assert asked["served_traffic", LATEST] >= 8
    assert not asked["raw_customers", LATEST]
