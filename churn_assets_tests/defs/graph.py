"""The real graph over a temporary home, for tests: real lake, real files, real Dagster runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.lake import Lake
from churn_assets.definitions import build
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings
from churn_assets_tests.core.raw_rows import GOOD

CUSTOMERS = ("raw_customers", "validated_features", "quarantined_customers")
LABELS = ("churn_labels",)
MODEL = ("training_set", "churn_model", "evaluation_report")
MONTH = "2026-01"
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Graph:
    """One platform with an instance of its own."""

    settings: Settings

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        folder = self.platform.home.with_name("dagster")
        folder.mkdir(parents=True, exist_ok=True)
        return dg.DagsterInstance.ephemeral(tempdir=str(folder))

    @cached_property
    def platform(self) -> Platform:
        return Platform.of(self.settings)

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build(self.platform)

    @property
    def lake(self) -> Lake:
        return self.platform.lake

    def run(
        self, *assets: str, month: str | None = None, config: dict[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialises assets in one run, as the UI would; a failure does not raise."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            run_config=SILENT | (config or {}),
            instance=self.instance,
            partition_key=month,
            asset_selection=[dg.AssetKey(name) for name in assets],
            raise_on_error=False,
        )


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    """Names of the assets that a run materialised."""
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Checks that did not pass in a run, by name."""
    return {e.check_name: e for e in result.get_asset_check_evaluations() if not e.passed}


def why(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a failed step said, causes and all."""
    error, said = result.failure_data_for_node(step).error, ""
    while error is not None:
        said += error.message
        error = error.cause
    return said


def retries(result: dg.ExecuteInProcessResult) -> int:
    """How often steps of a run were tried again."""
    again = dg.DagsterEventType.STEP_RESTARTED
    return sum(event.event_type == again for event in result.all_events)


def from_files(home: Path, customers: str | Path, **settings: Any) -> Graph:
    """A graph of the telecom contract over files."""
    return Graph(
        Settings(
            source="file",
            file={"customers": str(customers), **settings.pop("file", {})},
            home=home / "home",
            first_month=MONTH,
            snapshot_month=MONTH,
            retries=settings.pop("retries", 1),
            retry_delay=0.01,
            **settings,
        )
    )


def customers(rows: int, *changes: dict[str, Any], churned: str = "mixed") -> pd.DataFrame:
    """Good customers as text, the first ones changed; `churned` is mixed, no or yes."""
    frame = pd.DataFrame([GOOD | {"customer_id": f"c{i}"} for i in range(rows)])
    frame["tenure"] = [str(i % 60) for i in range(rows)]
    frame["usage_days"] = [str(i * 7 % 32) for i in range(rows)]
    leaves = {"no": "false", "yes": "true"}
    frame["churned"] = [
        leaves.get(churned, "true" if i * 7 % 32 < 9 else "false") for i in range(rows)
    ]
    for i, change in enumerate(changes):
        for column, value in change.items():
            frame.loc[i, column] = value
    return frame
