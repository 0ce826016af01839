"""Source of simulated customers."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from churn_assets.adapters.sources.source import SourceError, as_labels, as_snapshot
from churn_assets.contracts.contract import Contract
from churn_assets.core.simulation.simulator import Simulator


@dataclass(frozen=True)
class SimulatedSource:
    """Any number of customers of a simulated operator; delivers only the contract `telecom`."""

    contract: Contract
    simulator: Simulator

    @property
    def single_snapshot(self) -> bool:
        return False

    def months(self) -> Mapping[str, frozenset[str]]:
        return {}

    def customers_version(self, month: str, known: str | None = None) -> str | None:
        operator = self.simulator
        scenario = operator.scenario_of(month)
        since = f" since {operator.scenario_month}" if scenario != "stable" else ""
        return f"seed {operator.seed}, {operator.customers} customers, {scenario}{since}"

    def labels_version(self, month: str, known: str | None = None) -> str | None:
        return self.customers_version(month)

    def snapshot(self, month: str) -> pd.DataFrame:
        return as_snapshot(self.simulator.snapshot(month), self.contract, "the simulated operator")

    def labels(self, month: str) -> pd.DataFrame:
        try:
            labels = self.simulator.labels(month)
        except ValueError as error:
            raise SourceError(str(error)) from error
        return as_labels(labels, self.contract, month, "the simulated operator")
