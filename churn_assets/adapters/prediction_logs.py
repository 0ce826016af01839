"""Reader of the service's prediction logs: append-only line files in a folder at any URL.

The files may be in the folder itself, as the service writes them, or in subfolders: the shipper's
sidecar stores them as `<release>/<pod>/<file>`, with one file more for each process that has ended.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from upath import UPath

from churn_assets.contracts.pseudonym import KEY_BYTES
from churn_assets.core.scoring.completeness import ProcessEnd, parse_end
from churn_assets.core.scoring.log_lines import Lines
from churn_assets.core.scoring.traffic import ReadPosition

SUFFIXES = (".jsonl", ".jsonl.gz")
"""Suffixes of log files: as written by the service, and compressed to save space."""
ENDED = ".ended.json"
"""End of the name of a file that has the last prediction of a process that has ended."""
RUNNING = ".running.json"
"""The same of a process that ran when the file was stored."""
NAME = re.compile(r"predictions\..+\.\d+\.(?P<start>\d{20})\.\d+\.jsonl(\.gz)?")
"""File name by the service: host, process, start (UTC, to the microsecond) and number."""

BLOCK_BYTES = 8 * 2**20
SILENCE = timedelta(hours=1)
"""Age of the last sign of a process after which its pod is lost, with what it had not shipped."""
CLOCK_SLACK = timedelta(days=1)
"""The clock of a file's disk may be behind the service's clock by this much."""


class PredictionLogError(ValueError):
    """The logs or the key of their pseudonyms cannot be used; the message says why."""


class IncompleteLogError(PredictionLogError):
    """A compressed log ends too early: it may not be written completely; a retry may help."""


def read_lines(
    folder: UPath, positions: Mapping[str, ReadPosition], since: datetime | None = None
) -> Iterator[Lines]:
    """Yields the new lines of every log below a folder, file by file, in blocks.

    Args:
        folder: Folder of the logs; yields nothing where it does not exist.
        positions: Read position of each file, by path within the folder.
        since: Files last modified before this time, less `CLOCK_SLACK`, are skipped.

    Raises:
        IncompleteLogError: A compressed file ends too early.
        PredictionLogError: A compressed file cannot be decompressed.
    """
    for path, name in _find(folder, SUFFIXES):
        try:
            modified = _modified(path)
            if since is None or modified >= since - CLOCK_SLACK:
                beginning = ReadPosition(0, _start_time(path.name) or modified)
                yield from _lines(path, name, positions.get(name, beginning), beginning)
        except FileNotFoundError:
            # The service may remove its oldest files at any time.
            continue
        except EOFError as error:
            raise IncompleteLogError(f"{name} cannot be decompressed: {error}") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise PredictionLogError(f"{name} cannot be decompressed: {error}") from error


def read_ends(
    folder: UPath, since: datetime | None = None, now: datetime | None = None
) -> tuple[list[ProcessEnd], list[str]]:
    """Reads the ends of processes below a folder, and the names of those that are damaged.

    An end is stored after the lines of its process: read the ends before the lines. A process that
    has given no sign for an hour has ended, too, with the volume of its pod.

    Args:
        folder: Folder of the logs; there are no ends where it does not exist.
        since: Files last modified before this time, less `CLOCK_SLACK`, are skipped.
        now: The present by default.
    """
    silent = (now or datetime.now(UTC)) - SILENCE
    found = list(_find(folder, (RUNNING, ENDED)))
    ended = {name.removesuffix(ENDED) for _, name in found if name.endswith(ENDED)}
    ends, damaged = [], []
    for path, name in found:
        modified = _modified(path)
        if since is not None and modified < since - CLOCK_SLACK:
            continue
        if name.endswith(RUNNING) and (name.removesuffix(RUNNING) in ended or modified > silent):
            continue
        end = parse_end(name, path.read_bytes())
        damaged += [name] if end is None else []
        ends += [] if end is None else [end]
    return ends, damaged


def _find(folder: UPath, suffixes: tuple[str, ...]) -> Iterator[tuple[UPath, str]]:
    """Files below a folder, with their names in it; none where it does not exist."""
    if not folder.exists():
        return
    # Not `rglob`: at a URL it reads `[`, `?` and `*` in the folder's own path as patterns.
    root = folder.path.rstrip("/")
    # A store may list from a cache what it had at an earlier read.
    folder.fs.invalidate_cache()
    found = (name for name in folder.fs.find(root) if name.endswith(suffixes))
    for path in sorted((folder / name.removeprefix(f"{root}/") for name in found), key=str):
        yield path, path.relative_to(folder).as_posix()


def read_key(path: Path) -> bytes | None:
    """Reads the key of the pseudonyms; None where the file does not exist.

    Raises:
        PredictionLogError: The file does not contain a valid key.
    """
    if not path.is_file():
        return None
    key = path.read_bytes().rstrip(b"\r\n")
    low, high = KEY_BYTES
    if not low <= len(key) <= high:
        raise PredictionLogError(f"{path} holds {len(key)} bytes, and must hold {low} to {high}")
    return key


def _lines(
    path: UPath, name: str, position: ReadPosition, beginning: ReadPosition
) -> Iterator[Lines]:
    # A file that is smaller than its read position was replaced by another file.
    resume = 0 < position.byte <= path.stat().st_size
    start, before, rest = *((position.byte, position.time) if resume else (0, beginning.time)), b""
    with path.open("rb", compression="infer") as file:
        file.seek(start)
        while block := file.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            if lines:
                yield Lines(name, start, lines, before)
            start += sum(map(len, lines)) + len(lines)
    if rest:
        yield Lines(name, start, [rest], before, complete=False)


def _start_time(name: str) -> datetime | None:
    """Start time in the file name; None where the name is not in the service's format."""
    match = NAME.fullmatch(name)
    try:
        return datetime.strptime(match["start"] + "+0000", "%Y%m%d%H%M%S%f%z") if match else None
    except ValueError:
        return None


def _modified(path: UPath) -> datetime:
    modified: datetime = path.fs.modified(path.path)
    return modified.astimezone(UTC)
