"""Audit log entries: decisions with actor, reason and evidence, in a tamper-evident hash chain.

Each entry holds the hash of the previous entry and a hash of its own content, which includes the
previous hash, as in Haber and Stornetta, "How to time-stamp a digital document" (1991). Whoever
alters an entry must recreate all later entries, and then the last hash no longer matches the hash
in the champion's record.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime

from churn_assets.contracts.contract import Frozen
from churn_assets.core.verdict import Verdict, not_judged

START = "0" * 64
"""The previous hash of the first entry."""


class AuditEntry(Frozen):
    """One decision, chained to the previous one.

    Attributes:
        sequence: Number of the entry, from 1 on.
        at: Time of the decision, in UTC.
        actor: The person who decided, or `policy`.
        action: Kind of decision: promotion, rollback, correction, override, rescore.
        subject: Asset or registered model that the decision is about.
        before, after: States before and after the decision, such as versions of a model.
        evidence: Basis of the decision: checks, run ids, table versions; any JSON.
        previous_hash: Hash of the previous entry.
        hash: SHA-256 of all other fields.
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
        """The correct value of `hash`."""
        content = canonical(self.model_dump(mode="json", exclude={"hash"}))
        return hashlib.sha256(content.encode()).hexdigest()


def next_entry(entries: Sequence[AuditEntry], at: datetime, **fields: Any) -> AuditEntry:
    """Returns the entry that follows `entries`.

    Args:
        entries: The whole chain, in order.
        at: Time of the decision, with a time zone.
        fields: Actor, action, subject, reason, before, after, evidence.

    Raises:
        ValueError: The evidence is not valid JSON; NaN is not valid.
    """
    last = entries[-1] if entries else None
    entry = AuditEntry(
        sequence=last.sequence + 1 if last else 1,
        at=at.astimezone(UTC),
        previous_hash=last.hash if last else START,
        hash="",
        **fields | {"evidence": json.loads(canonical(fields["evidence"]))},
    )
    return entry.model_copy(update={"hash": entry.hash_of_content})


def canonical(value: Any) -> str:
    """Canonical text of a value: JSON with sorted keys and without spaces.

    Raises:
        ValueError: The value contains NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def verify(entries: Sequence[AuditEntry], anchor: str = "", written: int | None = None) -> Verdict:
    """Verifies that no entry was altered, removed, added or moved.

    The chain alone does not show that its end was removed or that all of it was recreated: that
    takes `anchor` or `written`, which are known from elsewhere.

    Args:
        entries: The chain in order, first entry first.
        anchor: Hash of an entry that must exist; empty where none is known.
        written: Number of entries that were ever written; None where it is unknown.

    Returns:
        A verdict that names the first entry that is not as it was written, and what is wrong.
    """
    for position, fault in enumerate(_faults(entries), start=1):
        if fault:
            return broken(position, len(entries), fault)
    after = len(entries) + 1
    if anchor and anchor not in {entry.hash for entry in entries}:
        fault = f"is missing, or all entries were recreated: none has the hash {anchor}"
        return broken(after, len(entries), fault)
    if written is not None and written >= after:
        return broken(after, len(entries), f"is missing: {written} entries were written")
    if written is not None and written < len(entries):
        return broken(written + 1, len(entries), f"was inserted: {written} entries were written")
    if not entries:
        why = "the audit log has no entry yet; at least one is needed."
        return not_judged(why, {"value": 0, "limit": 0, "entries": 0})
    last = entries[-1].hash
    text = f"{len(entries)} entries, each as it was written; the last has hash {last}."
    return Verdict(True, text, {"value": 0, "limit": 0, "entries": len(entries), "last": last})


def broken(position: int, entries: int, fault: str) -> Verdict:
    """A failed verdict on the entry at `position`."""
    return Verdict(
        False,
        f"Entry {position} {fault}.",
        {"value": 1, "limit": 0, "entries": entries, "first_altered": position},
    )


def _faults(entries: Sequence[AuditEntry]) -> Iterable[str]:
    """The fault of each entry, in order; empty where the entry is correct."""
    numbers = {entry.sequence for entry in entries}
    previous_hash = START
    for position, entry in enumerate(entries, start=1):
        if entry.hash != entry.hash_of_content:
            yield f"was altered: its hash does not match its content (action {entry.action!r})"
        elif entry.sequence != position:
            missing = "moved" if position in numbers else "missing"
            yield f"is {missing}: entry {entry.sequence} is in its place"
        elif entry.previous_hash != previous_hash:
            yield f"does not follow from entry {position - 1}: one of the two was recreated"
        else:
            yield ""
        previous_hash = entry.hash
