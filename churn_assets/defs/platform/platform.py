"""What a code location is started for: its settings, its contract, its months."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
from upath import UPath

from churn_assets.adapters.lake import Lake
from churn_assets.adapters.sources.choice import choose_source
from churn_assets.adapters.sources.source import Source
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.defs.platform.partitions import closed_months, labelled_months, one_month
from churn_assets.settings import Settings

OWNER = "team:churn"


@dataclass(frozen=True)
class Platform:
    """Everything that the definitions are built from; nothing in `defs/` reads the environment."""

    settings: Settings
    contract: Contract

    @classmethod
    def of(cls, settings: Settings) -> "Platform":
        """Loads the contract that the settings name."""
        return cls(settings, load_contract(settings.contract))

    @cached_property
    def source(self) -> Source:
        return choose_source(self.settings, self.contract)

    @cached_property
    def closed_months(self) -> dg.TimeWindowPartitionsDefinition:
        """Months whose snapshot exists."""
        if self.source.single_snapshot:
            return one_month(self.settings.snapshot_month)
        return closed_months(self.settings.first_month)

    @cached_property
    def labelled_months(self) -> dg.TimeWindowPartitionsDefinition:
        """Months whose labels are known: a snapshot that brings its labels, or a horizon later."""
        if self.source.single_snapshot:
            return one_month(self.settings.snapshot_month)
        return labelled_months(self.settings.first_month, self.contract.horizon_months)

    @property
    def months_in_use(self) -> list[str]:
        """The latest closed months: those that a model learns from, and those not labelled yet."""
        used = self.settings.training_months + self.contract.horizon_months
        return list(self.closed_months.get_partition_keys()[-used:])

    @property
    def retries(self) -> dg.RetryPolicy:
        """How a step that failed tries again, before it is left and told of."""
        return dg.RetryPolicy(
            max_retries=self.settings.retries,
            delay=self.settings.retry_delay,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        )

    def code_version(self, number: int) -> str:
        """Version of an asset's code, of which the contract is a part."""
        return f"{number}-{self.contract.fingerprint}"

    @property
    def home(self) -> Path:
        """Folder of all local state."""
        return self.settings.home or Path(".churn", self.contract.name).resolve()

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake or str(self.home / "lake"), self.settings.lake_options)

    @property
    def reports(self) -> UPath:
        """Folder of reports and records, at any URL."""
        return UPath(self.settings.reports or self.home / "reports")

    @property
    def predictions(self) -> UPath:
        """Folder of the service's prediction logs of this contract."""
        return UPath(self.settings.predictions or self.home / "predictions", self.contract.name)

    @property
    def id_key_file(self) -> Path:
        """File with the key of the pseudonyms in these logs."""
        return self.settings.id_key_file or self.home / "id.key"

    @property
    def tracking_uri(self) -> str:
        return self.settings.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def model_name(self) -> str:
        """Name of the registered model and of the bento."""
        return f"churn_{self.contract.name}"
