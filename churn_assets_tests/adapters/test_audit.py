"""The audit log in a real lake: one unbroken chain, and every change is detected."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from upath import UPath

from churn_assets.adapters.audit import TABLE, AuditError, AuditLog, remembered_hash
from churn_assets.adapters.lake import Lake
from churn_assets.core.governance.audit import AuditEntry
from churn_assets_tests.documents import ROOT

EACH = 8
WRITER = """
import sys
from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
for i in range(int(sys.argv[3])):
    AuditLog(Lake(sys.argv[1])).append(
        action="override", actor=sys.argv[2], subject="a", reason=str(i), evidence={"i": i}
    )
"""


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    audit = AuditLog(Lake(str(tmp_path / "lake")))
    for i in range(3):
        audit.append(
            action="promotion", actor="ada", subject="m", reason=f"reason {i}", after=str(i),
            evidence={"auc": 0.1 + 0.2, "checks": ["a", None], "run": {"id": i}},
        )  # fmt: skip
    return audit


def rewrite(log: AuditLog, rows: pd.DataFrame) -> None:
    """Rewrites the table, as anybody with write access to the lake could."""
    uri = f"{log.lake.root}/{TABLE}"
    DeltaTable(uri).alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(uri, rows, mode="overwrite")


def test_written_entries_are_read_back_unchanged(log: AuditLog) -> None:
    entries = log.entries()
    assert [(e.sequence, e.after, e.reason) for e in entries] == [
        (1, "0", "reason 0"), (2, "1", "reason 1"), (3, "2", "reason 2"),
    ]  # fmt: skip
    assert entries[2].evidence == {"auc": 0.1 + 0.2, "checks": ["a", None], "run": {"id": 2}}
    assert log.verify().passed
    assert log.verify(anchor=entries[1].hash).passed


def test_a_log_that_does_not_exist_passes(tmp_path: Path) -> None:
    empty = AuditLog(Lake(str(tmp_path)))
    assert empty.entries() == []
    assert empty.verify().passed


def test_concurrent_processes_write_one_unbroken_chain(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name, str(EACH)], cwd=ROOT,
            stderr=subprocess.PIPE, text=True,
        )
        for name in ("ada", "bob")
    ]  # fmt: skip
    for writer in writers:
        _, errors = writer.communicate(timeout=100)
        assert writer.returncode == 0, errors
    log = AuditLog(Lake(str(tmp_path)))
    entries = log.entries()
    assert [entry.sequence for entry in entries] == list(range(1, 2 * EACH + 1))
    for name in ("ada", "bob"):
        own = [entry.reason for entry in entries if entry.actor == name]
        assert own == [str(i) for i in range(EACH)]
    assert log.verify().passed


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("actor", "eve", "Entry 2 was altered"),
        ("evidence", "{}", "Entry 2 was altered"),
        ("evidence", "no json", "Entry 2 was altered: entry 2 of audit_log cannot be read"),
        ("at", "2020-01-01T00:00:00Z", "Entry 2 was altered"),
        ("sequence", 7, "Entry 2 is missing: entry 3 is in its place"),
        ("reason", None, "Entry 2 was altered: entry 2 of audit_log cannot be read"),
    ],
)
def test_an_altered_entry_is_named(log: AuditLog, column: str, value: object, named: str) -> None:
    rows = log.lake.read(TABLE)
    rows.loc[rows["sequence"] == 2, column] = value
    rewrite(log, rows)
    verdict = log.verify()
    assert not verdict.passed
    assert verdict.description.startswith(named)
    assert verdict.numbers["first_altered"] == 2


@pytest.mark.parametrize(("removed", "named"), [((1,), 1), ((2,), 2), ((3,), 3), ((2, 3), 2)])
def test_a_removed_entry_is_named(log: AuditLog, removed: tuple[int, ...], named: int) -> None:
    rows = log.lake.read(TABLE)
    rewrite(log, rows[~rows["sequence"].isin(removed)].reset_index(drop=True))
    verdict = log.verify()
    assert verdict.description.startswith(f"Entry {named} is missing")
    assert verdict.numbers["first_altered"] == named


def test_removed_last_entries_are_detected_after_later_appends(log: AuditLog) -> None:
    rows = log.lake.read(TABLE)
    rewrite(log, rows[rows["sequence"] < 3].reset_index(drop=True))
    log.append(action="override", actor="eve", subject="a", reason="r")
    assert log.verify().description.startswith("Entry 4 is missing: 4 entries were written")


def test_swapped_entries_are_named_at_the_first(log: AuditLog) -> None:
    rows = log.lake.read(TABLE)
    rows["sequence"] = rows["sequence"].map({1: 1, 2: 3, 3: 2})
    rewrite(log, rows)
    assert log.verify().description.startswith("Entry 2 was altered")


def test_the_anchor_detects_files_deleted_with_their_commits(
    log: AuditLog,
) -> None:
    last = log.entries()[-1].hash
    folder = Path(log.lake.root, TABLE)
    (folder / "_delta_log" / f"{3:020}.json").unlink()
    assert log.verify().passed
    assert log.verify(anchor=last).description.startswith("Entry 3 is missing")


def test_a_restored_table_passes(log: AuditLog) -> None:
    rows = log.lake.read(TABLE)
    rewrite(log, rows.head(0))
    assert not log.verify().passed
    DeltaTable(f"{log.lake.root}/{TABLE}").restore(3)
    assert log.verify().passed


def test_a_decision_that_does_not_fit_the_entries_is_not_appended(log: AuditLog) -> None:
    def require(entries: Sequence[AuditEntry]) -> None:
        assert len(entries) == 3
        raise ValueError("too late")

    with pytest.raises(ValueError, match="too late"):
        log.append(action="promotion", actor="ada", subject="m", reason="r", require=require)
    assert len(log.entries()) == 3


def test_nothing_is_appended_after_an_unreadable_entry(log: AuditLog) -> None:
    rows = log.lake.read(TABLE)
    rows.loc[rows["sequence"] == 2, "evidence"] = "{"
    rewrite(log, rows)
    with pytest.raises(AuditError, match="entry 2 of audit_log cannot be read"):
        log.append(action="override", actor="ada", subject="a", reason="r")


def test_the_table_is_append_only(log: AuditLog) -> None:
    with pytest.raises(DeltaError, match="append"):
        DeltaTable(f"{log.lake.root}/{TABLE}").delete("sequence = 1")


def test_the_anchor_is_read_from_the_champions_record(tmp_path: Path) -> None:
    record = UPath(tmp_path / "promoted_model.json")
    assert remembered_hash(record) == ""
    record.write_text('{"audit_hash": "abc"}')
    assert remembered_hash(record) == "abc"
