"""The service's prediction logs: files of lines that only grow, in a folder at any URL."""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from upath import UPath

from churn_assets.contracts.pseudonym import KEY_BYTES
from churn_assets.core.scoring.log_lines import Lines
from churn_assets.core.scoring.traffic import Place

SUFFIXES = (".jsonl", ".jsonl.gz")
"""Of logs: as the service writes them, and as somebody packed them to save room."""
NAME = re.compile(r"predictions\..+\.\d+\.(?P<start>\d{20})\.\d+\.jsonl(\.gz)?")
"""host, process, start (UTC, to the microsecond) and number of a file that the service made."""

BLOCK_BYTES = 8 * 2**20
CLOCK_SLACK = timedelta(days=1)
"""By so much the clock of a file's disk may be behind that of the service."""


class PredictionLogError(ValueError):
    """The logs, or the key of their pseudonyms, cannot be used; the message says why."""


def read_lines(
    folder: UPath, places: Mapping[str, Place], since: datetime | None = None
) -> Iterator[Lines]:
    """The lines of every log below a folder, file by file, in blocks.

    Args:
        folder: there are no lines where it does not exist.
        places: how far files were read before, by path within the folder.
        since: files that were not written since then are left out.

    Raises:
        PredictionLogError: a packed file cannot be unpacked.
    """
    if not folder.exists():
        return
    logs = (path for path in folder.rglob("*") if path.name.endswith(SUFFIXES))
    for path in sorted(logs, key=str):
        name = path.relative_to(folder).as_posix()
        try:
            modified = _modified(path)
            if since is None or modified >= since - CLOCK_SLACK:
                begun = Place(0, _begun(path.name) or modified)
                yield from _lines(path, name, places.get(name, begun), begun)
        except FileNotFoundError:
            # The service removes its oldest files whenever it likes.
            continue
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise PredictionLogError(f"{name} cannot be unpacked: {error}") from error


def read_key(path: Path) -> bytes | None:
    """The key of the pseudonyms; None where there is no such file.

    Raises:
        PredictionLogError: the file holds no key.
    """
    if not path.is_file():
        return None
    key = path.read_bytes().rstrip(b"\r\n")
    low, high = KEY_BYTES
    if not low <= len(key) <= high:
        raise PredictionLogError(f"{path} holds {len(key)} bytes, and must hold {low} to {high}")
    return key


def _lines(path: UPath, name: str, place: Place, begun: Place) -> Iterator[Lines]:
    # A file that is smaller than what was read of it is another one.
    from_there = 0 < place.byte <= path.stat().st_size
    start, before, rest = *((place.byte, place.time) if from_there else (0, begun.time)), b""
    with path.open("rb", compression="infer") as file:
        file.seek(start)
        while block := file.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            if lines:
                yield Lines(name, start, lines, before)
            start += sum(map(len, lines)) + len(lines)
    if rest:
        yield Lines(name, start, [rest], before, whole=False)


def _begun(name: str) -> datetime | None:
    """What the name says; None where it is no name, or no time, of the service's."""
    match = NAME.fullmatch(name)
    try:
        return datetime.strptime(match["start"] + "+0000", "%Y%m%d%H%M%S%f%z") if match else None
    except ValueError:
        return None


def _modified(path: UPath) -> datetime:
    modified: datetime = path.fs.modified(path.path)
    return modified.astimezone(UTC)
