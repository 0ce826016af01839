"""The champion by the audit log."""

from datetime import UTC, datetime

import pytest

from churn_assets.core.governance.audit import AuditEntry, next_entry
from churn_assets.core.governance.registry import (
    RegistryState,
    approval_recorded,
    registry_state,
    rollback_from,
)


def movements(*moves: tuple[str, str, str]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for action, before, after in moves:
        entries.append(
            next_entry(
                entries,
                datetime(2026, 1, 1, tzinfo=UTC),
                actor="ada",
                action=action,
                subject="m",
                reason="",
                before=before,
                after=after,
                evidence={},
            )
        )
    return entries


def test_the_newest_movement_determines_the_champion() -> None:
    entries = movements(("promotion", "", "1"), ("promotion", "1", "2"), ("override", "x", "y"))
    state = registry_state(entries, "m")
    assert state == RegistryState("2", "1", entries[1])
    assert approval_recorded("2", "1", state).passed
    for found in (("1", "1"), (None, "1"), ("2", None), ("2", "3")):
        assert not approval_recorded(*found, state).passed
    assert not approval_recorded("1", None, RegistryState()).passed
    assert approval_recorded(None, None, RegistryState()).passed
    assert registry_state(entries, "another") == RegistryState()


@pytest.mark.parametrize(
    ("moves", "champion", "previous"),
    [
        ([("promotion", "1", "2"), ("rollback", "2", "1")], "1", "2"),
        ([("promotion", "1", "2"), ("correction", "9", "2")], "2", "1"),
        ([("promotion", "1", "2"), ("correction", "", "")], None, "1"),
        ([("promotion", "1", "2"), ("correction", "", ""), ("rollback", "", "1")], "1", None),
        ([("correction", "4", "4"), ("promotion", "4", "5")], "5", "4"),
    ],
)
def test_a_correction_does_not_set_the_previous_version(
    moves: list[tuple[str, str, str]], champion: str | None, previous: str | None
) -> None:
    state = registry_state(movements(*moves), "m")
    assert (state.champion, state.previous) == (champion, previous)


def test_a_rollback_counts_until_that_version_is_promoted_again() -> None:
    entries = movements(("promotion", "1", "2"), ("rollback", "2", "1"), ("promotion", "1", "3"))
    assert rollback_from(entries, "m", "2") is entries[1]
    assert rollback_from(entries, "m", "3") is None
    again = movements(("rollback", "2", "1"), ("promotion", "1", "2"))
    assert rollback_from(again, "m", "2") is None
