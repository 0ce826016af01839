"""The audit log: a table in the lake that only grows, one row an entry."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError
from upath import UPath

from churn_assets.adapters.lake import PROVENANCE, Lake, LakeError
from churn_assets.core.governance.audit import AuditEntry, broken, canonical, next_entry, verify
from churn_assets.core.verdict import Verdict

TABLE = "audit_log"
SCHEMA = pa.schema(
    [(name, pa.int64() if name == "sequence" else pa.string()) for name in AuditEntry.model_fields]
)


class AuditError(RuntimeError):
    """An entry that cannot be read; the message names it."""


@dataclass(frozen=True)
class AuditLog:
    """Every movement of an alias, every override and every approval, in order."""

    lake: Lake

    def append(
        self,
        *,
        action: str,
        actor: str,
        subject: str,
        reason: str,
        before: str = "",
        after: str = "",
        evidence: Mapping[str, Any] | None = None,
        require: Callable[[Sequence[AuditEntry]], None] = lambda _: None,
    ) -> AuditEntry:
        """Adds a decision at the end; of two that do so at once, one comes behind the other.

        Args:
            action: promotion, rollback, override, rescore.
            actor: who decided.
            subject: an asset, or a registered model.
            before, after: the state left and the one reached.
            evidence: what it rests on; anything JSON, numbers finite.
            require: raises where the decision no longer fits the entries that it would follow.

        Raises:
            AuditError: the log cannot be read, so nothing can be added behind it.
        """
        made: list[AuditEntry] = []

        def behind(rows: pd.DataFrame) -> pd.DataFrame:
            entries = [_entry(row) for row in _in_order(rows)]
            require(entries)
            entry = next_entry(
                entries,
                datetime.now(UTC),
                action=action,
                actor=actor,
                subject=subject,
                reason=reason,
                before=before,
                after=after,
                evidence=dict(evidence or {}),
            )
            made.append(entry)
            return pd.DataFrame([_row(entry)])

        self.lake.append(TABLE, SCHEMA, behind)
        return made[-1]

    def entries(self) -> list[AuditEntry]:
        """All entries, first one first; none where nothing was ever decided.

        Raises:
            AuditError: an entry cannot be read.
        """
        return [_entry(row) for row in self._read()[0]]

    def verify(self, anchor: str = "") -> Verdict:
        """Whether the log is as it was written, as `core.audit.verify` finds.

        Every commit of a Delta table is on record, so one that took entries away shows. Who
        deletes the table's last files, commits and all, is found by `anchor` if the champion moved
        there; of an override that was written later, the asset that it made knows the number.

        Args:
            anchor: hash of an entry that must be there, from the record of the champion.
        """
        entries: list[AuditEntry] = []
        rows, written = self._read()
        for row in rows:
            try:
                entries.append(_entry(row))
            except AuditError as error:
                readable = verify(entries)
                fault = f"was altered: {error}"
                return broken(len(entries) + 1, len(rows), fault) if readable.passed else readable
        return verify(entries, anchor, written)

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """The rows in order, and how many were ever added."""
        try:
            rows = self.lake.read(TABLE)
        except LakeError:
            return [], 0
        return _in_order(rows), self.lake.appended(TABLE, rows.attrs[PROVENANCE][TABLE])


def remembered_hash(record: UPath) -> str:
    """Hash of the entry that the record of the champion names; empty where there is no record."""
    if not record.is_file():
        return ""
    return str(json.loads(record.read_text(encoding="utf-8"))["audit_hash"])


def _in_order(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows by number; of two with the same number, first the one that says it was first."""
    ordered = rows.sort_values(["sequence", "at"])
    records = ordered.astype(object).where(ordered.notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def _row(entry: AuditEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json") | {"evidence": canonical(entry.evidence)}


def _entry(row: Mapping[str, Any]) -> AuditEntry:
    try:
        return AuditEntry.model_validate({**row, "evidence": json.loads(row["evidence"] or "")})
    except (ValidationError, ValueError) as error:
        raise AuditError(f"entry {row['sequence']} of {TABLE} cannot be read: {error}") from error
