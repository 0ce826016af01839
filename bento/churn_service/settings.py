"""Settings of the service, read from environment variables with the prefix CHURN_API_."""

import glob
import os
import secrets
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from limits import parse_many
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from churn_assets.core.settings_errors import broken_rule, read_settings, unknown_variable
from churn_service.access.api_keys import read_keys

PREFIX = "CHURN_API_"
BENTOML_HOME = "BENTOML_HOME"
KIB, MIB = 2**10, 2**20

ID_KEY_BYTES = range(16, 65)
"""Length of the key that hashes ids; BLAKE2b accepts at most 64 bytes."""


def _keys_file(path: Path) -> Path:
    create = (
        "python -m churn_service.access.api_keys new --role predict --days 90 "
        f"--file {shlex.quote(str(path))}"
    )
    try:
        _read(path)
    except ValueError as error:
        raise ValueError(f"{error}; set an existing key file, or create one: {create}") from error
    read_keys(path)  # An invalid file stops the server here, before it starts a worker.
    return path


def _id_key_file(path: Path) -> Path:
    read_id_key(path)
    return path


def read_id_key(path: Path) -> bytes:
    """Reads a key of the pseudonyms from its file.

    Raises:
        ValueError: There is no such file, or the key is too short or too long.
    """
    key = _read(path).rstrip(b"\r\n")
    if len(key) not in ID_KEY_BYTES:
        low, high = ID_KEY_BYTES[0], ID_KEY_BYTES[-1]
        raise ValueError(
            f"the file has {len(key)} bytes and must have {low} to {high}; "
            f"create one: openssl rand -hex 32 > {shlex.quote(str(path))}"
        )
    return key


def _read(path: Path) -> bytes:
    # The message shows the absolute path: BentoML runs a worker in the bento's folder, which is not
    # the folder that `bentoml serve` was called in.
    if not path.is_file():
        raise ValueError(f"{path.absolute()} does not exist or is not a file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.absolute()} cannot be read: {error.strerror}") from error


def _one_limit(text: str) -> str:
    try:
        found = parse_many(text)
    except ValueError:
        found = []
    if len(found) != 1 or found[0].amount < 1:
        raise ValueError("must be one limit, such as 600/minute or 50/second")
    return text


def _folder_or_none(value: object) -> object:
    return None if value in ("", "none") else value


def _absolute(path: Path | None) -> Path | None:
    # A worker runs in the bento's folder, which is not the one that `bentoml serve` was called in.
    if path is not None and not path.is_absolute():
        raise ValueError(f"must be an absolute path, such as {path.absolute()}")
    return path


def _existing_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{path} does not exist or is not a folder")
    return path


def _folder_in_bentoml_home() -> Path:
    return Path(os.environ.get(BENTOML_HOME) or "~/bentoml").expanduser() / "monitoring"


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("must be an address such as http://collector:4318/v1/traces")
    return url


KeysFile = Annotated[Path, AfterValidator(_absolute), AfterValidator(_keys_file)]
IdKeyFile = Annotated[Path, AfterValidator(_absolute), AfterValidator(_id_key_file)]
RateLimit = Annotated[str, AfterValidator(_one_limit)]
HttpUrl = Annotated[str, AfterValidator(_http)]
FolderOrNone = Annotated[Path | None, BeforeValidator(_folder_or_none), AfterValidator(_absolute)]
ExistingFolder = Annotated[Path, AfterValidator(_absolute), AfterValidator(_existing_folder)]


