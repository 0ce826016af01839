"""Every setting of the service, by the prefix CHURN_API_."""

import difflib
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from limits import parse_many
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from churn_service.access.api_keys import read_keys

PREFIX = "CHURN_API_"
KIB, MIB = 2**10, 2**20

ID_KEY_BYTES = range(16, 65)
"""Length of the key that hashes ids: BLAKE2b, which uses it, takes no more than 64."""


class SettingsError(ValueError):
    """Settings that cannot be used; the message lists every fault by its variable."""


def _keys_file(path: Path) -> Path:
    make = f"python -m churn_service.access.api_keys new --role predict --days 90 --file {path}"
    try:
        _read(path)
    except ValueError as error:
        raise ValueError(f"{error}; set the file with the keys, or make one: {make}") from error
    read_keys(path)  # Its faults, told here, stop the server before it starts a worker.
    return path


def _id_key_file(path: Path) -> Path:
    _id_key(path)
    return path


def _id_key(path: Path) -> bytes:
    key = _read(path).rstrip(b"\r\n")
    if len(key) not in ID_KEY_BYTES:
        low, high = ID_KEY_BYTES[0], ID_KEY_BYTES[-1]
        raise ValueError(
            f"the file holds {len(key)} bytes, and must hold {low} to {high}; "
            f"make one: openssl rand -hex 32 > {path}"
        )
    return key


def _read(path: Path) -> bytes:
    # Absolute in the message: BentoML runs a worker in the bento's folder, not in the caller's.
    if not path.is_file():
        raise ValueError(f"there is no file {path.absolute()}")
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
    # A worker runs in the folder of the bento, and not where `bentoml serve` was called.
    if path is not None and not path.is_absolute():
        raise ValueError(f"must be an absolute path, such as {path.absolute()}")
    return path


def _beside_the_store() -> Path:
    return Path(os.environ.get("BENTOML_HOME") or "~/bentoml").expanduser() / "monitoring"


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


class ServiceSettings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    keys_file: KeysFile | None = None
    """File of the API keys, see `keys.py`; without it the service is open."""
    metrics: Literal["open", "admin"] = "open"
    """Who may read /metrics: everyone, or keys of the role admin."""
    rate_limit: RateLimit = "60000/minute"
    """Of one key, over all workers, in the notation of the `limits` library."""
    max_body_bytes: int = Field(8 * MIB, ge=KIB, le=256 * MIB)
    max_concurrency: int = Field(256, ge=1, le=10_000)
    """Requests in hand at once, per worker."""
    max_batches: int = Field(4, ge=1, le=1_000)
    """Batches of more than 64 KiB in hand at once, per worker."""
    timeout: float = Field(10.0, gt=0, le=600)
    """Seconds within which a body must be here."""
    drain_seconds: float = Field(1.0, ge=0, le=60)
    """How long a worker that was told to stop still takes requests."""
    workers: int = Field(1, ge=1, le=64)
    prediction_log: FolderOrNone = Field(default_factory=_beside_the_store)
    """Folder of the prediction log, `$BENTOML_HOME/monitoring`; "" or "none" switches it off."""
    prediction_log_file_bytes: int = Field(64 * MIB, ge=KIB, le=16 * KIB * MIB)
    """Size from which a new file is begun."""
    prediction_log_files: int = Field(32, ge=1, le=10_000)
    """Files that are kept, per worker."""
    prediction_log_queue: int = Field(100_000, ge=1, le=10_000_000)
    """Customers that may wait to be written, per worker."""
    id_key_file: IdKeyFile | None = None
    """Key for the hashes of ids and personal values; without it hashes of two workers differ."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    breaker_failures: int = Field(5, ge=1, le=1_000)
    """Failures of the main scorer in a row, after which only the fallback is asked."""
    breaker_seconds: float = Field(30.0, gt=0, le=3_600)
    """Seconds until the main scorer is tried again."""
    otlp_endpoint: HttpUrl | None = None
    """Where traces are sent, http(s)://host:4318/v1/traces; nowhere where it is not set."""
    otlp_sample_rate: float = Field(1.0, ge=0, le=1)
    """Share of the requests that are traced."""

    @property
    def tracing(self) -> dict[str, Any]:
        """What BentoML is told of tracing."""
        if self.otlp_endpoint is None:
            # A trace that nobody collects would cost as much as the answer.
            return {"excluded_urls": ".*"}
        return {
            "exporter_type": "otlp",
            "otlp": {"protocol": "http", "endpoint": self.otlp_endpoint},
            "sample_rate": self.otlp_sample_rate,
            "excluded_urls": "livez,readyz,healthz,health,metrics",
        }

    def id_key(self) -> bytes:
        """Key for the hashes of ids and personal values.

        Returns:
            What `id_key_file` holds, or a new random key at every call where it is not set.

        Raises:
            ValueError: the file has changed since it was checked, and cannot be used.
        """
        return secrets.token_bytes(32) if self.id_key_file is None else _id_key(self.id_key_file)


def load_settings() -> ServiceSettings:
    """Reads the environment.

    Raises:
        SettingsError: naming every variable that is wrong, its value and what is allowed.
    """
    faults = _unknown_variables()
    try:
        settings = ServiceSettings()
    except ValidationError as error:
        faults += [_fault(details) for details in error.errors()]
    if faults:
        raise SettingsError("wrong settings:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return settings


def _fault(details: ErrorDetails) -> str:
    said = details["msg"].removeprefix("Value error, ")
    return f"{_variable(str(details['loc'][0]))} is {details['input']!r}: {said}"


def _unknown_variables() -> list[str]:
    known = {_variable(name) for name in ServiceSettings.model_fields}
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    return [_unknown(name, known) for name in sorted(unknown)]


def _unknown(name: str, known: set[str]) -> str:
    # The prefix is the same in all: only what follows tells which one was meant.
    wanted = {variable.removeprefix(PREFIX): variable for variable in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), wanted, n=1)
    hint = f"; did you mean {wanted[close[0]]}?" if close else ""
    return f"{name} is not a setting{hint}"


def _variable(name: str) -> str:
    return PREFIX + name.upper()
