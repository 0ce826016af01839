"""Faults of steps: which of them a retry may help, and which message explains one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import dagster as dg
from pandera.errors import SchemaError, SchemaErrors

from churn_assets.adapters.audit import AuditError
from churn_assets.adapters.bentos import BentoPartsError
from churn_assets.adapters.lake import LakeError
from churn_assets.adapters.prediction_logs import IncompleteLogError
from churn_assets.adapters.sources.source import SourceUnavailableError
from churn_assets.defs.platform.dagster_internals import DagsterAssetCheckFailedError

DATA_FAULTS = (ValueError, LakeError, AuditError, BentoPartsError, SchemaError, SchemaErrors)
"""Errors of the data or of the settings: the same input leads to the same error again. A
`ValueError` is also what the sources, the contract and the training raise."""

TRANSIENT = (OSError, SourceUnavailableError, IncompleteLogError)
"""Errors of external systems, which a retry may help, even where they are a `ValueError` too."""

PACKAGE = f"{__name__.partition('.')[0]}."
FAILURE = f"{dg.Failure.__module__}.{dg.Failure.__qualname__}"
CHECK_FAILED = (
    f"{DagsterAssetCheckFailedError.__module__}.{DagsterAssetCheckFailedError.__qualname__}"
)
"""Error of a step whose blocking check failed: a line for people, then a line for each asset."""


class ErrorInfo(Protocol):
    """Stored error: the message, which starts with the name of the class, and the cause."""

    @property
    def message(self) -> str: ...

    @property
    def cause(self) -> "ErrorInfo | None": ...


def is_data_fault(error: Exception) -> bool:
    """Returns whether a retry of the step leads to the same error again."""
    return isinstance(error, DATA_FAULTS) and not isinstance(error, TRANSIENT)


@contextmanager
def stop_at_data_fault() -> Iterator[None]:
    """Turns a fault of the data into a failure of the step that is not retried.

    Raises:
        Failure: The data are at fault; the cause is the error itself.
    """
    try:
        yield
    except Exception as error:
        if not is_data_fault(error):
            raise
        own = type(error).__module__.startswith(PACKAGE)
        text = str(error) if own else f"{type(error).__name__}: {error}"
        raise dg.Failure(description=text, allow_retries=False) from error


def is_failed_check(error: ErrorInfo | None) -> bool:
    """Returns whether a failed blocking check stopped the step; the check reports the cause."""
    return error is not None and error.message.startswith(f"{CHECK_FAILED}: ")


def error_message(error: ErrorInfo | None) -> str:
    """Returns the message that explains an error to people.

    That is the message of the outermost error of this package, or of a `Failure`, in the chain of
    causes: it names the file, the line or the setting. Without one, it is the innermost error's.
    Of a failed blocking check it is the name; the check itself has a description.
    """
    if error is not None and is_failed_check(error):
        _, *assets = error.message.strip().splitlines()
        return f"Stopped by failed checks of {'; '.join(assets).replace(',', ', ')}"
    message = ""
    while error is not None:
        message = error.message.strip()
        name, _, text = message.partition(": ")
        if text and (name == FAILURE or name.startswith(PACKAGE)):
            return text
        error = error.cause
    return message or "The step failed without an error message."
