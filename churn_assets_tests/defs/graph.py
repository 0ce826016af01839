"""The real graph over a temporary home: real lake, real files, real Dagster runs."""

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
    """A platform with a Dagster instance of its own."""

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
        self,
        *assets: str,
        month: str | None = None,
        config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialises assets in one run, as the UI would; a failure does not raise."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            run_config=SILENT | (config or {}),
            instance=self.instance,
            partition_key=month,
            asset_selection=[dg.AssetKey(name) for name in assets],
            tags=tags,
            raise_on_error=False,
        )


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


def from_rows(home: Path, rows: pd.DataFrame) -> Graph:
    """A graph over the file `customers.csv` in the home, which gets the rows."""
    path = home / "customers.csv"
    rows.to_csv(path, index=False)
    return from_files(home, path)


def customers(rows: int, *changes: dict[str, Any], churned: str = "mixed") -> pd.DataFrame:
    """Valid customers as text, of which the first get changes; `churned` is mixed, no or yes."""
    frame = pd.DataFrame([GOOD | {"customer_id": f"c{i}"} for i in range(rows)])
    frame["tenure"] = [str(i % 60) for i in range(rows)]
    frame["usage_days"] = [str(i * 7 % 32) for i in range(rows)]
    labels = {"no": "false", "yes": "true"}
    frame["churned"] = [
        labels.get(churned, "true" if i * 7 % 32 < 9 else "false") for i in range(rows)
    ]
    for i, change in enumerate(changes):
        for column, value in change.items():
            frame.loc[i, column] = value
    return frame