class ServiceSettings(BaseSettings):
    """The settings with their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    keys_file: KeysFile | None = None
    """File of the API keys, see `access/api_keys.py`; without it the service needs no keys."""
    metrics: Literal["open", "admin"] = "open"
    """Access to /metrics: for everyone, or for keys with the role admin."""
    rate_limit: RateLimit = "60000/minute"
    """Limit of one key over all workers, in the notation of the `limits` library."""
    max_body_bytes: int = Field(8 * MIB, ge=KIB, le=256 * MIB)
    max_concurrency: int = Field(256, ge=1, le=10_000)
    """Most requests in progress, per worker."""
    max_batches: int = Field(4, ge=1, le=1_000)
    """Most batches of more than 64 KiB in progress, per worker."""
    timeout: float = Field(10.0, gt=0, le=600)
    """Seconds within which a body must arrive."""
    drain_seconds: float = Field(1.0, ge=0, le=60)
    """Seconds for which a worker still accepts requests after SIGTERM."""
    workers: int = Field(1, ge=1, le=64)
    prediction_log: FolderOrNone = Field(default_factory=_folder_in_bentoml_home)
    """Folder of the prediction log, `$BENTOML_HOME/monitoring`; "" or "none" switches it off."""
    prediction_log_file_bytes: int = Field(64 * MIB, ge=KIB, le=16 * KIB * MIB)
    """Size from which a worker starts a new file."""
    prediction_log_file_seconds: float = Field(300.0, gt=0, le=86_400)
    """Age from which a worker closes a file, so that the lines of few requests are shipped soon."""
    prediction_log_files: int = Field(32, ge=1, le=10_000)
    """Number of files of that size that are kept, per worker; smaller files are kept longer."""
    prediction_log_queue: int = Field(100_000, ge=1, le=10_000_000)
    """Most customers that wait to be written, per worker."""
    pod_info: ExistingFolder | None = None
    """Folder with the files pod, release, template-hash and role, which every line of the
    prediction log repeats; Kubernetes' downward API writes them."""
    id_key_file: IdKeyFile | None = None
    """File of the key for the pseudonyms of ids and personal values; without it each worker uses a
    key of its own."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    breaker_failures: int = Field(5, ge=1, le=1_000)
    """Consecutive failures of the main scorer after which only the fallback is used."""
    breaker_seconds: float = Field(30.0, gt=0, le=3_600)
    """Seconds until the main scorer is tried again."""
    otlp_endpoint: HttpUrl | None = None
    """URL of the trace collector, http(s)://host:4318/v1/traces; without it no traces are sent."""
    otlp_sample_rate: float = Field(1.0, ge=0, le=1)
    """Share of the requests that are traced."""

    @property
    def tracing(self) -> dict[str, Any]:
        """BentoML's tracing configuration."""
        if self.otlp_endpoint is None:
            # A trace that is not collected would take as long as the prediction.
            return {"excluded_urls": ".*"}
        return {
            "exporter_type": "otlp",
            "otlp": {"protocol": "http", "endpoint": self.otlp_endpoint},
            "sample_rate": self.otlp_sample_rate,
            "excluded_urls": "livez,readyz,healthz,health,metrics",
        }

    def id_key(self) -> bytes:
        """Returns the key for the pseudonyms of ids and personal values.

        Returns:
            The key in `id_key_file`, or a new random key at every call where no file is set.

        Raises:
            ValueError: The file has become invalid since the settings were read.
        """
        return (
            secrets.token_bytes(32) if self.id_key_file is None else read_id_key(self.id_key_file)
        )


def load_settings() -> ServiceSettings:
    """Reads the settings from the environment.

    Raises:
        SettingsError: The message names every wrong variable, its value and the rule.
    """
    return read_settings(ServiceSettings, _fault, [*_unknown_variables(), *_faulty_home()])


def _fault(details: ErrorDetails) -> str:
    variable = _variable(str(details["loc"][0]))
    return f"{variable} is {details['input']!r}: {broken_rule(details['msg'])}"


def _faulty_home() -> list[str]:
    home = os.environ.get(BENTOML_HOME, "")
    if glob.escape(home) == home:
        return []
    # Prometheus' client finds the files of the workers by a pattern that begins with this path.
    return [f"{BENTOML_HOME} is {home!r}: a path with * ? or [ would mix up or lose the metrics"]


def _unknown_variables() -> list[str]:
    known = {_variable(name) for name in ServiceSettings.model_fields}
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    # All names share the long prefix, so only the rest of the name shows which one was meant.
    return [unknown_variable(name, known, PREFIX) for name in sorted(unknown)]


def _variable(name: str) -> str:
    return PREFIX + name.upper()
