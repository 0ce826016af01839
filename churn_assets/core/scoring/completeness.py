"""Lost predictions: gaps in the numbers of each process of the service.

A prediction id is `<process>-<number>`. A process numbers its predictions from 0 without a gap and
logs them in that order. So a number is lost once a later one of the process has been read, whose
line is in the same file or in a later one. After the last number that was read, nothing is lost
before the process has ended: files may still be on their way. The shipper stores the end of a
process after all of its files, with the last number that the process gave.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from churn_assets.core.limits import Limits
from churn_assets.core.scoring.traffic import FILE, ORIGIN, PREDICTION, Window
from churn_assets.core.verdict import Verdict, not_judged

ID = r"(?P<process>[0-9a-f]{16})-(?P<number>[0-9a-f]{8,15})"
START = re.compile(r"predictions\.[\w-]+\.\d+\.(\d{20})\.")
"""The start of a process in the names of its files: UTC, to the microsecond."""

SHOWN_RANGES = 5

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ProcessEnd:
    """The end of a process of the service.

    Attributes:
        process: First part of its prediction ids.
        last: Number of its last prediction.
        time: Time of that prediction.
        start: Time at which the process started; None where the file's name does not say so.
        pod: Name of its pod, from the file's folder.
        release: Its release, likewise.
    """

    process: str
    last: int
    time: datetime
    start: datetime | None
    pod: str = ""
    release: str = ""


@dataclass(frozen=True)
class Completeness:
    """Counts of the numbered predictions of a month.

    Attributes:
        logged: Number of predictions in the log.
        lost: Number of predictions that are missing.
        gaps: Processes with missing predictions, the largest loss first: pod, release, template
            hash, role, process, logged, lost, and the first missing numbers.
    """

    logged: int
    lost: int
    gaps: pd.DataFrame


class _End(BaseModel):
    last_prediction_id: Annotated[str, Field(pattern=f"^{ID}$")]
    time: Annotated[float, Field(ge=0, lt=2**33)]


def parse_end(file: str, content: bytes) -> ProcessEnd | None:
    """Parses the file of a process's end; None for a file that is damaged.

    Args:
        file: Path of the file below the folder of the logs.
    """
    try:
        found = _End.model_validate_json(content)
    except ValidationError:
        return None
    process, _, number = found.last_prediction_id.partition("-")
    release, pod = ["", "", *file.split("/")[:-1]][-2:]
    time = datetime.fromtimestamp(found.time, UTC)
    return ProcessEnd(process, int(number, 16), time, process_start(file), pod, release)


def process_start(file: str) -> datetime | None:
    """Start of the process that wrote a file, from the file's name; None for another name."""
    match = START.match(file.rpartition("/")[2])
    try:
        return datetime.strptime(f"{match[1]}+0000", "%Y%m%d%H%M%S%f%z") if match else None
    except ValueError:
        return None


def began_before(rows: pd.DataFrame, ends: Iterable[ProcessEnd], window: Window) -> bool:
    """Whether a process of the window may have predicted before it."""
    starts = [process_start(str(file)) for file in rows[FILE].unique()]
    starts += [end.start for end in ends if window.contains(end.time)]
    return any(not _starts_in(start, window) for start in starts)


