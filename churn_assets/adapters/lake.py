"""Tables on Delta Lake: one table per asset, one partition per month, every version kept.

This module uses `deltalake` directly, because `dagster-deltalake` 0.29 returns only the first of
several months and overwrites a whole table where its partition is a string.
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import (
    before_sleep_log,
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random,
    wait_random_exponential,
)

from churn_assets.contracts.contract import MONTH

PROVENANCE = "lake"
"""Key in `DataFrame.attrs` of the table versions that a frame was read from."""

SOURCE_KEY, WRITE_ID = "source.", "write"
"""Keys in a commit's metadata: versions of its sources, and a unique id of the write."""

RECENT_COMMITS = 100

KEEP_VERSIONS: Mapping[str, str | None] = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
"""By default, Delta deletes old versions after 30 days."""

APPEND_ONLY = {**KEEP_VERSIONS, "delta.appendOnly": "true"}

Versions = dict[str, int]

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
ON_CONFLICT: dict[str, Any] = {
    "retry": retry_if_exception_type(CommitFailedError),
    "before_sleep": before_sleep_log(log, logging.INFO),
    "reraise": True,
}
retry_commit: Callable[[F], F] = retry(
    wait=wait_random_exponential(0.2, max=10), stop=stop_after_attempt(12), **ON_CONFLICT
)
"""With two writers of one month, Delta refuses the later commit, which is then retried."""
retry_append: Callable[[F], F] = retry(
    wait=wait_random(0, 0.5), stop=stop_after_attempt(60), **ON_CONFLICT
)
"""An append may wait for all concurrent appends, which are short: many short retries."""


class LakeError(LookupError):
    """A table, a month or a version does not exist in the lake."""


@dataclass(frozen=True)
class WriteResult:
    """Result of a write: rows and bytes of the part written, and the new version of the table."""

    rows: int
    bytes: int
    version: int


