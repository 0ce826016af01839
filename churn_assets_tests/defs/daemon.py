"""The daemon without its process: Dagster's own code evaluates sensors and conditions, at any time.

Runs are executed in this process, one after the other, so that a simulated clock applies to them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import AssetSelection
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.definitions.automation_tick_evaluation_context import (
    AutomationTickEvaluationContext,
)

from churn_assets_tests.defs.graph import SILENT, Graph

MOST_TICKS = 20


def evaluate_conditions(
    instance: dg.DagsterInstance,
    graph: Any,
    cursor: AssetDaemonCursor,
    selection: AssetSelection | None = None,
) -> tuple[Sequence[dg.RunRequest], AssetDaemonCursor]:
    """Evaluates conditions once; returns the runs that they request, and the next cursor."""
    context = AutomationTickEvaluationContext(
        evaluation_id=cursor.evaluation_id + 1,
        instance=instance,
        asset_graph=graph,
        cursor=cursor,
        materialize_run_tags={},
        observe_run_tags={},
        auto_observe_asset_keys=set(),
        asset_selection=selection or AssetSelection.all(),
        logger=logging.getLogger("daemon"),
        emit_backfills=False,
        evaluation_time=datetime.now(UTC),
    )
    requests, cursor, _ = context.evaluate()
    return requests, cursor


@dataclass(frozen=True)
class RequestedRun:
    """A run that the daemon requested: its month, its assets, and whether it succeeded."""

    month: str | None
    assets: tuple[str, ...]
    success: bool


@dataclass
class Daemon:
    """Evaluates sensors and conditions as a daemon would, tick by tick.

    Attributes:
        without: Assets that are left out.
    """

    graph: Graph
    without: tuple[str, ...] = ()
    cursor: AssetDaemonCursor = field(default_factory=AssetDaemonCursor.empty)

    def settle(self) -> list[RequestedRun]:
        """Ticks until no run is requested any more; returns every run, in order."""
        runs: list[RequestedRun] = []
        quiet = 0
        for _ in range(MOST_TICKS):
            reported = [self.sense("deliveries"), self.sense("retraining_reasons")]
            requested = self.tick()
            runs += requested
            # An asset may wait for one tick, in which nothing else is requested.
            quiet = 0 if requested or any(reported) else quiet + 1
            if quiet == 2:
                return runs
        raise AssertionError(f"the daemon still requests runs: {runs}")

    def sense(self, name: str) -> int:
        """Evaluates a sensor and reports its events, as the daemon would; returns their number."""
        repository = self.graph.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.graph.instance, repository_def=repository, sensor_name=name
        )
        tick = repository.get_sensor_def(name).evaluate_tick(context)
        for event in tick.asset_events:
            self.graph.instance.report_runless_asset_event(event)
        return len(tick.asset_events)

    def tick(self) -> list[RequestedRun]:
        """Evaluates all conditions once, and executes the runs that they request."""
        graph = self.graph.definitions.resolve_asset_graph()
        selection = AssetSelection.all() - AssetSelection.assets(*self.without)
        requests, self.cursor = evaluate_conditions(
            self.graph.instance, graph, self.cursor, selection
        )
        return [self._run(request) for request in sorted(requests, key=_order)]

    def _run(self, request: dg.RunRequest) -> RequestedRun:
        job = self.graph.definitions.resolve_implicit_global_asset_job_def()
        keys: Sequence[dg.AssetKey] = request.asset_selection or []
        result = job.execute_in_process(
            run_config=SILENT,
            instance=self.graph.instance,
            partition_key=request.partition_key,
            asset_selection=list(keys),
            tags=dict(request.tags),
            raise_on_error=False,
        )
        names = tuple(sorted(key.to_user_string() for key in keys))
        return RequestedRun(request.partition_key, names, result.success)


def _order(request: dg.RunRequest) -> str:
    return request.partition_key or "9999"
