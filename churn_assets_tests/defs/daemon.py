"""The daemon's work without its process: sensors and conditions by its own code, at any time.

Runs are executed here, one after the other, so that a clock that is set holds for them too.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from dagster import AssetSelection
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.definitions.automation_tick_evaluation_context import (
    AutomationTickEvaluationContext,
)

from churn_assets_tests.defs.graph import SILENT, Graph

MOST_TICKS = 20


@dataclass(frozen=True)
class Made:
    """One run that was asked for: its month, its assets, and whether it went well."""

    month: str | None
    assets: tuple[str, ...]
    success: bool


@dataclass
class Daemon:
    """Evaluates what a daemon would, tick by tick.

    Attributes:
        without: assets that are left out.
    """

    graph: Graph
    without: tuple[str, ...] = ()
    cursor: AssetDaemonCursor = field(default_factory=AssetDaemonCursor.empty)

    def settle(self) -> list[Made]:
        """Ticks until nothing is asked for any more; every run, in order."""
        made: list[Made] = []
        for _ in range(MOST_TICKS):
            reported = [self.sense("deliveries"), self.sense("retraining_reasons")]
            runs = self.tick()
            made += runs
            if not runs and not any(reported):
                return made
        raise AssertionError(f"still asking for more: {made}")

    def sense(self, name: str) -> int:
        """Evaluates a sensor and reports what it found, as the daemon would; how much it was."""
        repository = self.graph.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.graph.instance, repository_def=repository, sensor_name=name
        )
        tick = repository.get_sensor_def(name).evaluate_tick(context)
        for event in tick.asset_events:
            self.graph.instance.report_runless_asset_event(event)
        return len(tick.asset_events)

    def tick(self) -> list[Made]:
        """One evaluation of all conditions, and the runs that it asks for."""
        context = AutomationTickEvaluationContext(
            evaluation_id=self.cursor.evaluation_id + 1,
            instance=self.graph.instance,
            asset_graph=self.graph.definitions.resolve_asset_graph(),
            cursor=self.cursor,
            materialize_run_tags={},
            observe_run_tags={},
            auto_observe_asset_keys=set(),
            asset_selection=AssetSelection.all() - AssetSelection.assets(*self.without),
            logger=logging.getLogger("daemon"),
            emit_backfills=False,
            evaluation_time=datetime.now(UTC),
        )
        requests, self.cursor, _ = context.evaluate()
        return [self._run(request) for request in sorted(requests, key=_order)]

    def _run(self, request: dg.RunRequest) -> Made:
        job = self.graph.definitions.resolve_implicit_global_asset_job_def()
        keys: Sequence[dg.AssetKey] = request.asset_selection or []
        done = job.execute_in_process(
            run_config=SILENT,
            instance=self.graph.instance,
            partition_key=request.partition_key,
            asset_selection=list(keys),
            tags=dict(request.tags),
            raise_on_error=False,
        )
        names = tuple(sorted(key.to_user_string() for key in keys))
        return Made(request.partition_key, names, done.success)


def _order(request: dg.RunRequest) -> str:
    return request.partition_key or "9999"
