"""The state of a registered model by the audit log: its champion, and the version before."""

from collections.abc import Sequence
from dataclasses import dataclass

from churn_assets.core.governance.audit import AuditEntry
from churn_assets.core.verdict import Verdict

MOVEMENTS = ("promotion", "rollback", "correction")
"""Actions of the audit log that move the champion."""


@dataclass(frozen=True)
class RegistryState:
    """Champion and previous version of a registered model by the audit log.

    Attributes:
        champion: Champion's version; None where none was promoted, or the promoted one is lost.
        previous: Version that a rollback restores.
        by: Newest entry that moved the champion.
    """

    champion: str | None = None
    previous: str | None = None
    by: AuditEntry | None = None


def registry_state(entries: Sequence[AuditEntry], name: str) -> RegistryState:
    """Returns the state of a registered model after all movements in the audit log.

    A correction undoes a move that is not in the log, so it does not change the previous version.
    """
    champion, previous, last = None, None, None
    for last in _movements(entries, name):
        if last.action != "correction" and last.before:
            previous = last.before
        champion = last.after or None
    return RegistryState(champion, previous if previous != champion else None, last)


def rollback_from(entries: Sequence[AuditEntry], name: str, version: str) -> AuditEntry | None:
    """The rollback from a version, unless that version became the champion again later."""
    for entry in reversed(_movements(entries, name)):
        if entry.action == "rollback" and entry.before == version:
            return entry
        if entry.after == version:
            return None
    return None


def _movements(entries: Sequence[AuditEntry], name: str) -> list[AuditEntry]:
    return [entry for entry in entries if entry.subject == name and entry.action in MOVEMENTS]


def approval_recorded(
    champion: str | None, previous: str | None, recorded: RegistryState
) -> Verdict:
    """The aliases in MLflow are at the versions that the audit log records.

    Args:
        champion, previous: Versions with these aliases.
        recorded: State by the audit log.
    """
    expected = "the audit log has no movement"
    if by := recorded.by:
        versions = _versions(recorded.champion, recorded.previous)
        expected = (
            f"by entry {by.sequence} of the audit log, a {by.action} by {by.actor}, {versions}"
        )
    found = _versions(champion, previous)
    passed = (champion, previous) == (recorded.champion, recorded.previous)
    numbers: dict[str, float | int | str] = {
        "value": champion or "none", "limit": recorded.champion or "none",
    }  # fmt: skip
    return Verdict(passed, f"In MLflow {found}; {expected}.", numbers)


def _versions(champion: str | None, previous: str | None) -> str:
    return f"`champion` is version {champion or 'none'} and `previous` {previous or 'none'}"
