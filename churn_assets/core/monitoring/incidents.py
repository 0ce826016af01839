"""Incidents: the state machine that turns observations of the graph into messages.

An incident opens with the first failing observation of its key and closes with the next good one.
Each incident leads to two messages, an alert when it opens and a recovery when it closes, however
often it is observed in between.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from churn_assets.contracts.contract import Frozen

Number = float | int | str


class Observation(Frozen):
    """One observation of the graph.

    Attributes:
        id: Id of the event that was observed; the same whenever that event is read.
        key: Subject of the observation; at most one incident per key is open at a time.
        kind: Kind of subject: check, run, freshness, decision.
        state: `failing` opens an incident, `well` closes it; a `notice` does neither.
        title: A few words for people.
        text: The finding, in a sentence.
        numbers: The deciding values and their limits, by name.
        since: Time of the observation.
        link: Link into the UI.
        runbook: Anchor of the runbook, empty where no action is needed.
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
    """A message to people about an observation.

    Attributes:
        id: The same for the same message, so that it is sent once.
        status: An `alert` opens an incident, a `recovery` closes it; a `notice` stands alone.
        since: Time at which the incident opened, or of the event behind a notice.
        until: Time at which the incident closed; None where it did not.
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
        """Duration of the incident, such as `1 d 2 h`; empty where it did not close."""
        return duration(self.until - self.since) if self.until else ""


Incidents = Mapping[str, Observation]
"""The open incidents by key, each with the observation that opened it."""


def update(
    open_incidents: Incidents, observations: Iterable[Observation]
) -> tuple[list[Message], dict[str, Observation]]:
    """Returns the messages that observations lead to, and the incidents open after them.

    Args:
        open_incidents: Incidents that are open before the observations.
        observations: Observations in order of time.
    """
    messages, after = [], dict(open_incidents)
    for observation in observations:
        opened = after.get(observation.key)
        if observation.state == "notice":
            messages.append(_message("notice", observation, observation))
        elif observation.state == "failing" and opened is None:
            after[observation.key] = observation
            messages.append(_message("alert", observation, observation))
        elif observation.state == "well" and opened is not None:
            del after[observation.key]
            messages.append(_message("recovery", observation, opened))
    return messages, after


def latest(observations: Iterable[Observation]) -> list[Observation]:
    """The last observation of every key, without notices, to start on an existing instance."""
    found = {
        observation.key: observation
        for observation in observations
        if observation.state != "notice"
    }
    return sorted(found.values(), key=lambda observation: observation.since)


def duration(span: timedelta) -> str:
    """Text of a time span in its two largest units: `3 s`, `2 min 5 s`, `1 h`, `4 d 2 h`."""
    left = max(0, round(span.total_seconds()))
    parts: list[tuple[int, str]] = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"


def _message(
    status: Literal["alert", "recovery", "notice"], observation: Observation, opened: Observation
) -> Message:
    return Message(
        id=f"{observation.id}:{observation.key}:{status}",
        status=status,
        kind=opened.kind,
        title=opened.title,
        text=observation.text,
        numbers=observation.numbers,
        since=opened.since,
        until=observation.since if status == "recovery" else None,
        link=observation.link,
        runbook=opened.runbook,
    )
