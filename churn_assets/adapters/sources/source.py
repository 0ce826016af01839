"""What every source answers, and how it says that it cannot."""

from typing import Protocol

import pandas as pd
import pyarrow as pa

from churn_assets.contracts.contract import MONTH, Column, Contract
from churn_assets.contracts.schemas import SOURCE_ROW, TEXT
from churn_assets.core.data.parsing import parse_label


class SourceError(ValueError):
    """The source holds something that cannot be used; trying again does not help."""


class MissingColumnsError(SourceError):
    """The source lacks columns of the contract."""


class SourceUnavailableError(SourceError):
    """The source does not answer, or not wholly yet; trying again may help."""


class Source(Protocol):
    """Where a month's customers and their labels come from.

    Both tables are text, one row a row of the source in its order (`source_row`), so that nothing
    is changed before the contract has been applied.
    """

    @property
    def single_snapshot(self) -> bool:
        """There is one snapshot, with its labels, and no month."""
        ...

    def customers_version(self, month: str) -> str | None:
        """Another text whenever the customers of a month may have changed; None: none are there.

        Asked often, so it must be cheap.
        """
        ...

    def labels_version(self, month: str) -> str | None:
        """The same for the month's labels."""
        ...

    def snapshot(self, month: str) -> pd.DataFrame:
        """The customers at the close of a month: `raw_schema(contract)`."""
        ...

    def labels(self, month: str) -> pd.DataFrame:
        """Id and label of the customers of a month: `label_schema(contract)` but for nulls."""
        ...


def as_snapshot(frame: pd.DataFrame, contract: Contract, origin: str) -> pd.DataFrame:
    """The contract's columns of a frame, renamed and as text; other columns stay behind.

    Raises:
        MissingColumnsError: naming the columns and the origin.
    """
    return as_text(frame, contract.snapshot, origin)


def as_labels(frame: pd.DataFrame, contract: Contract, month: str, origin: str) -> pd.DataFrame:
    """Id, label and month of a frame; of rows with the same id the last stands.

    Raises:
        SourceError: a column is missing, or a label cannot be read, naming the first such rows.
    """
    text = as_text(frame, (contract.id, contract.label), origin)
    label, faults = parse_label(text[contract.label.name])
    (rule, unread), *_ = faults.items()
    if unread.any():
        first = text.loc[unread, contract.label.name].head(3).tolist()
        raise SourceError(
            f"{origin}: column {contract.label.source_name!r} {rule}, "
            f"but {unread.sum()} rows are not, such as {first}"
        )
    labels = pd.DataFrame({contract.id.name: text[contract.id.name], contract.label.name: label})
    labels = labels[text[contract.id.name].notna()]
    labels = labels.drop_duplicates(contract.id.name, keep="last", ignore_index=True)
    return labels.assign(**{MONTH: pd.Series(month, index=labels.index, dtype=TEXT)})


def as_text(frame: pd.DataFrame, columns: tuple[Column, ...], origin: str) -> pd.DataFrame:
    """The named columns of a frame as text, with their position in it.

    Raises:
        MissingColumnsError: naming the columns and the origin.
    """
    missing = [column.source_name for column in columns if column.source_name not in frame]
    if missing:
        found = ", ".join(map(str, frame.columns)) or "none"
        raise MissingColumnsError(f"{origin} lacks column(s) {', '.join(missing)}; it has: {found}")
    text = {column.name: source_text(frame[column.source_name]) for column in columns}
    return pd.DataFrame(text).reset_index(drop=True).assign(**{SOURCE_ROW: range(len(frame))})


def source_text(values: pd.Series) -> pd.Series:
    """Values of any type as the text that reads back as the same; nulls stay null."""
    if values.dtype == object:
        return values.map(str, na_action="ignore").astype(TEXT)
    # Arrow writes the shortest text that reads back as the same number; pandas' Int64 keeps
    # whole numbers whole.
    array = pa.array(values, from_pandas=True)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return pd.Series(pd.array(array.cast(pa.large_string()), dtype=TEXT), index=values.index)