@dataclass(frozen=True)
class Lake:
    """Delta tables below one path or object-store URL.

    Attributes:
        root: Local path or URL.
        options: Storage options of the object store.
    """

    root: str
    options: Mapping[str, str] = field(default_factory=dict)

    def write(
        self,
        table: str,
        frame: pd.DataFrame,
        month: str | None = None,
        sources: Versions | None = None,
    ) -> WriteResult:
        """Replaces a month of a table, or the whole table, in one atomic commit.

        Writing the same rows again leaves the content unchanged, at a new version.

        Args:
            month: Month of all rows of the frame; None replaces the whole table.
            sources: Versions of the tables that the frame was derived from, kept in the commit.
        """
        arrow = pa.Table.from_pandas(_storable(frame), preserve_index=False)
        return self._write(table, arrow, month, dict(sources or {}))

    @retry_commit
    def _write(
        self, table: str, arrow: pa.Table, month: str | None, sources: Versions
    ) -> WriteResult:
        by = None if month is None else [MONTH]
        self._create(table, arrow.schema, partition_by=by, configuration=KEEP_VERSIONS)
        if month is not None:
            self._require_types(table, arrow)
        write_id = str(uuid.uuid4())
        write_deltalake(
            self._uri(table),
            arrow,
            mode="overwrite",
            predicate=None if month is None else f"{MONTH} = '{month}'",
            schema_mode="merge" if month is not None else "overwrite",
            storage_options=dict(self.options),
            commit_properties=CommitProperties(
                custom_metadata={WRITE_ID: write_id}
                | {SOURCE_KEY + name: str(version) for name, version in sources.items()}
            ),
        )
        # Another writer may have committed since: the newest version may not be this write.
        commit = next(
            c for c in self._commits(table, RECENT_COMMITS) if c.get(WRITE_ID) == write_id
        )
        delta = self._open(table, commit["version"])
        if (held := _total("num_records", delta, month)) != arrow.num_rows:
            # Delta detects no conflict between two writers that replace a whole, empty table.
            raise CommitFailedError(f"table {table!r} holds {held} rows, not {arrow.num_rows}")
        return WriteResult(
            rows=arrow.num_rows, bytes=_total("size_bytes", delta, month), version=commit["version"]
        )

    @retry_append
    def append(
        self, table: str, schema: pa.Schema, make: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> None:
        """Appends rows computed from the existing rows, with no other writer in between.

        The table is append-only: Delta refuses to remove its rows.

        Args:
            schema: Schema of the table, which is created where it does not exist.
            make: Computes the new rows from all existing rows; called again where another writer
                was first.
        """
        self._create(table, schema, configuration=APPEND_ONLY)
        delta = self._open(table)
        rows = make(delta.to_pandas(types_mapper=_types))
        write_deltalake(
            delta,
            pa.Table.from_pandas(rows, schema=schema, preserve_index=False),
            mode="append",
            # A retry by Delta would append after rows that `make` has not seen.
            commit_properties=CommitProperties(max_commit_retries=0),
        )

    def _create(self, table: str, schema: pa.Schema, **layout: Any) -> None:
        """Creates an empty table where it does not exist.

        If two writers created the table with their first rows, Delta would keep the rows of both:
        it detects a conflict only between writers that started from a common version.
        """
        DeltaTable.create(
            self._uri(table),
            schema=schema,
            mode="ignore",
            storage_options=dict(self.options),
            # Of two writers that create at once, a retry by Delta would commit a second creation,
            # possibly after the first rows, with a schema that lacks their columns.
            commit_properties=CommitProperties(max_commit_retries=0),
            **layout,
        )

    def _require_types(self, table: str, arrow: pa.Table) -> None:
        """Refuses a column whose type has changed: Delta would cast its values, 3.75 to 3."""
        current = {f.name: str(f.type) for f in self._open(table).schema().fields}
        given = {f.name: str(f.type) for f in Schema.from_arrow(arrow.schema).fields}
        changed = [
            f"{name} was {current[name]} and is {kind} now"
            for name, kind in given.items()
            if current.get(name, kind) != kind
        ]
        if changed:
            raise LakeError(
                f"columns of table {table!r} in {self.root} have changed their type: "
                f"{'; '.join(changed)}; remove the table or set another CHURN_LAKE, and "
                "materialise its months again"
            )

    def read(
        self, table: str, months: Sequence[str] | None = None, version: int | None = None
    ) -> pd.DataFrame:
        """Reads months of a table as one frame.

        Args:
            months: Months to read; None reads all months.
            version: An earlier version of the table; None reads the newest.

        Returns:
            The rows, in any order; `attrs["lake"]` holds the version that was read.

        Raises:
            LakeError: The table, one of the months or the version does not exist.
        """
        delta = self._open(table, version)
        if months is not None:
            self._require(delta, table, months)
        filters = None if months is None else [(MONTH, "in", list(months))]
        frame: pd.DataFrame = delta.to_pandas(filters=filters, types_mapper=_types)
        frame.attrs[PROVENANCE] = {table: delta.version()}
        return frame

    def months(self, table: str) -> list[str]:
        """Months of a table, in order; empty where the table does not exist yet."""
        try:
            return _months(self._open(table))
        except LakeError:
            return []

    def rows_by_month(self, table: str) -> dict[str, int]:
        """Number of rows by month; empty where the table does not exist yet."""
        try:
            files = _files(self._open(table))
        except LakeError:
            return {}
        if files.empty:
            return {}
        rows = files.groupby(f"partition.{MONTH}")["num_records"].sum()
        return {str(month): int(count) for month, count in rows.items()}

    def version(self, table: str) -> int:
        """The newest version of a table."""
        return int(self._open(table).version())

    def sources(self, table: str, version: int) -> Versions:
        """Versions of the tables that a version of a table was derived from."""
        commit = next((c for c in self._commits(table) if c["version"] == version), None)
        if commit is None:
            raise LakeError(f"table {table!r} in {self.root} has no version {version}")
        return {
            key.removeprefix(SOURCE_KEY): int(value)
            for key, value in commit.items()
            if key.startswith(SOURCE_KEY)
        }

    def appended(self, table: str, version: int) -> int:
        """Number of rows that `append` added up to a version, whether or not they still exist."""
        return sum(
            int(commit["operationMetrics"]["num_added_rows"])
            for commit in self._commits(table)
            if commit["version"] <= version
            and commit["operation"] == "WRITE"
            and commit["operationParameters"]["mode"] == "Append"
        )

    def _commits(self, table: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Commits of a table, newest first, each with the version that it created."""
        while True:
            delta = self._open(table)
            commits: list[dict[str, Any]] = delta.history(limit)
            # deltalake reads the newest log but counts from the version that was opened.
            if self._open(table).version() == delta.version():
                return commits

    def _require(self, delta: DeltaTable, table: str, months: Sequence[str]) -> None:
        if missing := sorted(set(months) - set(_months(delta))):
            raise LakeError(
                f"table {table!r} in {self.root} has no month {', '.join(missing)}: materialise it"
            )

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        uri = self._uri(table)
        try:
            return DeltaTable(uri, version=version, storage_options=dict(self.options))
        except TableNotFoundError as error:
            raise LakeError(f"table {table!r} is not in {self.root}: materialise it") from error
        except DeltaError as error:
            if version is None:
                raise
            raise LakeError(f"table {table!r} in {self.root} has no version {version}") from error

    def _uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    empty = [name for name in frame if frame[name].dtype == object and frame[name].isna().all()]
    return frame.astype(dict.fromkeys(empty, "string[pyarrow]"))


def _types(arrow: pa.DataType) -> Any:
    """Nullable pandas type of an Arrow type; None leaves the choice to pandas."""
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return pd.StringDtype("pyarrow")
    return {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get(arrow)


def _months(delta: DeltaTable) -> list[str]:
    return sorted({part[MONTH] for part in delta.partitions()})


def _total(column: str, delta: DeltaTable, month: str | None) -> int:
    files = _files(delta, month)
    return int(files[column].sum()) if len(files) else 0


def _files(delta: DeltaTable, month: str | None = None) -> pd.DataFrame:
    files: pd.DataFrame = pa.table(delta.get_add_actions(flatten=True)).to_pandas()
    if month is not None and len(files):
        files = files[files[f"partition.{MONTH}"] == month]
    return files
