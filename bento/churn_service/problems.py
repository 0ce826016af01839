"""Problem details (RFC 9457), which the service sends when it refuses a request."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, get_args

import pydantic_core
from pydantic_core import ErrorDetails

CONTENT_TYPE = "application/problem+json"
URN = "urn:churn:problem:"

STATUS = {
    "malformed": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not-found": HTTPStatus.NOT_FOUND,
    "method-not-allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "timeout": HTTPStatus.REQUEST_TIMEOUT,
    "too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported-media-type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "validation": HTTPStatus.UNPROCESSABLE_ENTITY,
    "rate-limited": HTTPStatus.TOO_MANY_REQUESTS,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""HTTP status of each type of problem."""

Check = Literal["complete", "typed", "in_range", "known_fields", "known_categories"]
CHECKS: tuple[str, ...] = get_args(Check)
"""Checks that a faulty customer fails; label values of `churn_input_data_quality_score`."""

LONGEST_SHOWN = 100
"""Most characters of a refused value that a response repeats."""

LARGEST_SHOWN = 1e18
"""Largest absolute value of a refused number that a response repeats."""


@dataclass(frozen=True)
class Fault:
    """One fault of a request body.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the value; "" is the whole body.
        detail: Rule that the value breaks.
        check: One of `CHECKS`.
        value: The refused value, where it is short enough to repeat; else None.
    """

    pointer: str
    detail: str
    check: Check
    value: Any = None


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  # RFC 9457 calls it a problem
    """Ends a request with a 4xx or 5xx response.

    Attributes:
        kind: Key of `STATUS`.
        detail: Description of the problem for a person.
        faults: All faults of the body.
        customers: Number of customers in the body, with and without faults.
        headers: Additional headers of the response.
    """

    kind: str
    detail: str
    faults: Sequence[Fault] = ()
    customers: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return int(STATUS[self.kind])

    def body(self) -> bytes:
        """The JSON body by RFC 9457, with the member `problems` where the body has faults."""
        about: dict[str, Any] = {
            "type": URN + self.kind,
            "title": STATUS[self.kind].phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            about["problems"] = self.faults
        return pydantic_core.to_json(about)


def fault(error: ErrorDetails) -> Fault:
    """Converts an error of pydantic."""
    return Fault(
        pointer="".join(f"/{_escaped(part)}" for part in error["loc"]),
        detail=error["msg"],
        check=_check(error),
        value=_shown(error["input"]) if error["type"] != "missing" else None,
    )


def faulty_customers(faults: Sequence[Fault]) -> dict[str, int]:
    """Counts the customers of a request that fail each check."""
    found = {(one.check, _customer(one.pointer)) for one in faults}
    return Counter(check for check, _ in found)


def _customer(pointer: str) -> str:
    """The index of a customer in a batch, "3" in /customers/3/age; "" outside of a batch."""
    parts = pointer.split("/")
    return parts[2] if parts[1:2] == ["customers"] and len(parts) > 2 else ""


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _check(error: ErrorDetails) -> Check:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "known_fields"
    if kind == "missing" or error["input"] is None:
        return "complete"
    if kind in ("literal_error", "enum"):
        return "known_categories"
    # A number too large for its type is out of range too, although pydantic's error differs.
    return "typed" if kind.endswith("_type") else "in_range"


def _shown(value: Any) -> Any:
    """The value as a response may repeat it: no structures and nothing long."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "…"
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float) and abs(value) <= LARGEST_SHOWN else None
