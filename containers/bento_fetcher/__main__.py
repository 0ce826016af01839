"""Command that fetches the archive of a bento, verifies it and unpacks it for the service.

The chart runs it as an init container, so that a new model needs no new image. Its settings are
environment variables, see `bento_fetcher.settings`; credentials are the variables that s3fs, gcsfs
and fsspec read. This package is all that the image `fetcher` has of the project.
"""

import os
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from bento_fetcher.archive import require_bento, unpack, verify
from bento_fetcher.download import download
from bento_fetcher.settings import (
    FetchError,
    Settings,
    load_settings,
    named,
    reason,
    redacted,
    shown,
)

MARKER = ".archive.sha256"
"""File in an unpacked bento that has the checksum of its archive."""

TERMINATION_LOG = Path("/dev/termination-log")
"""File whose text Kubernetes shows as the reason why a container ended."""


def main() -> int:
    """Runs the command; returns its exit code."""
    # The first process of a container ignores SIGTERM unless it has a handler.
    signal.signal(signal.SIGTERM, _end)
    try:
        settings = load_settings(os.environ)
        sys.stderr.write(f"{fetch(settings)}\n")
    except FetchError as error:
        return _failed(str(error))
    except Exception as error:  # noqa: BLE001 - an internal error, shown without secrets of a URL
        sys.stderr.write(redacted(traceback.format_exc()))
        return _failed(f"internal error: {reason(error)}")
    return 0


def fetch(settings: Settings) -> str:
    """Fetches, verifies and unpacks the bento, unless an earlier run did; returns what it did.

    Raises:
        FetchError: There is no bento, or not the one of the settings.
    """
    target, place = settings.target, shown(settings.url)
    # Renamed to its name only when it is complete. The host's name is the pod's: another pod on
    # the same volume has a folder of its own.
    scratch = target.parent / f".fetch-{socket.gethostname()}"
    try:
        if (marker := target / MARKER).is_file() and marker.read_text() == settings.sha256:
            return f"{target} has the bento of {place} already"
        _remove(scratch)
        scratch.mkdir(parents=True)
        try:
            archive, bento = scratch / "archive", scratch / "bento"
            download(settings, archive)
            verify(settings, archive)
            unpack(settings, archive, bento)
            require_bento(settings, bento)
            (bento / MARKER).write_text(settings.sha256)
            if target.exists():
                target.rename(scratch / "former")
            bento.rename(target)
        finally:
            _remove(scratch)
    except OSError as error:
        raise FetchError(
            f"{named('CHURN_FETCH_TARGET')} is {str(target)!r}, where the bento cannot be stored: "
            f"{reason(error)}. Its parent must be a volume that may be written, with enough room"
        ) from error
    return f"{target} has the bento of {place}, SHA-256 {settings.sha256}"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _failed(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    if TERMINATION_LOG.exists():  # only in a pod
        TERMINATION_LOG.write_text(message, errors="backslashreplace")
    return 1


if __name__ == "__main__":
    sys.exit(main())
