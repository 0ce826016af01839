"""What the shipper reports: JSON lines on stderr, and a file with its counts."""

import json
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = "shipper.json"
"""Name of the file with the counts, in the folder of the prediction logs."""


@dataclass
class Counts:
    """Counts since the volume was created, and what waits now.

    Attributes:
        shipped: Files that the store has.
        dropped: Files that were removed because the volume was full.
        dropped_lines: Lines of these files.
        failed: Attempts to store a file that failed.
        waiting: Files that wait, the open ones among them.
        waiting_bytes: Bytes of these files.
    """

    shipped: int = 0
    shipped_bytes: int = 0
    dropped: int = 0
    dropped_lines: int = 0
    failed: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


def read_counts(folder: Path) -> Counts:
    """Reads the counts of an earlier run on the same volume; zeros where there was none."""
    try:
        found = json.loads((folder / FILE).read_bytes())
        return Counts(**{one.name: int(found[one.name]) for one in fields(Counts)})
    except FileNotFoundError:
        return Counts()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log("ERROR", "the counts of an earlier run are lost", error=str(error))
        return Counts()


def write_counts(folder: Path, counts: Counts) -> None:
    """Replaces the file with the counts; a failure is logged, since the files matter more."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{FILE}"
        part.write_text(json.dumps({"time": _now(), **asdict(counts)}) + "\n")
        part.replace(folder / FILE)
    except OSError as error:
        log("ERROR", "the counts are not written", error=str(error))


def log(level: str, message: str, **values: Any) -> None:
    """Writes one line of the log."""
    line = {"time": _now(), "level": level, "logger": "churn.shipper", "message": message, **values}
    sys.stderr.write(f"{json.dumps(line)}\n")
    sys.stderr.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
