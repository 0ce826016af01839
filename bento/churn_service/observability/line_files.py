"""Append-only files of JSON lines: one process writes, readers continue where they stopped."""

import fcntl
import logging
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from io import FileIO
from pathlib import Path

import psutil

from churn_service.observability.logs import iso_time

LOGGER = logging.getLogger("churn.service")

NAME = re.compile(
    r"predictions\.(?P<host>[\w-]+)\.(?P<pid>\d+)\.(?P<start>\d{20})\.(?P<number>\d{6,})\.jsonl"
)
"""`start` is UTC to the microsecond: the files of one process sort by time."""

MOST_FILES = 10_000
"""Files that are kept at most, however small they are."""


class LineFiles:
    """Files of lines that one thread of one process appends to.

    The writer has a lock (flock) on its current file. A file without a lock is closed: nobody will
    write to it again. The kernel releases the lock of a process that is killed, and the lock is
    seen in every container that has the volume.

    The oldest files of this process and of dead processes on this host are removed. Files of
    another host stay, because this host cannot know whether their process is alive.

    Args:
        file_bytes: Size from which a new file is started.
        files: Files of that size that are kept; of smaller files, more are kept.
        file_seconds: Age from which `close_old` closes a file.
    """

    def __init__(
        self, folder: Path, file_bytes: int, files: int, file_seconds: float = math.inf
    ) -> None:
        self._folder, self._file_bytes, self._files = folder, file_bytes, files
        self._file_seconds, self._until = file_seconds, math.inf
        self._lock: int | None = None
        self._host = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)
        self._own = os.getpid(), re.sub(r"\D", "", iso_time(time.time(), "microseconds"))
        self._number = self._size = 0
        self._rest, self._failing = b"", False

    @property
    def process_path(self) -> Path:
        """The beginning of the path of every file of this process."""
        pid, start = self._own
        return self._folder / f"predictions.{self._host}.{pid}.{start}"

    @property
    def path(self) -> Path:
        """The current file."""
        path = self.process_path
        return path.with_name(f"{path.name}.{self._number:06}.jsonl")

    def append(self, lines: Sequence[bytes]) -> int:
        """Appends lines that end with a newline and returns the number of lost lines.

        A disk that fills up may take half a line. That half stays, because it may have been read:
        once there is room, its other half is written first.
        """
        if not self.finish():
            return len(lines)
        data = b"".join(lines)
        if self._size and self._size + len(data) > self._file_bytes:
            self._start_next()
        written = self._write(data)
        lost = data.count(b"\n", written)
        if 0 < written < len(data) and data[written - 1 : written] != b"\n":
            self._rest = data[written : data.index(b"\n", written) + 1]
            lost -= 1
        return lost

    def finish(self) -> bool:
        """Completes a half-written line; returns whether no half is missing."""
        if self._rest:
            try:
                self.path.stat()
                self._rest = self._rest[self._write(self._rest) :]
            except FileNotFoundError:
                self._rest = b""
            except OSError:
                return False
        return not self._rest

    def close_old(self) -> None:
        """Closes the current file if it is old enough and ends with a complete line."""
        if self._size and time.monotonic() >= self._until and self.finish():
            self._start_next()

    def close(self) -> bool:
        """Closes the current file; returns whether it ends with a complete line."""
        complete = self.finish()
        self._unlock()
        return complete

    def _start_next(self) -> None:
        self._unlock()
        self._number, self._size = self._number + 1, 0

    def _write(self, data: bytes) -> int:
        written = 0
        try:
            # Opened each time: a deleted file or a disk that came back needs no special case.
            with self._open() as file:
                self._keep_locked(file)
                while written < len(data):
                    written += file.write(data[written:])
        except OSError as error:
            if not self._failing:
                LOGGER.error("predictions are not logged: %s", error)  # noqa: TRY400  not a bug
            self._failing = True
        else:
            if self._failing:
                LOGGER.warning("predictions are logged again in %s", self.path)
            self._failing = False
        self._size += written
        return written

    def _open(self) -> FileIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._size:
            self._until = time.monotonic() + self._file_seconds
            self._remove_oldest()
        return open(self.path, "ab", buffering=0, opener=partial(os.open, mode=0o640))

    def _keep_locked(self, file: FileIO) -> None:
        """Locks a file until `_unlock`, before its first byte is written."""
        if self._lock is not None:
            if os.path.samestat(os.fstat(self._lock), os.fstat(file.fileno())):
                return
            self._unlock()
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            LOGGER.warning("%s cannot be locked, so it cannot be shipped: %s", file.name, error)
        self._lock = os.dup(file.fileno())

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def _remove_oldest(self) -> None:
        others = sorted(self._others())
        total, most = sum(size for *_, size in others), (self._files - 1) * self._file_bytes
        for kept, (_, _, path, size) in zip(range(len(others), 0, -1), others, strict=True):
            if kept < self._files or (total < most and kept < MOST_FILES):
                break
            path.unlink(missing_ok=True)
            total -= size

    def _others(self) -> Iterator[tuple[str, str, Path, int]]:
        """Start, number, path and size of the other files that may be removed."""
        for path in self._folder.iterdir():
            match = NAME.fullmatch(path.name)
            if match and path != self.path and self._removable(match):
                # Another process may remove the file: another writer, or the shipper.
                with suppress(FileNotFoundError):
                    yield match["start"], match["number"], path, path.stat().st_size

    def _removable(self, name: re.Match[str]) -> bool:
        if name["host"] != self._host or (int(name["pid"]), name["start"]) == self._own:
            return name["host"] == self._host
        try:
            started = datetime.strptime(name["start"] + "+0000", "%Y%m%d%H%M%S%f%z").timestamp()
            # A process that started a minute or more after the file only reuses its writer's id.
            return psutil.Process(int(name["pid"])).create_time() > started + 60
        except psutil.NoSuchProcess:
            return True
        except ValueError:  # not a time that this class wrote
            return False
