"""Months that are late: which are reported, when, and how often."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine

from churn_assets.definitions import build
from churn_assets.defs.automation.deadlines import (
    CHECK,
    INPUTS,
    SENSOR,
    Months,
    late_months,
    new_results,
)
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings
from churn_assets_tests.defs.graph import CUSTOMERS, customers, from_files
from churn_assets_tests.defs.graph import MONTH as MONTH_OF_GRAPH
from churn_assets_tests.defs.small_graph import SmallGraph

RAW, LABELS, FEATURES, SCORES, DRIFT = INPUTS
MONTH, BEFORE = "2026-08", "2026-07"
RAW_DEADLINE = datetime(2026, 9, 2, 6, tzinfo=UTC)
DERIVED_DEADLINE = datetime(2026, 9, 3, 6, tzinfo=UTC)
SECOND = timedelta(seconds=1)

Late = dict[str, dict[str, str]]
"""State of each month that is late, by asset."""


class Watched:
    """A small graph, and what the sensor reports about it."""

    def __init__(self, clock: time_machine.Traveller, home: Path) -> None:
        self.graph = SmallGraph(clock, home)
        self.events: list[dg.AssetCheckEvaluation] = []

    def deliver(self, month: str, *, labels: str | None = None) -> None:
        self.graph.deliver("customer_deliveries", month)
        if labels:
            self.graph.deliver("label_deliveries", labels)

    def at(self, time: datetime) -> Late:
        """Moves the clock, evaluates the sensor, and returns what it reports."""
        self.graph.clock.move_to(time)
        return self.tick()

    def tick(self) -> Late:
        now = datetime.now(UTC)
        months = Months(self.graph.platform, self.graph.instance, self.graph.graph, now)
        self.events = new_results(months)
        for event in self.events:
            self.graph.instance.report_runless_asset_event(event)
        return {
            event.asset_key.to_user_string(): {
                month: state for month, (state, _) in late_months(event.metadata).items()
            }
            for event in self.events
        }

    def result(self, asset: str) -> dg.AssetCheckEvaluation:
        (event,) = [e for e in self.events if e.asset_key.to_user_string() == asset]
        return event


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A graph with two months, on the last day before a month closes."""
    with time_machine.travel(datetime(2026, 8, 31, 12, tzinfo=UTC)) as clock:
        watched = Watched(clock, tmp_path)
        watched.deliver("2026-06", labels="2026-06")
        watched.deliver(BEFORE)
        watched.graph.settle()
        assert watched.tick() == {}
        yield watched


def test_a_month_that_never_comes_is_reported_at_its_deadlines_and_once(watched: Watched) -> None:
    assert watched.at(RAW_DEADLINE - SECOND) == {}
    assert watched.at(RAW_DEADLINE) == {RAW: {MONTH: "overdue"}, LABELS: {BEFORE: "overdue"}}
    assert "2026-08 is not there by 2026-09-02 06:00 UTC: the source did not deliver it" in str(
        watched.result(RAW).description
    )
    assert watched.tick() == {}
    assert watched.at(DERIVED_DEADLINE - SECOND) == {}
    # What follows from the month waits for it, and only warns.
    waiting = {MONTH: "waiting"}
    assert watched.at(DERIVED_DEADLINE) == {FEATURES: waiting, SCORES: waiting, DRIFT: waiting}
    assert {event.severity for event in watched.events} == {dg.AssetCheckSeverity.WARN}
    assert watched.at(DERIVED_DEADLINE + timedelta(days=20)) == {}


def test_an_old_month_that_is_delivered_again_does_not_stand_for_the_new_one(
    watched: Watched,
) -> None:
    """Dagster's own freshness state would pass: it only knows the newest materialisation."""
    watched.graph.clock.move_to(RAW_DEADLINE - timedelta(hours=2))
    watched.deliver(BEFORE)
    assert (BEFORE, RAW) in {(month, names.split()[0]) for month, names in watched.graph.settle()}
    assert watched.at(RAW_DEADLINE)[RAW] == {MONTH: "overdue"}


def test_a_month_that_comes_late_recovers(watched: Watched) -> None:
    watched.at(DERIVED_DEADLINE)
    watched.deliver(MONTH, labels=BEFORE)
    watched.graph.settle()
    assert watched.tick() == {asset: {} for asset in INPUTS}
    assert all(event.passed for event in watched.events)
    assert watched.tick() == {}


def test_a_delivered_month_whose_check_fails_is_reported_with_the_check(watched: Watched) -> None:
    watched.graph.failing.add((RAW, MONTH))
    watched.graph.clock.move_to(RAW_DEADLINE - timedelta(days=1, hours=6))
    watched.deliver(MONTH, labels=BEFORE)
    watched.graph.settle()
    assert watched.at(RAW_DEADLINE + timedelta(hours=1))[RAW] == {MONTH: "overdue"}
    result = watched.result(RAW)
    assert "stopped by raw_customers: columns_of_contract_present" in str(result.description)
    assert result.severity == dg.AssetCheckSeverity.ERROR


