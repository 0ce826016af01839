"""The shape of the graph with empty assets, to evaluate its conditions tick by tick."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import time_machine

from churn_assets.definitions import build
from churn_assets.defs.automation.conditions import automations
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings
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
    """

    clock: time_machine.Traveller
    home: Path
    settings: Settings = field(default_factory=lambda: Settings(first_month=FIRST))
    failing: set[tuple[str, str | None]] = field(default_factory=set)
    crashing: set[tuple[str, str | None]] = field(default_factory=set)
    cursor: Any = None

    def __post_init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(self.home))
        conditions = automations(self.settings)

        def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
            name = spec.key.to_user_string()
            condition = conditions[name].labelled() if name in conditions else None
            return spec.replace_attributes(automation_condition=condition)

        real = build(Platform.of(self.settings)).resolve_asset_graph()
        nodes = [real.get(key) for key in real.toposorted_asset_keys]
        definitions = dg.Definitions([self._asset(real, node) for node in nodes],
                                     executor=dg.in_process_executor)  # fmt: skip
        self.definitions = definitions.map_asset_specs(func=attach)
        self.graph = self.definitions.resolve_asset_graph()
        self.job = self.definitions.resolve_implicit_global_asset_job_def()

    def deliver(self, asset: str, month: str | None = None) -> None:
        """Reports an event of an external asset, as a sensor would."""
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=month))

    def settle(self) -> Runs:
        """Ticks until no run is requested any more."""
        runs: Runs = []
        while requested := self._tick():
            runs += requested
            assert len(runs) < 50, runs
        return runs

    def _tick(self) -> Runs:
        self.clock.shift(timedelta(seconds=30))
        result = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.cursor,
            evaluation_time=datetime.now(UTC),
        )  # fmt: skip
        self.cursor = result.cursor
        requested: dict[tuple[str, str | None], list[dg.AssetKey]] = defaultdict(list)
        for key in self.graph.toposorted_asset_keys:
            for month in sorted(result.get_requested_partitions(key), key=str):
                requested[str(self.graph.get(key).partitions_def), month].append(key)
        return [self._run(month, keys) for (_, month), keys in requested.items()]

    def _run(self, month: str | None, keys: list[dg.AssetKey]) -> tuple[str | None, str]:
        self.job.execute_in_process(
            run_config=SILENT, instance=self.instance, partition_key=month,
            asset_selection=keys, raise_on_error=False,
        )  # fmt: skip
        return month, " ".join(key.to_user_string() for key in keys)

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
