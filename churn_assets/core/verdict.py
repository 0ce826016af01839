"""Verdict of a check with its numbers, and floats that JSON can represent."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator

Outcome = Literal["passed", "failed", "not judged"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        passed: Whether the check found no fault; true also where there was nothing to judge.
        description: Reason, in a sentence that names the value and the limit.
        numbers: Values that decided, and their limits, by name.
        judged: Whether there was something to judge; see `not_judged`.
    """

    passed: bool
    description: str
    numbers: dict[str, float | int | str] = field(default_factory=dict)
    judged: bool = True

    @property
    def outcome(self) -> Outcome:
        """One of three states; who needs a proof asks whether it is `passed`."""
        if not self.judged:
            return "not judged"
        return "passed" if self.passed else "failed"


def not_judged(why: str, numbers: dict[str, float | int | str] | None = None) -> Verdict:
    """Returns the verdict of a check that has nothing to judge.

    A check that demands something, such as rows or a proof, fails where that is missing instead.

    Args:
        why: What is missing, and what would have to be there.
        numbers: Limits, and what was found, by name.
    """
    return Verdict(True, f"Not judged: {why}", numbers or {}, judged=False)


def finite(value: float | None) -> float | None:
    """Returns `value`, or None if it is not finite: JSON has neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


Finite = Annotated[float | None, BeforeValidator(finite)]
"""Field of a report: a float, or null if the number cannot be computed."""


def shown(value: float | None, digits: int = 3) -> str:
    """Returns the formatted number, or "undefined" for None."""
    return "undefined" if value is None else f"{value:.{digits}f}"
