"""Source of CSV or Parquet files at any fsspec URL: one file, or one file per month."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from churn_assets.adapters.sources.file_months import MONTH_SLOT, months_of_files
from churn_assets.adapters.sources.file_versions import FileVersions
from churn_assets.adapters.sources.source import (
    SourceError,
    SourceUnavailableError,
    as_labels,
    as_snapshot,
    column_text,
    source_text,
)
from churn_assets.adapters.sources.tabular import read_table
from churn_assets.contracts.contract import Contract

MONTH_OR_DATE = r"(?s)\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])(\D.*)?)?"


@dataclass(frozen=True)
class FileSource:
    """A source that reads files.

    Attributes:
        customers: Path or URL. `{month}` stands for YYYY-MM; the month column of the rows, if there
            is one, must have that month. Without `{month}`, rows are selected by the contract's
            month column; a contract without a month column has a single snapshot.
        labels_path: Path or URL of the labels, by the same rules; None reads the label column of
            the customers' file.
        separator: Separator of the fields in a CSV.
        encoding: Encoding of a CSV.
    """

    contract: Contract
    customers: str
    labels_path: str | None = None
    separator: str = ","
    encoding: str = "utf-8-sig"
    _kept: dict[tuple[str, str], frozenset[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Cache of the months in files with many months; it saves time and changes no result."""
    _versions: FileVersions = field(
        default_factory=FileVersions, init=False, repr=False, compare=False
    )

    def snapshot(self, month: str) -> pd.DataFrame:
        path = self.customers.replace(MONTH_SLOT, month)
        return as_snapshot(self._rows(path, self.customers, month), self.contract, path)

    def labels(self, month: str) -> pd.DataFrame:
        template = self.labels_path or self.customers
        path = template.replace(MONTH_SLOT, month)
        return as_labels(self._rows(path, template, month), self.contract, month, path)

    def customers_version(self, month: str, known: str | None = None) -> str | None:
        return self._version(self.customers, month, known)

    def labels_version(self, month: str, known: str | None = None) -> str | None:
        return self._version(self.labels_path or self.customers, month, known)

    @property
    def single_snapshot(self) -> bool:
        return MONTH_SLOT not in self.customers and self.contract.month is None

    def months(self) -> Mapping[str, frozenset[str]]:
        templates = dict.fromkeys((self.customers, self.labels_path or self.customers))
        return {template: found for template in templates if (found := self._found(template))}

    def _found(self, template: str) -> frozenset[str]:
        if MONTH_SLOT in template:
            return months_of_files(template)
        if self.contract.month is None:
            return frozenset()
        try:
            version = self._versions.version(template)
            return frozenset() if version is None else self._months_of(template, version)
        except SourceError:
            return frozenset()

    def _version(self, template: str, month: str, known: str | None) -> str | None:
        version = self._versions.version(template.replace(MONTH_SLOT, month), known)
        if version is None or MONTH_SLOT in template or self.contract.month is None:
            return version
        return version if month in self._months_of(template, version) else None

    def _months_of(self, path: str, version: str) -> frozenset[str]:
        """Months in a file with many months; the file is read once per version."""
        if (path, version) not in self._kept:
            frame = read_table(path, self.separator, self.encoding)
            name = self.contract.month.source_name if self.contract.month else ""
            if name not in frame:
                raise SourceError(f"{path} lacks the month column {name}")
            self._kept[path, version] = frozenset(_months(frame[name], path))
        return self._kept[path, version]

    def _rows(self, path: str, template: str, month: str) -> pd.DataFrame:
        frame = read_table(path, self.separator, self.encoding)
        column = self.contract.month
        if column is None:
            return frame
        name = column.source_name
        if name not in frame:
            if MONTH_SLOT in template:
                return frame
            raise SourceError(f"{path} lacks the month column {name}")
        chosen = _months(frame[name], path) == month
        if MONTH_SLOT in template:
            _refuse_rows(frame[name], ~chosen, f"{path}: column {name} must be of month {month}")
        elif not chosen.any():
            raise SourceUnavailableError(f"{path} has no row of month {month} in column {name}")
        return frame[chosen]


def _months(values: pd.Series, path: str) -> pd.Series:
    """YYYY-MM of every row, as text without nulls."""
    text = column_text(values, path)
    readable = text.str.fullmatch(MONTH_OR_DATE).fillna(False).astype(bool)
    rule = f"{path}: column {values.name} must be YYYY-MM or begin with a date YYYY-MM-DD"
    _refuse_rows(text, ~readable, rule)
    return text.str[:7]


def _refuse_rows(values: pd.Series, broken: pd.Series, rule: str) -> None:
    if broken.any():
        first = source_text(values[broken].head(3)).tolist()
        raise SourceError(f"{rule}, but {broken.sum()} rows are not, such as {first}")
