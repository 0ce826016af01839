"""Settings, contract, source, partitions and paths of a code location."""

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
from churn_assets.defs.platform.dagster_internals import is_valid_cron_schedule
from churn_assets.defs.platform.partitions import (
    closed_months,
    labelled_months,
    one_month,
    without_partition,
)
from churn_assets.settings import DEFAULT_HOMES, Settings, SettingsError

OWNER = "team:churn"


@dataclass(frozen=True)
class Platform:
    """Everything that the definitions are built from; nothing in `defs/` reads the environment."""

    settings: Settings
    contract: Contract

    @classmethod
    def of(cls, settings: Settings) -> "Platform":
        """Loads the contract that the settings name.

        Raises:
            SettingsError: A setting is no cron expression that Dagster understands.
            ContractError: The contract is invalid.
        """
        _check_cron_expressions(settings)
        return cls(settings, load_contract(settings.contract))

    @cached_property
    def source(self) -> Source:
        return choose_source(self.settings, self.contract)

    @cached_property
    def closed_months(self) -> dg.TimeWindowPartitionsDefinition:
        """Partitions of the months whose snapshot exists."""
        if self.source.single_snapshot:
            return one_month(self.settings.snapshot_month)
        return closed_months(self.settings.first_month)

    @cached_property
    def labelled_months(self) -> dg.TimeWindowPartitionsDefinition:
        """Partitions of the months whose labels are known.

        A single snapshot brings its labels; other labels are known one horizon later.
        """
        if self.source.single_snapshot:
            return one_month(self.settings.snapshot_month)
        return labelled_months(self.settings.first_month, self.contract.horizon_months)

    @property
    def months_in_use(self) -> list[str]:
        """The latest closed months: those that a model is trained on, and those without labels.

        A source whose last month is long ago has its latest months in use, not those of today.
        """
        used = self.settings.training_months + self.contract.horizon_months
        months = list(self.closed_months.get_partition_keys())
        has = set().union(*self.source.months().values()).intersection(months)
        return [month for month in months if not has or month <= max(has)][-used:]

    @property
    def months_without_partition(self) -> str:
        """Describes the months of the source that have no partition; "" if there are none."""
        first, *_, last = list(self.closed_months.get_partition_keys()) * 2
        return without_partition(self.source.months(), first, last)

    @property
    def has_a_month_to_use(self) -> bool:
        """Whether the source has a month with a partition, as far as it has a list of months."""
        months = self.source.months().values()
        return not months or not set().union(*months).isdisjoint(
            self.closed_months.get_partition_keys()
        )

    @property
    def retries(self) -> dg.RetryPolicy:
        """Retry policy of a step; after the last retry the step fails and an alert is sent."""
        return dg.RetryPolicy(
            max_retries=self.settings.retries,
            delay=self.settings.retry_delay,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        )

    def code_version(self, number: int) -> str:
        """Returns the version of an asset's code; the contract is a part of it."""
        return f"{number}-{self.contract.fingerprint}"

    @property
    def home(self) -> Path:
        """Folder of all local state."""
        return self.settings.home or Path(DEFAULT_HOMES, self.contract.name).resolve()

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake or str(self.home / "lake"), self.settings.lake_options)

    @property
    def reports(self) -> UPath:
        """Folder of reports and records, a path or any URL."""
        return UPath(self.settings.reports or self.home / "reports")

    @property
    def archives(self) -> UPath:
        """Folder of the bentos' archives, a path or any URL."""
        return UPath(self.settings.archives or self.home / "archives")

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


def _check_cron_expressions(settings: Settings) -> None:
    groups = {"FRESHNESS": settings.freshness, "AUTOMATION": settings.automation}
    wrong = [
        f"CHURN_{group}__{name.upper()} is {value!r}: this is no cron expression, such as 0 6 2 * *"
        for group, policy in groups.items()
        for name, value in policy.model_dump().items()
        if name.endswith(("_cron", "_deadline")) and not is_valid_cron_schedule(value)
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
