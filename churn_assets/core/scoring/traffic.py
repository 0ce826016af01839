"""What the service was asked, as a table: its columns, and each prediction once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd

from churn_assets.contracts.contract import MONTH, Contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_assets.contracts.schemas import TEXT, dtypes
from churn_assets.core.limits import Limits
from churn_assets.core.verdict import Verdict

PREDICTION, TIME, CUSTOMER, FILE, END = "prediction_id", "time", "customer", "file", "end"
LOGGED: Mapping[str, Any] = {
    PREDICTION: TEXT, TIME: "datetime64[us, UTC]", "endpoint": TEXT, "key_id": TEXT,
    "model_version": TEXT, "degraded": "boolean", "churn_probability": "float64", CUSTOMER: TEXT,
}  # fmt: skip
"""What a line of the log says of a prediction, beside its features."""

OWN: Mapping[str, Any] = {**LOGGED, FILE: TEXT, END: "Int64"}
"""And where it stands: the file, and the byte behind the line."""

REJECTED = (FILE, "line", "reason", MONTH)
"""Columns of the lines that are no predictions."""

SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Place:
    """How far a file was read.

    Attributes:
        byte: behind the last prediction that is held.
        time: of that prediction.
    """

    byte: int
    time: datetime


@dataclass(frozen=True)
class Window:
    """The times, in UTC, of the predictions that belong to a month; None is no bound."""

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def after(cls, month: str) -> "Window":
        """The calendar month behind `month`, in which that was the latest one closed."""
        following = pd.Period(month, freq="M") + 1
        first, last = (p.start_time.to_pydatetime() for p in (following, following + 1))
        return cls(first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))

    def holds(self, time: datetime) -> bool:
        """It is in the window; the end is not."""
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


def feature_columns(contract: Contract) -> dict[str, str]:
    """The column of each feature; where the log has one of that name, the feature gives way."""
    return {column.name: _own_name(column.name) for column in contract.features}


def id_column(contract: Contract) -> str:
    """The column of the customer's id."""
    return _own_name(contract.id.name)


def _own_name(name: str) -> str:
    return f"{name}_of_customer" if name in OWN else name


def traffic_dtypes(contract: Contract) -> dict[str, Any]:
    """The table's columns: the log's, the features with personal ones as text, id and month."""
    known, names = dtypes(contract), feature_columns(contract)
    features = {names[c.name]: TEXT if c.personal else known[c.name] for c in contract.features}
    return {**OWN, **features, id_column(contract): TEXT, MONTH: TEXT}


def as_traffic(rows: pd.DataFrame, contract: Contract, month: str) -> pd.DataFrame:
    """Rows in the columns and dtypes of the table; what they lack is null."""
    kinds = traffic_dtypes(contract)
    return rows.reindex(columns=list(kinds)).assign(**{MONTH: month}).astype(kinds)


def each_once(held: pd.DataFrame, read: pd.DataFrame) -> pd.DataFrame:
    """The predictions that are held, and those that were read and are not; by time.

    A file may be deleted once it was read, and copies of a file say the same again.
    """
    rows = pd.concat([held, read], ignore_index=True) if len(held) else read
    rows = rows.drop_duplicates(PREDICTION, keep="first")
    return rows.sort_values([TIME, PREDICTION], ignore_index=True)


def each_line_once(held: pd.DataFrame, read: pd.DataFrame, month: str) -> pd.DataFrame:
    """The rejected lines that are held, and those that were read and are not."""
    rows = pd.concat([held, read.assign(**{MONTH: month})], ignore_index=True)
    rows = rows.drop_duplicates("line", keep="first")
    return rows.reindex(columns=list(REJECTED)).astype(TEXT).reset_index(drop=True)


def places(held: pd.DataFrame) -> dict[str, Place]:
    """How far each file was read."""
    last = held.sort_values(END).drop_duplicates(FILE, keep="last")
    return {
        str(file): Place(int(end), time.to_pydatetime())
        for file, end, time in zip(last[FILE], last[END], last[TIME], strict=True)
    }


def customers_by_pseudonym(
    features: pd.DataFrame, contract: Contract, key: bytes | None
) -> dict[str, str]:
    """Ids of a month's customers by their pseudonyms; none without a key.

    Args:
        features: typed rows of the month.
    """
    ids = [] if key is None else features[contract.id.name].astype(object).tolist()
    hidden = partial(pseudonym, key or b"", contract.id.name)
    return {hidden(one): one for one in ids}


def with_customers(
    rows: pd.DataFrame, features: pd.DataFrame, contract: Contract, key: bytes | None
) -> pd.DataFrame:
    """The traffic with the ids of customers; whom an earlier key made known stays known.

    Args:
        features: typed rows of the same month.
        key: of the pseudonyms.
    """
    known, name = customers_by_pseudonym(features, contract, key), id_column(contract)
    found = rows[CUSTOMER].astype(object).map(known).astype(TEXT)
    return rows.assign(**{name: found.fillna(rows[name])})


def shortened(rejected: pd.DataFrame) -> pd.DataFrame:
    """Rejected lines for people, who need not see all of a long one."""
    return rejected.assign(line=rejected["line"].str.slice(stop=SHOWN_CHARACTERS))


def predictions_readable(rows: int, rejected: pd.DataFrame, limits: Limits) -> Verdict:
    """Hardly any line of the log is no prediction; at the limit passes."""
    lines, limit = rows + len(rejected), limits.max_unreadable_share
    share = len(rejected) / lines if lines else 0.0
    first = f", such as: {rejected['reason'].iloc[0]}" if len(rejected) else ""
    return Verdict(
        share <= limit,
        f"{len(rejected):,} of {lines:,} lines ({share:.2%}) are no predictions{first}; at most "
        f"{limit:.2%} may be.",
        {"value": share, "limit": limit, "lines": lines, "unreadable": len(rejected)},
    )