def test_where_nothing_ever_came_the_latest_month_is_reported(tmp_path: Path) -> None:
    with time_machine.travel(RAW_DEADLINE) as clock:
        assert Watched(clock, tmp_path).tick() == {
            RAW: {MONTH: "overdue"},
            LABELS: {BEFORE: "overdue"},
        }


def test_months_before_the_first_delivery_are_not_promised(watched: Watched) -> None:
    months = Months(
        watched.graph.platform, watched.graph.instance, watched.graph.graph, datetime.now(UTC)
    )
    assert list(months.promises(RAW)) == ["2026-06", BEFORE]


def test_where_the_source_ended_before_the_graph_began_the_latest_month_is_reported(
    tmp_path: Path,
) -> None:
    with time_machine.travel(datetime(2026, 12, 20, tzinfo=UTC)) as clock:
        watched = Watched(clock, tmp_path)
        watched.deliver("2026-05")
        watched.deliver("2026-06")
        watched.graph.settle()
        assert watched.tick()[RAW] == {"2026-11": "overdue"}
        # From now on, every month is promised, and stays late until it is there.
        clock.move_to(datetime(2027, 1, 2, 6, tzinfo=UTC))
        assert watched.tick()[RAW] == {"2026-12": "overdue"}
        clock.move_to(datetime(2027, 2, 2, 6, tzinfo=UTC))
        assert watched.tick()[RAW] == {"2026-12": "overdue", "2027-01": "overdue"}


def test_a_gap_between_two_months_is_reported(tmp_path: Path) -> None:
    with time_machine.travel(datetime(2026, 8, 31, 12, tzinfo=UTC)) as clock:
        watched = Watched(clock, tmp_path)
        watched.deliver("2026-05")
        watched.deliver(BEFORE)
        watched.graph.settle()
        assert watched.tick()[RAW] == {"2026-06": "overdue"}


def test_an_asset_that_was_wiped_by_hand_is_reported(watched: Watched) -> None:
    watched.graph.instance.wipe_assets([dg.AssetKey(SCORES)])
    at = watched.at(RAW_DEADLINE - SECOND)
    assert at == {SCORES: {"2026-06": "overdue", BEFORE: "overdue"}}


def test_a_clock_that_jumps_back_and_forth_ends_where_it_was(watched: Watched) -> None:
    late = watched.at(DERIVED_DEADLINE)
    assert watched.at(datetime(2026, 8, 31, 12, tzinfo=UTC)) == {asset: {} for asset in late}
    assert watched.at(DERIVED_DEADLINE) == late


def test_a_single_snapshot_has_no_deadlines() -> None:
    definitions = build(Platform.of(Settings(contract="ibm_telco")))
    assert SENSOR not in {sensor.name for sensor in definitions.sensors or ()}
    keys = definitions.resolve_asset_graph().asset_check_keys
    assert CHECK not in {key.name for key in keys}


def test_every_deadline_has_a_check_and_its_inputs_are_inputs_of_the_graph() -> None:
    graph = build(Platform.of(Settings())).resolve_asset_graph()
    for asset, inputs in INPUTS.items():
        node = graph.get(dg.AssetKey(asset))
        assert dg.AssetCheckKey(node.key, CHECK) in node.check_keys
        assert {dg.AssetKey(name) for name in inputs} <= node.parent_keys
        assert node.partitions_def


def test_a_run_that_materialises_a_month_evaluates_the_check(tmp_path: Path) -> None:
    customers(20).to_csv(tmp_path / "customers-2026-01.csv", index=False)
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    result = graph.run(*CUSTOMERS, month=MONTH_OF_GRAPH)
    asked = {(e.asset_key.to_user_string(), e.check_name): e
             for e in result.get_asset_check_evaluations()}  # fmt: skip
    assert MONTH_OF_GRAPH not in late_months(asked[RAW, CHECK].metadata)
    assert MONTH_OF_GRAPH not in late_months(asked[FEATURES, CHECK].metadata)


def test_the_sensor_reports_without_a_run(tmp_path: Path) -> None:
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    repository = graph.definitions.get_repository_def()
    with dg.build_sensor_context(graph.instance, repository_def=repository) as context:
        tick = repository.get_sensor_def(SENSOR).evaluate_tick(context)
    assert {event.asset_key.to_user_string() for event in tick.asset_events} == set(INPUTS)
    assert not tick.run_requests


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("customers-{month}.csv", None, "the source does not have it"),
        (
            "customers-{month}.csv",
            "customer_id\n",
            "the source has it, and the sensor deliveries has not reported it",
        ),
        ("http://127.0.0.1:9/{month}.csv", None, "the source cannot be read: "),
    ],
)
def test_the_text_says_what_the_source_answers(
    tmp_path: Path, path: str, text: str | None, says: str
) -> None:
    with time_machine.travel(datetime(2026, 10, 20, tzinfo=UTC)):
        if text:
            (tmp_path / path.format(month="2026-09")).write_text(text)
        graph = from_files(tmp_path, path if "://" in path else tmp_path / path)
        assets, now = graph.definitions.resolve_asset_graph(), datetime.now(UTC)
        result = Months(graph.platform, graph.instance, assets, now, asks_source=True).check(RAW)
    assert f"2026-09 is not there by 2026-10-02 06:00 UTC: {says}" in str(result.description)
