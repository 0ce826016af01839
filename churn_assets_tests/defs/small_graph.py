"""The shape of the graph with empty assets, to evaluate its conditions tick by tick."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import time_machine
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

from churn_assets.definitions import build
from churn_assets.defs.automation.conditions import automations
from churn_assets.defs.automation.freshness import freshness_policies
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings
from churn_assets_tests.defs.daemon import evaluate_conditions
from churn_assets_tests.defs.freshness_daemon import evaluate_freshness
from churn_assets_tests.defs.graph import SILENT

START = datetime(2026, 9, 10, 12, tzinfo=UTC)
FIRST = "2026-05"

Runs = list[tuple[str | None, str]]
"""Month and assets of each run, in the order of the requests."""


@dataclass
class SmallGraph:
    """Assets, deps, partitions, blocking checks and conditions of the real graph; empty steps.

    Attributes:
        failing: Assets and months whose blocking checks fail.
        crashing: Assets and months whose steps raise.
        cancelling: Assets and months whose runs are cancelled before a step runs.
        freshness: Whether the freshness daemon runs, too.
        ticks: Times at which the conditions were evaluated.
    """

    clock: time_machine.Traveller
    home: Path
    settings: Settings = field(default_factory=lambda: Settings(first_month=FIRST))
    failing: set[tuple[str, str | None]] = field(default_factory=set)
    crashing: set[tuple[str, str | None]] = field(default_factory=set)
    cancelling: set[tuple[str, str | None]] = field(default_factory=set)
    freshness: bool = False
    cursor: AssetDaemonCursor | None = None
    ticks: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(self.home))
        conditions = automations(self.settings)
        self.platform = Platform.of(self.settings)
        policies = freshness_policies(self.platform)

        def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
            name = spec.key.to_user_string()
            condition = conditions[name].labelled() if name in conditions else None
            return spec.replace_attributes(
                automation_condition=condition, freshness_policy=policies.get(name)
            )

        real = build(self.platform).resolve_asset_graph()
        nodes = [real.get(key) for key in real.toposorted_asset_keys]
        definitions = dg.Definitions([self._asset(real, node) for node in nodes],
                                     executor=dg.in_process_executor)  # fmt: skip
        self.definitions = definitions.map_asset_specs(func=attach)
        self.graph = self.definitions.resolve_asset_graph()
        self.job = self.definitions.resolve_implicit_global_asset_job_def()

    def deliver(self, asset: str, month: str | None = None) -> None:
        """Reports an event of an external asset, as a sensor would."""
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=month))

    def make(self, *assets: str, month: str | None = None) -> None:
        """Materialises assets in one run, as a person would."""
        self._execute(month, [dg.AssetKey(name) for name in assets])

    def settle(self) -> Runs:
        """Ticks until no run is requested in two ticks: an event may need one to be handled."""
        runs: Runs = []
        idle = 0
        while idle < 2:
            requested = self.tick()
            idle = 0 if requested else idle + 1
            runs += requested
            assert len(runs) < 50, runs
        return runs

    def tick(self) -> Runs:
        """Evaluates freshness and conditions once, 30 s later, and executes what is requested."""
        self.clock.shift(timedelta(seconds=30))
        if self.freshness:
            evaluate_freshness(self.instance, self.graph)
        self.ticks.append(datetime.now(UTC))
        requests, self.cursor = evaluate_conditions(
            self.instance, self.graph, self.cursor or AssetDaemonCursor.empty()
        )
        keys = self.graph.toposorted_asset_keys
        runs = [
            (request.partition_key, sorted(request.asset_selection or (), key=keys.index))
            for request in requests
        ]
        in_order = sorted(runs, key=lambda run: (keys.index(run[1][0]), str(run[0])))
        return [self._run(month, names) for month, names in in_order]

    def _run(self, month: str | None, keys: list[dg.AssetKey]) -> tuple[str | None, str]:
        if self.cancelling & {(key.to_user_string(), month) for key in keys}:
            self._cancelled(month, keys)
        else:
            self._execute(month, keys)
        return month, " ".join(key.to_user_string() for key in keys)

    def _cancelled(self, month: str | None, keys: list[dg.AssetKey]) -> None:
        run = self.instance.create_run_for_job(
            self.job,
            asset_selection=frozenset(keys),
            tags={"dagster/partition": month} if month else {},
        )
        self.instance.report_run_canceled(run)

    def _execute(self, month: str | None, keys: list[dg.AssetKey]) -> None:
        self.job.execute_in_process(
            run_config=SILENT, instance=self.instance, partition_key=month,
            asset_selection=keys, raise_on_error=False,
        )  # fmt: skip

    def _asset(self, graph: Any, node: Any) -> Any:
        name = node.key.to_user_string()
        spec = {"deps": self._deps(node), "partitions_def": node.partitions_def}
        if not node.is_materializable:
            return dg.AssetSpec(name, **spec)
        blocking = [key.name for key in node.check_keys if graph.get(key).blocking]

        @dg.asset(
            name=name, output_required=False, **spec,
            check_specs=[
                dg.AssetCheckSpec(check, asset=name, blocking=True,
                                  partitions_def=node.partitions_def)
                for check in blocking
            ],
        )  # fmt: skip
        def body(context: dg.AssetExecutionContext) -> Iterator[Any]:
            subject = name, context.partition_key if context.has_partition_key else None
            if subject in self.crashing:
                raise RuntimeError("as requested")
            if subject not in self.failing:
                yield dg.Output(None)
            for check in blocking:
                yield dg.AssetCheckResult(
                    asset_key=name, check_name=check, passed=subject not in self.failing
                )

        return body

    def _deps(self, node: Any) -> list[dg.AssetDep]:
        return [
            dg.AssetDep(parent, partition_mapping=node.partition_mappings.get(parent))
            for parent in node.parent_keys
        ]
