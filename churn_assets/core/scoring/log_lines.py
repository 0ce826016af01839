"""Lines of the service's prediction log, read as predictions.

A line stands for itself. Behind a crash or a full disk half a line may stand before a whole one,
or at the end of a file, for good or until its other half is written.
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
    LOGGED,
    TIME,
    Window,
    feature_columns,
    traffic_dtypes,
)

BEGINNING = b'{"prediction_id":'
"""Of every line; it cannot be within one, where a quote is escaped."""

PARTS = re.compile(b"(?=" + re.escape(BEGINNING) + b")")
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2200))
"""Of a prediction; another time is none, and no table holds the years 1 and 9999."""

MOST_FAULTS = 3
"""That are named of one line."""


@dataclass(frozen=True)
class Lines:
    """Lines of one file, one behind the other, without their newlines.

    Attributes:
        start: byte of the file at which the first one begins.
        before: time of what stands before them: of the prediction up to which the file was read
            earlier, or when the file was begun, as far as that is known.
        whole: False for what stands behind the last newline: its other half may be written yet.
    """

    file: str
    start: int
    lines: Sequence[bytes]
    before: datetime
    whole: bool = True


@dataclass(frozen=True)
class Parsed:
    """What lines of the log hold for one window.

    Attributes:
        rows: the predictions, in the columns of the table but id and month; perhaps repeated.
        rejected: file, line and reason of the lines that are none, each once.
        unfinished: files whose last line is not written to its end.
    """

    rows: pd.DataFrame
    rejected: pd.DataFrame
    unfinished: int

    def __add__(self, other: "Parsed") -> "Parsed":
        rows, rejected = (
            pd.concat([mine, its], ignore_index=True)
            for mine, its in ((self.rows, other.rows), (self.rejected, other.rejected))
        )
        return Parsed(rows, rejected, self.unfinished + other.unfinished).each_line_once()

    def each_line_once(self) -> "Parsed":
        """The same, without rejected lines that say what another one said."""
        return replace(self, rejected=self.rejected.drop_duplicates("line", ignore_index=True))


def parse_lines(chunks: Iterable[Lines], contract: Contract, window: Window) -> Parsed:
    """Reads the lines whose time is in the window.

    A line that cannot be read tells no time: it counts as made with the line before it.

    Args:
        chunks: lines of files, those of one file in their order.
    """
    reader = _Reader(contract, window, _line_model(contract))
    for chunk in chunks:
        reader.read(chunk)
    return Parsed(
        rows=pd.concat(reader.frames or [reader.frame("", [])], ignore_index=True),
        rejected=pd.DataFrame(reader.rejected, columns=[FILE, "line", "reason"], dtype=TEXT),
        unfinished=len(reader.unfinished),
    ).each_line_once()


def parse_again(rejected: pd.DataFrame, contract: Contract, window: Window) -> Parsed:
    """Reads rejected lines of the window again: the contract may have changed since.

    Of a prediction that is found so nobody knows any more where in its file it stands.
    """
    before = window.start or EARLIEST
    chunks = [
        Lines(str(file), 0, [line.encode() for line in rows["line"]], before)
        for file, rows in rejected.groupby(FILE)
    ]
    found = parse_lines(chunks, contract, window)
    return replace(found, rows=found.rows.assign(**{END: pd.Series(0, found.rows.index, "Int64")}))


class _Line(BaseModel):
    """A line of the log; what else it says, such as a trace id, is left to the log."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    prediction_id: str = Field(min_length=1)
    time: Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]
    endpoint: str
    key_id: str
    model_version: str
    degraded: bool
    churn_probability: float = Field(ge=0, le=1)
    customer: str
    features: Any


def _line_model(contract: Contract) -> type[_Line]:
    # Numbered, for a feature may have any name, one that pydantic keeps for itself too.
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
            # The newline of an unfinished line is still to come, and is read then.
            end += len(line) + chunk.whole
            for part in _parts(line):
                try:
                    one = self.model.model_validate_json(part)
                except ValidationError as error:
                    self._reject(chunk, part, error)
                else:
                    self.latest[chunk.file] = one.time
                    if self.window.holds(one.time):
                        found.append((one, end))
        if found:
            self.frames.append(self.frame(chunk.file, found))

    def frame(self, file: str, found: Sequence[tuple[_Line, int]]) -> pd.DataFrame:
        """Predictions of one file, with the byte behind each, in the dtypes of the table."""
        lines = [line.__dict__ for line, _ in found]
        features = [line["features"].__dict__ for line in lines]
        columns: dict[str, Any] = {name: [line[name] for line in lines] for name in LOGGED}
        columns[TIME] = pd.to_datetime(columns[TIME], utc=True)
        columns |= {FILE: file, END: [end for _, end in found]}
        for i, name in enumerate(feature_columns(self.contract).values()):
            columns[name] = [one[f"f{i}"] for one in features]
        kinds = traffic_dtypes(self.contract)
        index = range(len(found))
        return pd.DataFrame(
            {
                name: pd.Series(values, index=index, dtype=kinds[name])
                for name, values in columns.items()
            }
        )

    def _reject(self, chunk: Lines, part: bytes, error: ValidationError) -> None:
        if not chunk.whole:
            self.unfinished.add(chunk.file)
        elif self.window.holds(self.latest.get(chunk.file, chunk.before)):
            faults = error.errors(include_url=False, include_input=False)[:MOST_FAULTS]
            said = [": ".join((*(map(str, f["loc"])), f["msg"])) for f in faults]
            # Not "replace": read again, the line would pass for one that is whole.
            text = part.decode("utf-8", "backslashreplace")
            self.rejected.append((chunk.file, text, "; ".join(said)))


def _parts(line: bytes) -> Iterator[bytes]:
    """The line; where it is no single one, each part that begins like a line."""
    if line.rfind(BEGINNING) == 0:
        yield line
    elif line.strip():
        yield from (part for part in PARTS.split(line) if part)
