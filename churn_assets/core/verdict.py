"""Verdict of a check with its numbers, and floats that JSON can represent."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        passed: Whether the check passed.
        description: Reason, in a sentence that names the value and the limit.
        numbers: Values that decided, and their limits, by name.
    """

    passed: bool
    description: str
    numbers: dict[str, float | int | str] = field(default_factory=dict)


def finite(value: float | None) -> float | None:
    """Returns `value`, or None if it is not finite: JSON has neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


Finite = Annotated[float | None, BeforeValidator(finite)]
"""Field of a report: a float, or null if the number cannot be computed."""


def shown(value: float | None, digits: int = 3) -> str:
    """Returns the formatted number, or "undefined" for None."""
    return "undefined" if value is None else f"{value:.{digits}f}"
