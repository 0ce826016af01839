"""Download of the archive, from every kind of store that fsspec knows."""

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import fsspec
from fsspec.callbacks import Callback
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from bento_fetcher.settings import FetchError, Settings, named, reason, url_is

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30
"""Seconds until an attempt is given up: to connect, and between two parts of the archive."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
RETRIED_STATUSES = {408, 425, 429}
"""Statuses below 500 after which a retry may help."""

# The SDKs are installed in the image `fetcher` only, so their errors are known by name.
SDKS = ("botocore.", "aiobotocore.", "gcsfs.", "google.", "requests.")
NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}


class UnavailableError(Exception):
    """The store did not deliver the archive; a retry may help."""


class DeadlineError(BaseException):
    """The time is over. No library may catch it as one of its own errors."""


def download(settings: Settings, archive: Path) -> None:
    """Copies the archive to a local file. It tries again while the store is unavailable."""
    failed: list[str] = []

    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        failed.append(str(error))
        sys.stderr.write(f"attempt {state.attempt_number}: {error}\n")

    attempts = Retrying(
        retry=retry_if_exception_type(UnavailableError),
        wait=wait_random_exponential(multiplier=0.5, max=15),
        before_sleep=note,
    )
    try:
        with deadline(settings.timeout):
            attempts(_copy, settings, archive)
    except DeadlineError as error:
        last = failed[-1] if failed else "no response"
        raise FetchError(
            f"{url_is(settings)}, which did not deliver the archive within the "
            f"{settings.timeout:g} s of {named('CHURN_FETCH_TIMEOUT')}; last error: {last}. Check "
            "the address, the store, and that the network policy lets the pod reach it"
        ) from error


def _copy(settings: Settings, archive: Path) -> None:
    scheme = settings.url.partition("://")[0]
    try:
        store = fsspec.filesystem(scheme, skip_instance_cache=True, **_options(scheme))
        remote = store._strip_protocol(settings.url)
        if scheme == "file":  # fsspec copies a local file without a report of the progress
            _refuse_large(settings, store.size(remote))
        limit = Callback(hooks={"limit": lambda _, copied: _refuse_large(settings, copied)})
        store.get_file(remote, str(archive), callback=limit)
    except FetchError:
        raise
    except Exception as error:  # noqa: BLE001 - the stores share no base class of errors
        _raise(error, settings, archive)


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "s3":
        # Without botocore's own attempts, so that the reason of each one is reported.
        waits = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT}
        return {"config_kwargs": {**waits, "retries": {"max_attempts": 0}}}
    if scheme in ("http", "https"):
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT
        )
        return {"client_kwargs": {"trust_env": True, "timeout": timeout}}
    return {}


def _refuse_large(settings: Settings, size: int) -> None:
    if size > settings.max_bytes:
        raise FetchError(
            f"{url_is(settings)}, which has more than the {settings.max_bytes} bytes of "
            f"{named('CHURN_FETCH_MAX_BYTES')}: set more, if the archive is right"
        )


def _raise(error: Exception, settings: Settings, archive: Path) -> NoReturn:
    """Raises a `FetchError` or an `UnavailableError` for the error of a store."""
    code = str(getattr(error, "status", "") or getattr(error, "code", ""))
    status = int(code) if code.isdecimal() else 0
    if isinstance(error, OSError) and (
        error.errno in NO_ROOM or str(archive) in (error.filename, error.filename2)
    ):
        raise error  # of the target, not of the store
    if isinstance(error, FileNotFoundError):
        raise FetchError(
            f"{url_is(settings)}, which does not exist (404): set the address of the archive"
        ) from error
    if (
        status in (401, 403)
        or isinstance(error, PermissionError)
        or type(error).__name__ in NO_CREDENTIALS
        or str(error).startswith("Forbidden")  # gcsfs raises it as an OSError
    ):
        raise FetchError(
            f"{url_is(settings)}, which the store refuses to this pod ({status or reason(error)}): "
            "give it credentials that may read the archive (chart value "
            "model.archive.existingSecret), or a URL whose signature has not expired"
        ) from error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        raise FetchError(
            f"{url_is(settings)}, whose certificate this pod does not trust "
            f"({reason(error.certificate_error)}): set SSL_CERT_FILE to the certificates that it "
            "may trust"
        ) from error
    if 400 <= status < 500 and status not in RETRIED_STATUSES:
        raise FetchError(f"{url_is(settings)}, for which the store responds {status}") from error
    of_a_store = isinstance(error, OSError | aiohttp.ClientError)
    if status or of_a_store or type(error).__module__.startswith(SDKS):
        raise UnavailableError(f"status {status}" if status else reason(error)) from error
    raise error


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises `DeadlineError` in the block when the time is over, whatever the block waits for."""

    def over(*_: object) -> NoReturn:
        raise DeadlineError

    former = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
