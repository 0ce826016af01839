"""The protocol of all sources, their errors, and helpers that turn frames into text."""

from collections.abc import Mapping
from typing import Protocol

import pandas as pd
import pyarrow as pa

from churn_assets.contracts.contract import MONTH, Column, Contract
from churn_assets.contracts.schemas import SOURCE_ROW, TEXT
from churn_assets.core.data.parsing import parse_label


class SourceError(ValueError):
    """The source has data that cannot be used; a retry does not help."""


class MissingColumnsError(SourceError):
    """The source lacks columns of the contract."""


class SourceUnavailableError(SourceError):
    """The source is unavailable or its data is incomplete; a retry may help."""


class Source(Protocol):
    """A source of a month's customers and their labels.

    Both tables are text, with the rows of the source in their order (`source_row`), so that no
    value changes before the contract is applied.
    """

    @property
    def single_snapshot(self) -> bool:
        """Whether the source has only one snapshot with labels, and no months."""
        ...

    def months(self) -> Mapping[str, frozenset[str]]:
        """The months that the source has, by the path of the file or files.

        Empty where the source has every month, or no list of them. An error of the source leads to
        an empty list too: the look-up of a month's version reports it.
        """
        ...

    def customers_version(self, month: str, known: str | None = None) -> str | None:
        """A text that changes with the month's customers, and only with them; None without any.

        It is called often, so it must be cheap.

        Args:
            known: The version that was reported last. A source whose versions had another form in
                an earlier release returns it again while it still describes the same customers.
        """
        ...

    def labels_version(self, month: str, known: str | None = None) -> str | None:
        """Like `customers_version`, for the month's labels."""
        ...

    def snapshot(self, month: str) -> pd.DataFrame:
        """The customers at the end of a month, in `raw_schema(contract)`."""
        ...

    def labels(self, month: str) -> pd.DataFrame:
        """Id and label of a month's customers, in `label_schema(contract)` except for nulls."""
        ...


def as_snapshot(frame: pd.DataFrame, contract: Contract, origin: str) -> pd.DataFrame:
    """The contract's columns of a frame, renamed and as text; other columns are dropped.

    Raises:
        MissingColumnsError: Columns are missing; the message names them and the origin.
    """
    return as_text(frame, contract.snapshot, origin)


def as_labels(frame: pd.DataFrame, contract: Contract, month: str, origin: str) -> pd.DataFrame:
    """Id, label and month of a frame; of rows with the same id the last one is kept.

    Raises:
        SourceError: A column is missing, or labels cannot be parsed; the message names the first.
    """
    text = as_text(frame, (contract.id, contract.label), origin)
    label, faults = parse_label(text[contract.label.name])
    (rule, invalid), *_ = faults.items()
    if invalid.any():
        first = text.loc[invalid, contract.label.name].head(3).tolist()
        raise SourceError(
            f"{origin}: column {contract.label.source_name!r} {rule}, "
            f"but {invalid.sum()} rows are not, such as {first}"
        )
    labels = pd.DataFrame({contract.id.name: text[contract.id.name], contract.label.name: label})
    labels = labels[text[contract.id.name].notna()]
    labels = labels.drop_duplicates(contract.id.name, keep="last", ignore_index=True)
    return labels.assign(**{MONTH: pd.Series(month, index=labels.index, dtype=TEXT)})


def as_text(frame: pd.DataFrame, columns: tuple[Column, ...], origin: str) -> pd.DataFrame:
    """The named columns of a frame as text, with the position of each row.

    Raises:
        MissingColumnsError: Columns are missing; the message names them and the origin.
        SourceError: The values of a column cannot be text, such as lists.
    """
    missing = [column.source_name for column in columns if column.source_name not in frame]
    if missing:
        found = ", ".join(map(str, frame.columns)) or "none"
        raise MissingColumnsError(f"{origin} lacks column(s) {', '.join(missing)}; it has: {found}")
    text = {column.name: column_text(frame[column.source_name], origin) for column in columns}
    return pd.DataFrame(text).reset_index(drop=True).assign(**{SOURCE_ROW: range(len(frame))})


def column_text(values: pd.Series, origin: str) -> pd.Series:
    """Values of a column by `source_text`.

    Raises:
        SourceError: The values cannot be text; the message names the column and the origin.
    """
    try:
        return source_text(values)
    except pa.ArrowException as error:
        raise SourceError(
            f"{origin} has values in the column {values.name} that cannot be read as text: {error}"
        ) from error


def source_text(values: pd.Series) -> pd.Series:
    """Values of any type as text that parses back to the same value; nulls stay null."""
    if values.dtype == object:
        return values.map(str, na_action="ignore").astype(TEXT)
    # Arrow writes the shortest text that parses back to the same number; pandas' Int64 keeps
    # whole numbers whole.
    array = pa.array(values, from_pandas=True)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return pd.Series(pd.array(array.cast(pa.large_string()), dtype=TEXT), index=values.index)
