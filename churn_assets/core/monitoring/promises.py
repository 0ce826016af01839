"""The promise of a monthly asset: by its deadline, a month is there and as new as its inputs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from churn_assets.core.verdict import Verdict, not_judged

State = Literal["not_due", "kept", "waiting", "overdue"]
"""State of a month of an asset, where its deadline has passed and it is not up to date.

`overdue`: the asset is what is late, or the source that delivers to it. `waiting`: it cannot be
materialised, because an asset before it is not there; that one is overdue.
"""


@dataclass(frozen=True)
class Promise:
    """A month of an asset, its inputs, and its deadline. All times have a time zone.

    Attributes:
        made: Time of the latest materialisation; None where there is none.
        inputs: Time of the latest materialisation of each input, by asset; None where there is
            none. An external asset is materialised when its source delivers.
        external: Names of the inputs that the source delivers.
        deadline: Time by which the month is promised.
        time_to_follow: Time that the asset has after its inputs, where these come so late that the
            deadline leaves less.
    """

    made: datetime | None
    inputs: Mapping[str, datetime | None]
    external: Collection[str]
    deadline: datetime
    time_to_follow: timedelta

    @property
    def missing(self) -> list[str]:
        """Names of the inputs that are not there."""
        return [name for name, time in self.inputs.items() if time is None]

    @property
    def newer(self) -> list[str]:
        """Names of the inputs that were materialised after the asset."""
        made = self.made
        return [name for name, time in self.inputs.items() if made and time and time > made]

    def state(self, now: datetime) -> State:
        """Returns whether the promise is kept at a time, or broken, or cannot be kept yet."""
        if self.made and not self.newer:
            return "kept"
        if now < self.deadline:
            return "not_due"
        if self.undelivered and not self.made:
            return "overdue"
        newest = max((time for time in self.inputs.values() if time), default=None)
        if newest and now < newest + self.time_to_follow:
            return "not_due"
        return "waiting" if self.missing and not self.made else "overdue"

    @property
    def undelivered(self) -> list[str]:
        """Names of the inputs that the source has not delivered."""
        return [name for name in self.missing if name in self.external]

    def explain(self, now: datetime, cause: str = "") -> str:
        """Returns what is late and why, for people; "" for a promise that is not broken.

        Args:
            cause: Why the month is overdue, where that is known.
        """
        if (state := self.state(now)) not in ("waiting", "overdue"):
            return ""
        what = f"older than {', '.join(self.newer)}" if self.newer else "not there"
        if state == "waiting":
            why = f"it waits for {', '.join(self.missing)}"
        elif self.undelivered:
            why = cause or f"the source did not deliver it ({', '.join(self.undelivered)})"
        else:
            why = cause or "every input is there"
        return f"{what} by {self.deadline:%Y-%m-%d %H:%M} UTC: {why}"


def judge(states: Mapping[str, State], texts: Mapping[str, str]) -> Verdict:
    """Returns the verdict on the months of one asset.

    Args:
        states: State of each month that is promised.
        texts: What `explain` says of the months that are late.
    """
    late = {month: text for month, text in texts.items() if text}
    numbers: dict[str, float | int | str] = {
        "months_late": ", ".join(late) or "none",
        "months_up_to_date": sum(state == "kept" for state in states.values()),
    }
    if late:
        message = "; ".join(f"{month} is {text}" for month, text in late.items())
        return Verdict(False, f"{message}.", numbers)
    if "kept" not in states.values():
        return not_judged("no month was due yet.", numbers)
    return Verdict(True, "Every month that was due is there, and as new as its inputs.", numbers)
