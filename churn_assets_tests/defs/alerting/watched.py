"""A graph with the sensor of its alerts."""

from pathlib import Path
from typing import Any

import dagster as dg

from churn_assets.defs.alerting import alerts
from churn_assets.defs.alerting.alerts import AlertCursor
from churn_assets_tests.defs.graph import CUSTOMERS, MONTH, Graph, customers, from_files

UI = "http://ui.example.org"


class Watched:
    """A graph with its sensor, and the cursor that Dagster keeps for the sensor."""

    def __init__(
        self,
        home: Path,
        *,
        approval: str = "auto",
        instance: dg.DagsterInstance | None = None,
        **settings: Any,
    ) -> None:
        self.file = home / "customers.csv"
        self.graph: Graph = from_files(
            home,
            self.file,
            alerts={"ui_url": UI, "retries": 0, **settings},
            promotion={"approval": approval},
        )
        self._instance = instance
        self.cursor: str | None = None

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance or self.graph.instance

    def deliver(self, *changes: dict[str, Any]) -> None:
        customers(20, *changes).to_csv(self.file, index=False)

    def run(self, **tags: str) -> None:
        """Materialises the month, in a run with tags of Dagster's own."""
        dagster_tags = {f"dagster/{name}": value for name, value in tags.items()}
        self.graph.run(*CUSTOMERS, month=MONTH, tags=dagster_tags)

    def tick(self) -> str:
        repository = self.graph.definitions.get_repository_def()
        with dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=repository
        ) as context:
            data = repository.get_sensor_def(alerts.SENSOR).evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message or ""

    @property
    def open(self) -> set[str]:
        return set(AlertCursor.model_validate_json(self.cursor or "").incidents)

    def report(self, event: Any) -> None:
        self.instance.report_runless_asset_event(event)
