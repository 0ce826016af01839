"""Two years of the small graph by a simulated clock, with a daemon that is down in random weeks.

A seed decides what happens:

- In one week of four, no daemon runs. In half of these weeks the sensor of the deliveries runs all
  the same, so that its events wait for the conditions; in the others it reports them afterwards.
- The daemon ticks most days around the deadlines and about once a week otherwise, at any hour. Each
  time Dagster's freshness daemon, the conditions and the sensor of the deadlines are evaluated.
- Customers and labels of a month come in time, or up to 20 days later; some come again, some twice
  at once. Reasons to train again come now and then.
- Some runs are cancelled before a step runs.

Then the daemon is up for some days, and Dagster's own records are judged: which runs there were,
and which event each of them was for.
"""

import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

import dagster as dg
import pandas as pd
import pytest
import time_machine
from dagster._core.definitions.freshness import FreshnessState
from dagster._utils.schedules import cron_string_iterator

from churn_assets.defs.automation.deadlines import INPUTS, Months, late_months, new_results
from churn_assets.settings import Settings
from churn_assets_tests.defs.small_graph import SmallGraph

MONTHS = [str(month) for month in pd.period_range("2024-09", "2026-08", freq="M")]
LABELLED = MONTHS[:-1]
START, END = datetime(2024, 10, 1, tzinfo=UTC), datetime(2026, 9, 26, tzinfo=UTC)
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)
LAST_DAYS = 5
"""Days at the end, in which nothing new comes, no run is cancelled, and the daemon is up."""
DAY, WEEK = timedelta(days=1), timedelta(days=7)

COUNTED = {
    "raw_customers": ("customer_deliveries",),
    "churn_labels": ("raw_customers", "label_deliveries"),
    "validated_features": ("raw_customers",),
    "quarantined_customers": ("raw_customers",),
    "served_traffic": ("validated_features",),
    "customer_scores": ("validated_features",),
    "drift_report": ("validated_features", "customer_scores", "served_traffic", "churn_labels"),
    "training_set": ("validated_features", "churn_labels"),
    "churn_model": ("retraining_reasons",),
    "evaluation_report": ("churn_model",),
    "promoted_model": ("evaluation_report",),
    "churn_bento": ("promoted_model",),
}
"""Inputs of each asset whose updates are a reason to make it again."""

REASONS = {"never asked for", "update of an input", "made together with an input",
           "past its promise", "run was cancelled", "schedule"}  # fmt: skip

BY_MONTH = [
    name for name in COUNTED if name in {*INPUTS, "quarantined_customers", "served_traffic"}
]

Key = tuple[str, str | None]
"""Asset and month."""


@dataclass(frozen=True)
class Request:
    """A run of an asset and month: when its tick was, when it ended, and what else it made."""

    tick: datetime
    ended: datetime
    cancelled: bool
    assets: frozenset[str]


