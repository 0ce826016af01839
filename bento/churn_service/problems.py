"""What a caller is told when a request cannot be answered: problem details (RFC 9457)."""

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
"""What a fault of a customer is a fault against, as `churn_input_data_quality_score` has it."""

LONGEST_SHOWN = 100
"""Characters of a refused value that are repeated to the caller."""

LARGEST_SHOWN = 1e18


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a body.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the value; "" is the whole body.
        detail: the rule that it breaks.
        check: one of `CHECKS`.
        value: what was there, where it is short enough to repeat.
    """

    pointer: str
    detail: str
    check: Check
    value: Any = None


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  # RFC 9457 calls it a problem
    """Ends a request with a 4xx or 5xx.

    Attributes:
        kind: a key of `STATUS`.
        detail: what is wrong with this request, for a person.
        faults: every single fault of the body.
        customers: in the body, good ones among them.
        headers: to be sent with the answer.
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
        """The JSON of RFC 9457, with the member `problems` where there are faults."""
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
    """What pydantic found, with a pointer for a place."""
    return Fault(
        pointer="".join(f"/{_escaped(part)}" for part in error["loc"]),
        detail=error["msg"],
        check=_check(error),
        value=_shown(error["input"]) if error["type"] != "missing" else None,
    )


def faulty_customers(faults: Sequence[Fault]) -> dict[str, int]:
    """How many customers of a request have a fault of each check."""
    found = {(one.check, _customer(one.pointer)) for one in faults}
    return Counter(check for check, _ in found)


def _customer(pointer: str) -> str:
    """What tells one customer of a batch from another: /customers/3 of /customers/3/age."""
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
    # A number that is too large even for its type is out of range, whatever pydantic calls it.
    return "typed" if kind.endswith("_type") else "in_range"


def _shown(value: Any) -> Any:
    """A value that may be repeated: no structures, nothing long."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "…"
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float) and abs(value) <= LARGEST_SHOWN else None
