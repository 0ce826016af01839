"""The table of served traffic: columns, deduplicated predictions and rejected log lines."""

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
from churn_assets.core.verdict import Verdict, not_judged

PREDICTION, TIME, CUSTOMER, FILE, END = "prediction_id", "time", "customer", "file", "end"
RELEASE, ROLE = "release", "role"
ORIGIN = ("pod", RELEASE, "template_hash", ROLE)
"""Columns that say which pod made a prediction; empty where the service does not know it."""

LINE_COLUMNS: Mapping[str, Any] = {
    PREDICTION: TEXT, TIME: "datetime64[us, UTC]", "endpoint": TEXT, "key_id": TEXT,
    "model_version": TEXT, "degraded": "boolean", "churn_probability": "float64", CUSTOMER: TEXT,
    **dict.fromkeys(ORIGIN, TEXT),
}  # fmt: skip
"""Columns that a log line fills, besides the features."""

LOG_COLUMNS: Mapping[str, Any] = {**LINE_COLUMNS, FILE: TEXT, END: "Int64"}
"""The columns of a line and the position of the line: its file, and the byte after the line."""

REJECTED_COLUMNS = (FILE, "line", "reason", MONTH)
"""Columns of the table of rejected lines."""

SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class ReadPosition:
    """How far a log file was read.

    Attributes:
        byte: Offset after the last prediction that is stored.
        time: Time of that prediction.
    """

    byte: int
    time: datetime


@dataclass(frozen=True)
class Window:
    """Time window, in UTC, of the predictions that belong to a month; None means no bound."""

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def after(cls, month: str) -> "Window":
        """The calendar month after `month`, during which `month` is the latest closed month."""
        following = pd.Period(month, freq="M") + 1
        first, last = (p.start_time.to_pydatetime() for p in (following, following + 1))
        return cls(first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))

    def contains(self, time: datetime) -> bool:
        """Whether the window contains `time`; the end is excluded."""
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


def feature_columns(contract: Contract) -> dict[str, str]:
    """The column of each feature; a feature that is named like a log column gets a suffix."""
    return {column.name: _own_name(column.name) for column in contract.features}


def id_column(contract: Contract) -> str:
    """The column of the customer's id."""
    return _own_name(contract.id.name)


def _own_name(name: str) -> str:
    return f"{name}_of_customer" if name in LOG_COLUMNS else name


def traffic_dtypes(contract: Contract) -> dict[str, Any]:
    """Dtypes of the table: log columns, features (personal ones as text), id and month."""
    known, names = dtypes(contract), feature_columns(contract)
    features = {names[c.name]: TEXT if c.personal else known[c.name] for c in contract.features}
    return {**LOG_COLUMNS, **features, id_column(contract): TEXT, MONTH: TEXT}


def as_traffic(rows: pd.DataFrame, contract: Contract, month: str) -> pd.DataFrame:
    """Rows with the columns and dtypes of the table; missing columns are null."""
    kinds = traffic_dtypes(contract)
    return with_origin(rows.reindex(columns=list(kinds)).assign(**{MONTH: month}).astype(kinds))


def with_origin(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose origin is "" where it is unknown, as in lines that an earlier version logged."""
    known = {name: rows[name].fillna("") if name in rows else "" for name in ORIGIN}
    return rows.assign(**known)


def merge_predictions(held: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Merges stored and newly read predictions, one row per prediction id, ordered by time.

    Stored rows are kept because a log file may be deleted after it was read. Copies of a file
    repeat its predictions.
    """
    rows = pd.concat([held, new], ignore_index=True) if len(held) else new
    rows = rows.drop_duplicates(PREDICTION, keep="first")
    return rows.sort_values([TIME, PREDICTION], ignore_index=True)


def merge_rejected_lines(held: pd.DataFrame, new: pd.DataFrame, month: str) -> pd.DataFrame:
    """Merges stored and newly read rejected lines, one row per line text."""
    rows = pd.concat([held, new.assign(**{MONTH: month})], ignore_index=True)
    rows = rows.drop_duplicates("line", keep="first")
    return rows.reindex(columns=list(REJECTED_COLUMNS)).astype(TEXT).reset_index(drop=True)


def read_positions(held: pd.DataFrame) -> dict[str, ReadPosition]:
    """How far each file was read, from the stored predictions."""
    last = held.sort_values(END).drop_duplicates(FILE, keep="last")
    return {
        str(file): ReadPosition(int(end), time.to_pydatetime())
        for file, end, time in zip(last[FILE], last[END], last[TIME], strict=True)
    }


def customers_by_pseudonym(
    features: pd.DataFrame, contract: Contract, key: bytes | None
) -> dict[str, str]:
    """Ids of a month's customers by pseudonym; empty without a key.

    Args:
        features: Typed rows of the month.
    """
    ids = [] if key is None else features[contract.id.name].astype(object).tolist()
    hidden = partial(pseudonym, key or b"", contract.id.name)
    return {hidden(customer): customer for customer in ids}


def with_customers(
    rows: pd.DataFrame, features: pd.DataFrame, contract: Contract, key: bytes | None
) -> pd.DataFrame:
    """Adds the customer ids to the traffic; ids that were found with an earlier key are kept.

    Args:
        features: Typed rows of the same month.
        key: Key of the pseudonyms.
    """
    known, name = customers_by_pseudonym(features, contract, key), id_column(contract)
    found = rows[CUSTOMER].astype(object).map(known).astype(TEXT)
    return rows.assign(**{name: found.fillna(rows[name])})


def truncated_lines(rejected: pd.DataFrame) -> pd.DataFrame:
    """Rejected lines for display, each cut to `SHOWN_CHARACTERS`."""
    return rejected.assign(line=rejected["line"].str.slice(stop=SHOWN_CHARACTERS))


def predictions_readable(rows: int, rejected: pd.DataFrame, limits: Limits) -> Verdict:
    """Nearly all lines of the log are predictions; a share at the limit passes."""
    lines, limit = rows + len(rejected), limits.max_unreadable_share
    if not lines:
        why = "the log has no lines of the month; at least one is needed."
        return not_judged(why, {"limit": limit, "lines": 0, "unreadable": 0})
    share = len(rejected) / lines
    first = f", for example: {rejected['reason'].iloc[0]}" if len(rejected) else ""
    return Verdict(
        share <= limit,
        f"{len(rejected):,} of {lines:,} lines ({share:.2%}) are not valid predictions{first}; the "
        f"limit is {limit:.2%}.",
        {"value": share, "limit": limit, "lines": lines, "unreadable": len(rejected)},
    )