@dataclass
class TwoYears:
    """The graph, and what happens to it, as the seed decides.

    Attributes:
        late: Assets and months that the sensor of the deadlines reported.
    """

    graph: SmallGraph
    seed: int
    late: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        weeks = [START + week * WEEK for week in range((END - START) // WEEK - 1)]
        # The weeks without a daemon, and whether the sensor of the deliveries is down, too.
        self.down = {week: self.random.random() < 0.5 for week in weeks
                     if self.random.random() < 0.25}  # fmt: skip

    def simulate(self) -> None:
        plan = [*self._deliveries(), *self._reasons(), *self._visits()]
        for time, action in sorted(plan, key=lambda step: step[0]):
            self._move_to(time)
            action()
        self.graph.cancelling.clear()
        for day in range(LAST_DAYS):
            self._move_to(END + day * DAY + timedelta(hours=7))
            self._settle()

    def _deliveries(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        """Yields each delivery; a month of labels comes one month later than its customers."""
        for asset, months, later in [
            ("customer_deliveries", MONTHS, 1),
            ("label_deliveries", LABELLED, 2),
        ]:
            for month in months:
                close = (pd.Period(month, freq="M") + later).start_time.tz_localize(UTC)
                hours = self.random.uniform(0, 30 if self.random.random() < 0.7 else 480)
                times = [close.to_pydatetime() + timedelta(hours=hours)]
                if self.random.random() < 0.3:  # It comes again.
                    times.append(times[0] + self.random.uniform(0, 40) * DAY)
                if self.random.random() < 0.2:  # It is reported twice at once.
                    times.append(times[-1])
                for time in times:
                    yield (
                        self._reported(min(time, END - DAY)),
                        lambda asset=asset, month=month: self.graph.deliver(asset, month),
                    )

    def _reasons(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        for _ in range(16):
            time = START + self.random.random() * (END - START)
            yield self._reported(time), lambda: self.graph.deliver("retraining_reasons")

    def _visits(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        for number in range((END - START).days):
            day = START + number * DAY
            time = day + self.random.random() * DAY
            if self.random.random() < (0.7 if day.day <= 4 else 0.1) and not self._week(time):
                yield time, self._visit

    def _reported(self, time: datetime) -> datetime:
        """Returns when the sensor reports an event: at the end of a week in which it is down."""
        week = self._week(time)
        return week + WEEK if week and self.down[week] else time

    def _week(self, time: datetime) -> datetime | None:
        """Returns the start of the week without a daemon in which a time is."""
        week = START + (time - START) // WEEK * WEEK
        return week if week in self.down else None

    def _move_to(self, time: datetime) -> None:
        if time > datetime.now(UTC):  # Runs take a few seconds.
            self.graph.clock.move_to(time)

    def _visit(self) -> None:
        self.graph.cancelling.clear()
        if self.random.random() < 0.1:
            asset = self.random.choice(list(COUNTED))
            self.graph.cancelling |= {(asset, month) for month in [*MONTHS, None]}
        for _ in range(self.random.choice([1, 1, 3])):
            self._tick()

    def _settle(self) -> None:
        idle = 0
        for _ in range(20):
            idle = 0 if self._tick() else idle + 1
            if idle == 2:
                return
        raise AssertionError("the daemon still requests runs")

    def _tick(self) -> int:
        runs = self.graph.tick()
        for event in new_results(self.months()):
            self.graph.instance.report_runless_asset_event(event)
            name = event.asset_key.to_user_string()
            self.late |= {(name, month) for month in late_months(event.metadata)}
        return len(runs)

    def months(self) -> Months:
        graph = self.graph
        return Months(graph.platform, graph.instance, graph.graph, datetime.now(UTC))


@dataclass
class Records:
    """What Dagster recorded, and the reason of each run that follows from it."""

    graph: SmallGraph

    @cached_property
    def requests(self) -> dict[Key, list[Request]]:
        """Every run of each asset and month, oldest first."""
        requests: dict[Key, list[Request]] = defaultdict(list)
        ticks = self.graph.ticks
        for record in reversed(self.graph.instance.get_run_records()):
            run = record.dagster_run
            assert run.status in ENDED, run
            names = frozenset(key.to_user_string() for key in run.asset_selection or ())
            request = Request(
                tick=ticks[bisect_right(ticks, record.create_timestamp) - 1],
                ended=datetime.fromtimestamp(record.end_time or 0, UTC),
                cancelled=run.status == dg.DagsterRunStatus.CANCELED,
                assets=names,
            )
            for name in names:
                requests[name, run.tags.get("dagster/partition")].append(request)
        return requests

    @cached_property
    def made(self) -> dict[Key, list[datetime]]:
        """Times at which each asset and month was materialised or delivered, oldest first."""
        made: dict[Key, list[datetime]] = defaultdict(list)
        for key in self.graph.graph.toposorted_asset_keys:
            found = self.graph.instance.fetch_materializations(key, limit=10_000, ascending=True)
            for record in found.records:
                time = datetime.fromtimestamp(record.timestamp, UTC)
                made[key.to_user_string(), record.partition_key].append(time)
        return made

    @cached_property
    def breaches(self) -> dict[str, list[datetime]]:
        """Times at which the freshness of each asset became WARN or FAIL."""
        breaches: dict[str, list[datetime]] = defaultdict(list)
        for name in COUNTED:
            for event in self.graph.instance.event_log_storage.get_event_records(
                dg.EventRecordsFilter(
                    dg.DagsterEventType.FRESHNESS_STATE_CHANGE, asset_key=dg.AssetKey(name)
                ),
                ascending=True,
            ):
                change = event.event_log_entry.dagster_event.event_specific_data
                if change.new_state in (FreshnessState.WARN, FreshnessState.FAIL):
                    breaches[name].append(datetime.fromtimestamp(event.timestamp, UTC))
        return breaches

    def inputs(self, asset: str, month: str | None) -> list[Key]:
        """Returns the inputs whose updates are a reason to make an asset and month again."""
        if month is None:
            return [key for key in self.made if key[0] in COUNTED[asset]]
        before = str(pd.Period(month, freq="M") - 1)
        realised = asset == "drift_report"
        return [(name, before if realised and name == "churn_labels" else month)
                for name in COUNTED[asset]]  # fmt: skip

    def reasons(self, key: Key, before: Request | None, request: Request) -> set[str]:
        """Returns what has happened since the request before that asks for this one."""
        if before is None:
            return {"never asked for"}
        asset, month = key
        inputs = self.inputs(asset, month)
        numbers, policy = self.graph.settings.freshness, self.graph.settings.automation
        found = {
            "update of an input": any(
                _any_between(self.made[given], before.ended, request.tick) for given in inputs
            ),
            "made together with an input": any(
                given in request.assets for given, of in inputs if of == month
            ),
            "past its promise": month in (None, self._latest(asset, request.tick))
            and _any_between(self.breaches[asset], before.tick, request.tick),
            "run was cancelled": before.cancelled
            and any(
                _ticked(cron, before.tick, request.tick)
                for cron in (policy.catch_up_cron, numbers.raw_deadline, numbers.derived_deadline)
            ),
            "schedule": asset == "served_traffic"
            and _ticked(policy.traffic_cron, before.tick, request.tick),
        }
        return {reason for reason, holds in found.items() if holds}

    def _latest(self, asset: str, time: datetime) -> str:
        later = 2 if asset == "churn_labels" else 1
        return str(pd.Period(time.strftime("%Y-%m"), freq="M") - later)


def _any_between(times: list[datetime], after: datetime, until: datetime) -> bool:
    return bisect_right(times, until) > bisect_right(times, after)


def _ticked(cron: str, after: datetime, until: datetime) -> bool:
    ticks = cron_string_iterator(after.timestamp(), cron, "UTC")
    return next(tick for tick in ticks if tick > after) <= until


@pytest.fixture(scope="module", params=[1, 2, 3])
def years(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoYears]:
    with time_machine.travel(START) as clock:
        settings = Settings(first_month=MONTHS[0])
        home = tmp_path_factory.mktemp("years")
        years = TwoYears(SmallGraph(clock, home, settings=settings, freshness=True), request.param)
        years.simulate()
        yield years


@pytest.mark.long
def test_every_month_is_there_and_as_new_as_its_inputs(years: TwoYears) -> None:
    records = Records(years.graph)
    for asset in BY_MONTH:
        expected = LABELLED if asset == "churn_labels" else MONTHS
        found = years.graph.instance.get_materialized_partitions(dg.AssetKey(asset))
        assert sorted(found) == expected, asset
    stale = [
        (key, given)
        for key in records.requests
        for given in records.inputs(*key)
        if records.made[given] and records.made[given][-1] > records.made[key][-1]
    ]
    assert not stale


@pytest.mark.long
def test_every_promise_is_kept_at_the_end(years: TwoYears) -> None:
    assert years.late, "months were late in between"
    for asset in INPUTS:
        result = years.months().check(asset)
        assert result.passed, result.description
        assert not late_months(result.metadata)
    keys = [dg.AssetKey(name) for name in COUNTED]
    states = years.graph.instance.get_freshness_state_records(keys)
    assert {key.to_user_string(): states[key].freshness_state.value for key in keys} == (
        dict.fromkeys(COUNTED, "PASS")
    )


@pytest.mark.long
def test_nothing_is_made_twice_for_one_reason(years: TwoYears) -> None:
    records = Records(years.graph)
    found: set[str] = set()
    unexplained = []
    for key, requests in records.requests.items():
        for before, request in zip([None, *requests[:-1]], requests, strict=True):
            reasons = records.reasons(key, before, request)
            found |= reasons
            if not reasons:
                unexplained.append((*key, f"{request.tick:%Y-%m-%d %H:%M:%S}"))
    assert not unexplained
    assert found == REASONS, "the two years had a run for each of the reasons"
