"""The audit log as an append-only table in the lake, one row per entry."""

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
    """An entry cannot be read; the message names the entry."""


@dataclass(frozen=True)
class AuditLog:
    """All movements of an alias, overrides and approvals, in order."""

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
        """Appends a decision; concurrent appends are ordered one after the other.

        Args:
            action: Kind of decision; see `AuditEntry`.
            actor: The person who decided, or `policy`.
            subject: Asset or registered model.
            before, after: States before and after the decision.
            evidence: Basis of the decision; any JSON with finite numbers.
            require: Called with the entries so far; raises where the decision no longer fits them.

        Raises:
            AuditError: The log cannot be read, so nothing can be appended.
        """
        made: list[AuditEntry] = []

        def new_rows(rows: pd.DataFrame) -> pd.DataFrame:
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

        self.lake.append(TABLE, SCHEMA, new_rows)
        return made[-1]

    def entries(self) -> list[AuditEntry]:
        """All entries in order; none where the log does not exist yet.

        Raises:
            AuditError: An entry cannot be read.
        """
        return [_entry(row) for row in self._read()[0]]

    def verify(self, anchor: str = "") -> Verdict:
        """Verifies that the log is as it was written, with `core.governance.audit.verify`.

        The Delta log lists every commit, so the removal of entries is detected. If somebody deletes
        the table's last files together with their commits, `anchor` detects it where the champion
        moved in them. The number of a later override is in the metadata of the asset that it
        materialised.

        Args:
            anchor: Hash of an entry that must exist, from the record of the champion.
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
        """The rows in order, and the number of rows that were ever appended."""
        try:
            rows = self.lake.read(TABLE)
        except LakeError:
            return [], 0
        return _in_order(rows), self.lake.appended(TABLE, rows.attrs[PROVENANCE][TABLE])


def remembered_hash(record: UPath) -> str:
    """Hash of the entry in the champion's record; empty where there is no record."""
    if not record.is_file():
        return ""
    return str(json.loads(record.read_text(encoding="utf-8"))["audit_hash"])


def _in_order(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows by sequence number; rows with the same number by their time."""
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
