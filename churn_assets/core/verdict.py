"""What a check has to say: a verdict with its numbers, and numbers that JSON can hold."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        passed: the check holds.
        description: why, in a sentence that names the value and the limit.
        numbers: the values that decided, and their limits, by name.
    """

    passed: bool
    description: str
    numbers: dict[str, float | int | str] = field(default_factory=dict)


def finite(value: float | None) -> float | None:
    """`value`, or None where it is no finite number: JSON knows neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


Finite = Annotated[float | None, BeforeValidator(finite)]
"""A field of a report: a float, or null where the number cannot be computed."""


def shown(value: float | None, digits: int = 3) -> str:
    """A number for people, or "undefined"."""
    return "undefined" if value is None else f"{value:.{digits}f}"
