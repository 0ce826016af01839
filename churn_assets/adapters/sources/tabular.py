"""Reader of CSV and Parquet files at any fsspec URL, with errors that name the problem."""

import codecs
import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn_assets.adapters.sources.http_files import local_copy
from churn_assets.adapters.sources.source import SourceError, SourceUnavailableError
from churn_assets.contracts.schemas import TEXT

if TYPE_CHECKING:
    from _csv import Reader

CHUNK = 50_000
"""Rows of a CSV that are held as Python objects at a time."""


def read_table(path: str, separator: str, encoding: str) -> pd.DataFrame:
    """Reads a file unchanged: a CSV as text, Parquet with its own types.

    Raises:
        SourceUnavailableError: The file does not exist or is incomplete.
        SourceError: The file exists but cannot be used, or its URL cannot be opened here.
    """
    with as_source_errors(path, encoding), local_copy(path) as local:
        if PurePosixPath(local).suffix in (".parquet", ".pq"):
            files, name = fsspec.core.url_to_fs(local)
            if files.isfile(name):  # a folder of parts is one table, too
                with files.open(name) as file:
                    _refuse_repeated(pq.read_schema(file).names, path)
            return pd.read_parquet(local, dtype_backend="pyarrow")
        codecs.lookup(encoding)  # fsspec would leave the file open if the encoding is unknown
        with fsspec.open(
            local, "r", encoding=encoding, newline="", compression="infer", expand=False
        ) as lines:
            return _read_csv(csv.reader(lines, delimiter=separator, strict=True), path)


@contextmanager
def as_source_errors(path: str, encoding: str) -> Iterator[None]:
    """Raises the errors of files, file systems and readers as errors of the source.

    Raises:
        SourceUnavailableError: The file does not exist or is incomplete.
        SourceError: The file exists but cannot be used, or its URL cannot be opened here.
    """
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceUnavailableError(f"{path} does not exist (yet)") from error
    except UnicodeError as error:
        raise SourceError(
            f"{path} is not {encoding} text: {error}; set CHURN_FILE__ENCODING"
        ) from error
    except ImportError as error:
        raise SourceError(f"{path} needs a package that is not installed: {error}") from error
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise SourceUnavailableError(f"{path} cannot be read (completely): {error}") from error
    except (LookupError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be opened: {error}; see CHURN_FILE__CUSTOMERS, CHURN_FILE__LABELS and "
            "CHURN_FILE__ENCODING"
        ) from error


def _read_csv(reader: "Reader", path: str) -> pd.DataFrame:
    # pandas renames repeated columns and fills short rows; pyarrow reads an unclosed quote as the
    # end of the file. Python's own reader hides none of these.
    try:
        header: list[str] = next(filter(None, reader), [])
        if not header:
            raise SourceError(f"{path} cannot be read as CSV: it is empty")
        _refuse_repeated(header, path)
        rows = _complete_rows(reader, len(header), path)
        parts = [_text_table([], header)]
        while chunk := list(islice(rows, CHUNK)):
            parts.append(_text_table(chunk, header))
    except csv.Error as error:
        line = reader.line_num
        raise SourceError(f"{path} cannot be read as CSV: line {line}: {error}") from error
    frame: pd.DataFrame = pa.concat_tables(parts).to_pandas(types_mapper={pa.string(): TEXT}.get)
    return frame


def _refuse_repeated(header: list[str], path: str) -> None:
    # Trailing separators make columns without a name, which no contract reads.
    repeated = [name for name, times in Counter(header).items() if name and times > 1]
    if repeated:
        raise SourceError(f"{path} has more than one column named {', '.join(repeated)}")


def _complete_rows(reader: "Reader", fields: int, path: str) -> Iterator[list[str]]:
    for row in reader:
        if len(row) == fields:
            yield row
        elif row:  # a blank line is not a row
            raise SourceError(
                f"{path} cannot be read as CSV: expected {fields} fields in line "
                f"{reader.line_num}, saw {len(row)}"
            )


def _text_table(rows: list[list[str]], header: list[str]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return pa.table([pa.array(column, pa.string()) for column in columns], names=header)
