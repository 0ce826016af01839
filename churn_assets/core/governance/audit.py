"""What was decided, by whom, why and on which evidence, as a chain that shows any change.

Each entry holds the hash of the one before, and the hash of itself with that in it, as in Haber and
Stornetta, "How to time-stamp a digital document" (1991). Whoever alters an entry must make all
later ones anew, and then they no longer end in the hash that the champion's record holds.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime

from churn_assets.contracts.contract import Frozen
from churn_assets.core.verdict import Verdict

START = "0" * 64
"""The hash before the first entry."""


class AuditEntry(Frozen):
    """One decision, chained to the one before it.

    Attributes:
        sequence: from 1 on.
        at: in UTC.
        actor: who decided: a person, or `policy`.
        action: what was done: promotion, rollback, override, rescore.
        subject: what it was done to: an asset, or a registered model.
        before, after: the state that was left and the one reached, such as versions of a model.
        evidence: what the decision rests on: checks, run ids, table versions; anything JSON.
        previous_hash: of the entry before.
        hash: SHA-256 of all the rest.
    """

    sequence: int
    at: AwareDatetime
    actor: str
    action: str
    subject: str
    reason: str
    before: str
    after: str
    evidence: dict[str, Any]
    previous_hash: str
    hash: str

    @property
    def hash_of_content(self) -> str:
        """What `hash` must be."""
        content = canonical(self.model_dump(mode="json", exclude={"hash"}))
        return hashlib.sha256(content.encode()).hexdigest()


def next_entry(entries: Sequence[AuditEntry], at: datetime, **said: Any) -> AuditEntry:
    """The entry that goes behind `entries`.

    Args:
        entries: the whole chain, in order.
        at: with a time zone.
        said: actor, action, subject, reason, before, after, evidence.

    Raises:
        ValueError: the evidence is not JSON; NaN is not either.
    """
    last = entries[-1] if entries else None
    entry = AuditEntry(
        sequence=last.sequence + 1 if last else 1,
        at=at.astimezone(UTC),
        previous_hash=last.hash if last else START,
        hash="",
        **said | {"evidence": json.loads(canonical(said["evidence"]))},
    )
    return entry.model_copy(update={"hash": entry.hash_of_content})


def canonical(value: Any) -> str:
    """One text for one value: JSON with sorted keys and without spaces.

    Raises:
        ValueError: there is a number in it that JSON does not know.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def verify(entries: Sequence[AuditEntry], anchor: str = "", written: int | None = None) -> Verdict:
    """Whether nothing was altered, removed, added or moved.

    A chain alone does not show that its end was cut off, or that all of it was made anew: that
    takes somebody else who remembers it.

    Args:
        entries: the chain in order, first entry first.
        anchor: hash of an entry that must be there; empty where nobody remembers one.
        written: how many entries were ever written; None where nobody has counted.

    Returns:
        A verdict that names the first entry that is not as it was written, and what is wrong.
    """
    for place, fault in enumerate(_faults(entries), start=1):
        if fault:
            return broken(place, len(entries), fault)
    after = len(entries) + 1
    if anchor and anchor not in {entry.hash for entry in entries}:
        fault = f"is missing, or all were made anew: none has hash {anchor}"
        return broken(after, len(entries), fault)
    if written is not None and written >= after:
        return broken(after, len(entries), f"is missing: {written} entries were written")
    if written is not None and written < len(entries):
        return broken(written + 1, len(entries), f"was slipped in: {written} entries were written")
    last = entries[-1].hash if entries else START
    text = f"{len(entries)} entries, each as it was written; the last has hash {last}."
    return Verdict(True, text, {"value": 0, "limit": 0, "entries": len(entries), "last": last})


def broken(place: int, entries: int, fault: str) -> Verdict:
    """A verdict on the entry that should stand at `place`."""
    return Verdict(
        False,
        f"Entry {place} {fault}.",
        {"value": 1, "limit": 0, "entries": entries, "first_altered": place},
    )


def _faults(entries: Sequence[AuditEntry]) -> Iterable[str]:
    """What is wrong with each entry in its place; empty where nothing is."""
    numbers = {entry.sequence for entry in entries}
    before = START
    for place, entry in enumerate(entries, start=1):
        if entry.hash != entry.hash_of_content:
            yield f"was altered: it says {entry.action!r}, and its content does not give its hash"
        elif entry.sequence != place:
            missing = "moved" if place in numbers else "missing"
            yield f"is {missing}: in its place stands entry {entry.sequence}"
        elif entry.previous_hash != before:
            yield f"does not follow from entry {place - 1}: one of the two was made anew"
        else:
            yield ""
        before = entry.hash
