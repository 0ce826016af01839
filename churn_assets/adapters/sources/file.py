"""CSV or Parquet at any fsspec URL: one file, or one a month."""

import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd
import pyarrow as pa

from churn_assets.adapters.sources.source import (
    SourceError,
    SourceUnavailableError,
    as_labels,
    as_snapshot,
)
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import TEXT

MONTH_SLOT = "{month}"


@dataclass(frozen=True)
class FileSource:
    """A source of files.

    Attributes:
        customers: path or URL; `{month}` in it stands for YYYY-MM. Without it, rows are chosen by
            the contract's month column; a contract without one is a single snapshot.
        labels: a path for the labels by the same rules; None reads the label column of the
            customers' file.
        separator: between the fields of a CSV.
        encoding: of a CSV.
    """

    contract: Contract
    customers: str
    labels_path: str | None = None
    separator: str = ","
    encoding: str = "utf-8-sig"

    def snapshot(self, month: str) -> pd.DataFrame:
        path = self.customers.replace(MONTH_SLOT, month)
        return as_snapshot(self._rows(path, self.customers, month), self.contract, path)

    def labels(self, month: str) -> pd.DataFrame:
        template = self.labels_path or self.customers
        path = template.replace(MONTH_SLOT, month)
        return as_labels(self._rows(path, template, month), self.contract, month, path)

    @property
    def single_snapshot(self) -> bool:
        return MONTH_SLOT not in self.customers and self.contract.month is None

    def _rows(self, path: str, template: str, month: str) -> pd.DataFrame:
        frame = self._read(path)
        column = self.contract.month
        if MONTH_SLOT in template or column is None:
            return frame
        if column.source_name not in frame:
            raise SourceError(f"{path} lacks the month column {column.source_name}")
        chosen = frame[frame[column.source_name].astype(str).str[:7] == month]
        if chosen.empty:
            raise SourceUnavailableError(
                f"{path} has no row of month {month} in column {column.source_name}"
            )
        return chosen

    def _read(self, path: str) -> pd.DataFrame:
        try:
            if PurePosixPath(path).suffix in (".parquet", ".pq"):
                return pd.read_parquet(path, dtype_backend="pyarrow")
            return self._read_csv(path)
        except FileNotFoundError as error:
            raise SourceUnavailableError(f"{path} is not there (yet)") from error
        except UnicodeError as error:
            raise SourceError(
                f"{path} is not {self.encoding} text: {error}; set CHURN_FILE__ENCODING"
            ) from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
            raise SourceError(f"{path} cannot be read as CSV: {str(error).strip()}") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceUnavailableError(f"{path} cannot be read (wholly): {error}") from error

    def _read_csv(self, path: str) -> pd.DataFrame:
        with warnings.catch_warnings():
            # pandas warns of rows with too many fields, and drops what does not fit.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                dtype=TEXT,
                keep_default_na=False,
                sep=self.separator,
                encoding=self.encoding,
                index_col=False,
            )