def completeness(
    rows: pd.DataFrame, earlier: pd.DataFrame, ends: Iterable[ProcessEnd], window: Window
) -> Completeness:
    """Counts the predictions that are missing in a window.

    The first number of a process that began before the window is the one after its last number in
    `earlier`. Where it has none there, nothing before the first number of the window is missed.

    Args:
        rows: Traffic in the window.
        earlier: Traffic of the month before, as far as it is known.
        ends: Ends of processes, read before the lines were: an end is stored after the lines.
    """
    known, before = _numbers(rows), {name: int(n[-1]) for name, n in _numbers(earlier).items()}
    over = {end.process: end for end in ends if window.contains(end.time)}
    origins = _origins(rows)
    logged, gaps = 0, []
    for name in sorted({*known, *over}):
        numbers, end = known.get(name, np.empty(0, np.int64)), over.get(name)
        logged += len(numbers)
        origin = origins.get(name) or ({"pod": end.pod, "release": end.release} if end else {})
        start = origin.pop("start", None) or (end.start if end else None)
        begins = _starts_in(start, window)
        first = 0 if begins else before.get(name, _before_first(numbers, end)) + 1
        last = max([int(numbers[-1]) if len(numbers) else -1, end.last if end else -1])
        numbers = numbers[numbers >= first]
        if lost := max(last - first + 1, 0) - len(numbers):
            gaps.append(
                {**dict.fromkeys(ORIGIN, ""), **origin, "process": name, "logged": len(numbers),
                 "lost": lost, "missing": _ranges(numbers, first, last)}
            )  # fmt: skip
    columns = [*ORIGIN, "process", "logged", "lost", "missing"]
    gaps.sort(key=lambda gap: -gap["lost"])
    return Completeness(
        logged, sum(gap["lost"] for gap in gaps), pd.DataFrame(gaps, columns=columns)
    )


def predictions_complete(found: Completeness, limits: Limits) -> Verdict:
    """Nearly all predictions of the service are in the log; a share at the limit passes."""
    limit, total = limits.max_lost_share, found.logged + found.lost
    numbers: dict[str, float | int | str] = {
        "limit": limit, "logged": found.logged, "lost": found.lost
    }  # fmt: skip
    if not total:
        why = "the log has no predictions of the month with numbered ids; at least one is needed."
        return not_judged(why, numbers)
    share = found.lost / total
    where = ""
    if found.lost:
        worst = found.gaps.iloc[0]
        who = f"pod {worst['pod']}" if worst["pod"] else f"process {worst['process']}"
        where = f", most of them ({worst['lost']:,}) of {who}"
    return Verdict(
        share <= limit,
        f"{found.lost:,} of {total:,} predictions ({share:.2%}) are missing in the log{where}; the "
        f"limit is {limit:.2%}.",
        {"value": share, **numbers},
    )


def _numbers(rows: pd.DataFrame) -> dict[str, Numbers]:
    """Numbers of each process, in order and without repeats; ids of another form are left out."""
    if rows.empty:
        return {}
    ids = rows[PREDICTION].astype(object).str.extract(f"^{ID}$").dropna()
    numbers = ids["number"].map(lambda text: int(text, 16))
    return {
        str(name): np.unique(found.to_numpy(np.int64))
        for name, found in numbers.groupby(ids["process"])
    }


def _origins(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Pod, release, last role and start of each process."""
    if rows.empty:
        return {}
    process = rows[PREDICTION].astype(object).str.extract(f"^{ID}$")["process"]
    found = {}
    for name, group in rows.assign(process=process).groupby("process"):
        starts = map(process_start, map(str, group[FILE].unique()))
        origin = {one: str(group[one].iloc[-1]) for one in ORIGIN}
        found[str(name)] = {**origin, "start": next(filter(None, starts), None)}
    return found


def _starts_in(start: datetime | None, window: Window) -> bool:
    return start is not None and (window.start is None or start >= window.start)


def _before_first(numbers: Numbers, end: ProcessEnd | None) -> int:
    """The number before the first one of a process whose earlier numbers are unknown."""
    if len(numbers):
        return int(numbers[0]) - 1
    return end.last if end else -1


def _ranges(numbers: Numbers, first: int, last: int) -> str:
    """The first ranges of missing numbers, such as "3, 7-12"."""
    bounds = [first - 1, *numbers.tolist(), last + 1]
    found = [(a + 1, b - 1) for a, b in pairwise(bounds) if b - a > 1]
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in found[:SHOWN_RANGES]]
    return ", ".join([*shown, "..."] if len(found) > SHOWN_RANGES else shown)
