"""Parser of the service's prediction log.

Each line is parsed on its own. After a crash or a full disk, half a line may precede a complete
one. Half a line may also end a file, for good or until its other half is written.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, create_model

from churn_assets.contracts.contract import NUMBER_LIMIT, Column, Contract
from churn_assets.contracts.schemas import TEXT
from churn_assets.core.scoring.traffic import (
    END,
    FILE,
    LINE_COLUMNS,
    TIME,
    Window,
    feature_columns,
    traffic_dtypes,
)

BEGINNING = b'{"prediction_id":'
"""Beginning of every line; it cannot occur inside a line, where quotes are escaped."""

PARTS = re.compile(b"(?=" + re.escape(BEGINNING) + b")")
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2200))
"""Range of valid prediction times: a table cannot store the years 1 and 9999."""

MAX_REPORTED_FAULTS = 3
"""Validation faults that are reported for one line."""


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of one file, without their newlines.

    Attributes:
        start: Byte of the file at which the first line begins.
        before: Time of the last prediction that was read from the file earlier; otherwise the time
            at which the file was created, as far as that is known.
        complete: False for the text after the last newline: the rest of the line may still follow.
    """

    file: str
    start: int
    lines: Sequence[bytes]
    before: datetime
    complete: bool = True


@dataclass(frozen=True)
class Parsed:
    """Predictions and rejected lines of the log within one window.

    Attributes:
        rows: Predictions in the columns of the table without id and month; may contain repeats.
        rejected: File, line and reason of the lines that are not predictions, each line once.
        unfinished: Number of files whose last line is incomplete.
    """

    rows: pd.DataFrame
    rejected: pd.DataFrame
    unfinished: int

    def __add__(self, other: "Parsed") -> "Parsed":
        rows, rejected = (
            pd.concat([left, right], ignore_index=True)
            for left, right in ((self.rows, other.rows), (self.rejected, other.rejected))
        )
        return Parsed(rows, rejected, self.unfinished + other.unfinished).without_repeated_lines()

    def without_repeated_lines(self) -> "Parsed":
        """A copy without repeated rejected lines."""
        return replace(self, rejected=self.rejected.drop_duplicates("line", ignore_index=True))


def parse_lines(chunks: Iterable[Lines], contract: Contract, window: Window) -> Parsed:
    """Parses the lines whose time is in the window.

    A line that cannot be parsed has no time of its own: it gets the time of the line before it.

    Args:
        chunks: Lines of files; the lines of one file are in order.
    """
    reader = _Reader(contract, window, _line_model(contract))
    for chunk in chunks:
        reader.read(chunk)
    return Parsed(
        rows=pd.concat(reader.frames or [reader.frame("", [])], ignore_index=True),
        rejected=pd.DataFrame(reader.rejected, columns=[FILE, "line", "reason"], dtype=TEXT),
        unfinished=len(reader.unfinished),
    ).without_repeated_lines()


def parse_again(rejected: pd.DataFrame, contract: Contract, window: Window) -> Parsed:
    """Parses rejected lines of the window again: the contract may have changed since.

    The position in the file of a prediction that is found this way is unknown: its end is 0.
    """
    before = window.start or EARLIEST
    chunks = [
        Lines(str(file), 0, [line.encode() for line in rows["line"]], before)
        for file, rows in rejected.groupby(FILE)
    ]
    found = parse_lines(chunks, contract, window)
    return replace(found, rows=found.rows.assign(**{END: pd.Series(0, found.rows.index, "Int64")}))


class _Line(BaseModel):
    """A line of the log; other fields, such as the trace id, are ignored."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    prediction_id: str = Field(min_length=1)
    time: Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]
    endpoint: str
    key_id: str
    model_version: str
    degraded: bool
    pod: str = ""
    release: str = ""
    template_hash: str = ""
    role: str = ""
    churn_probability: float = Field(ge=0, le=1)
    customer: str
    features: Any


def _line_model(contract: Contract) -> type[_Line]:
    # Numbered fields, because a feature may have any name, also one that pydantic reserves.
    fields: dict[str, Any] = {
        f"f{i}": (_type(column) | None, Field(validation_alias=column.name))
        for i, column in enumerate(contract.features)
    }
    features = create_model("Features", __config__=ConfigDict(strict=True), **fields)
    return create_model("Line", __base__=_Line, features=(features, ...))


def _type(column: Column) -> Any:
    if column.personal or column.kind == "category":
        return str
    if column.kind == "flag":
        return bool
    return Annotated[
        int if column.whole else float, Field(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)
    ]  # fmt: skip


@dataclass
class _Reader:
    contract: Contract
    window: Window
    model: type[_Line]
    frames: list[pd.DataFrame] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)
    unfinished: set[str] = field(default_factory=set)
    latest: dict[str, datetime] = field(default_factory=dict)

    def read(self, chunk: Lines) -> None:
        found, end = [], chunk.start
        for line in chunk.lines:
            # The newline of an unfinished line is not written yet; it is counted later.
            end += len(line) + chunk.complete
            for part in _parts(line):
                try:
                    prediction = self.model.model_validate_json(part)
                except ValidationError as error:
                    self._reject(chunk, part, error)
                else:
                    self.latest[chunk.file] = prediction.time
                    if self.window.contains(prediction.time):
                        found.append((prediction, end))
        if found:
            self.frames.append(self.frame(chunk.file, found))

    def frame(self, file: str, found: Sequence[tuple[_Line, int]]) -> pd.DataFrame:
        """Predictions of one file in the dtypes of the table, each with the byte after its line."""
        lines = [line.__dict__ for line, _ in found]
        features = [line["features"].__dict__ for line in lines]
        columns: dict[str, Any] = {name: [line[name] for line in lines] for name in LINE_COLUMNS}
        columns[TIME] = pd.to_datetime(columns[TIME], utc=True)
        columns |= {FILE: file, END: [end for _, end in found]}
        for i, name in enumerate(feature_columns(self.contract).values()):
            columns[name] = [values[f"f{i}"] for values in features]
        kinds = traffic_dtypes(self.contract)
        index = range(len(found))
        return pd.DataFrame(
            {
                name: pd.Series(values, index=index, dtype=kinds[name])
                for name, values in columns.items()
            }
        )

    def _reject(self, chunk: Lines, part: bytes, error: ValidationError) -> None:
        if not chunk.complete:
            self.unfinished.add(chunk.file)
        elif self.window.contains(self.latest.get(chunk.file, chunk.before)):
            faults = error.errors(include_url=False, include_input=False)[:MAX_REPORTED_FAULTS]
            reasons = [": ".join((*(map(str, f["loc"])), f["msg"])) for f in faults]
            # Not "replace": the replaced line could be valid when it is parsed again.
            text = part.decode("utf-8", "backslashreplace")
            self.rejected.append((chunk.file, text, "; ".join(reasons)))


def _parts(line: bytes) -> Iterator[bytes]:
    """The line itself, or each part that begins like a line where several are joined."""
    if line.rfind(BEGINNING) == 0:
        yield line
    elif line.strip():
        yield from (part for part in PARTS.split(line) if part)
