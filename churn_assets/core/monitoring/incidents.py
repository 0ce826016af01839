"""Incidents: what is seen of the graph, and the few messages that people are sent about it.

An incident opens with the first failing observation of its key and closes with the next good one.
It is told twice, when it opens and when it closes, however often it is seen in between.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from churn_assets.contracts.contract import Frozen

Number = float | int | str


class Observation(Frozen):
    """Something that was seen once.

    Attributes:
        id: of the event that showed it; the same whenever that event is read.
        key: what it is about; one incident at a time is open for it.
        kind: what sort of thing that is: check, run, freshness, decision.
        state: `failing` opens an incident, `well` closes it; a `notice` is told and has none.
        title: for people, in a few words.
        text: what was found, in a sentence.
        numbers: values that decided, and their limits, by name.
        since: when it was seen.
        link: into the UI.
        runbook: anchor of what to do, empty where nothing is to be done.
    """

    id: str
    key: str
    kind: str
    state: Literal["failing", "well", "notice"]
    title: str
    text: str
    numbers: dict[str, Number] = Field(default_factory=dict)
    since: AwareDatetime
    link: str
    runbook: str = ""


class Message(Frozen):
    """What people are told of an observation.

    Attributes:
        id: the same for the same message, so that it can be told once.
        status: an `alert` opens an incident, a `recovery` closes it; a `notice` stands alone.
        since: when the incident began, or what is noticed happened.
        until: when it closed; None where it did not.
    """

    id: str
    status: Literal["alert", "recovery", "notice"]
    kind: str
    title: str
    text: str
    numbers: dict[str, Number]
    since: AwareDatetime
    until: AwareDatetime | None = None
    link: str
    runbook: str

    @property
    def lasted(self) -> str:
        """How long the incident lasted, such as `1 d 2 h`; empty where it did not close."""
        return duration(self.until - self.since) if self.until else ""


Incidents = Mapping[str, Observation]
"""The open incidents by key, each with the observation that opened it."""


def update(
    open_incidents: Incidents, observations: Iterable[Observation]
) -> tuple[list[Message], dict[str, Observation]]:
    """Messages that observations lead to, and the incidents that are open after them.

    Args:
        open_incidents: before the observations.
        observations: in the order in which they were made.
    """
    messages, after = [], dict(open_incidents)
    for seen in observations:
        opened = after.get(seen.key)
        if seen.state == "notice":
            messages.append(_message("notice", seen, seen))
        elif seen.state == "failing" and opened is None:
            after[seen.key] = seen
            messages.append(_message("alert", seen, seen))
        elif seen.state == "well" and opened is not None:
            del after[seen.key]
            messages.append(_message("recovery", seen, opened))
    return messages, after


def latest(observations: Iterable[Observation]) -> list[Observation]:
    """The last observation of every key, for a start in the middle of things; no notices."""
    found = {seen.key: seen for seen in observations if seen.state != "notice"}
    return sorted(found.values(), key=lambda seen: seen.since)


def duration(span: timedelta) -> str:
    """A span for people, in its two largest units: `3 s`, `2 min 5 s`, `1 h`, `4 d 2 h`."""
    left = max(0, round(span.total_seconds()))
    parts: list[tuple[int, str]] = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"


def _message(
    status: Literal["alert", "recovery", "notice"], seen: Observation, opened: Observation
) -> Message:
    return Message(
        id=f"{seen.id}:{seen.key}:{status}",
        status=status,
        kind=opened.kind,
        title=opened.title,
        text=seen.text,
        numbers=seen.numbers,
        since=opened.since,
        until=seen.since if status == "recovery" else None,
        link=seen.link,
        runbook=opened.runbook,
    )
