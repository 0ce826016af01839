"""JSON lines in files that only grow: one process appends, readers go on where they stopped."""

import logging
import os
import re
import socket
import time
from collections.abc import Sequence
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
"""`start` is UTC down to the microsecond: files of a host's process sort by time."""


class LineFiles:
    """Files of lines that one thread of one process appends to.

    The oldest are removed, its own and those that dead processes of this host left; another
    host's never: nobody here knows whether it lives.
    """

    def __init__(self, folder: Path, file_bytes: int, files: int) -> None:
        self._folder, self._file_bytes, self._files = folder, file_bytes, files
        self._host = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)
        self._own = os.getpid(), re.sub(r"\D", "", iso_time(time.time(), "microseconds"))
        self._number = self._size = 0
        self._rest, self._failing = b"", False

    @property
    def path(self) -> Path:
        """The file that is written now."""
        pid, start = self._own
        return self._folder / f"predictions.{self._host}.{pid}.{start}.{self._number:06}.jsonl"

    def append(self, lines: Sequence[bytes]) -> int:
        """Appends lines that end with a newline, and says how many were lost.

        A disk that fills up may take half a line. It is not cut off, as it may have been read:
        its other half is what is written first once there is room.
        """
        if not self.finish():
            return len(lines)
        data = b"".join(lines)
        if self._size and self._size + len(data) > self._file_bytes:
            self._number, self._size = self._number + 1, 0
        written = self._write(data)
        lost = data.count(b"\n", written)
        if 0 < written < len(data) and data[written - 1 : written] != b"\n":
            self._rest = data[written : data.index(b"\n", written) + 1]
            lost -= 1
        return lost

    def finish(self) -> bool:
        """Writes the other half of a line, where one is missing; whether none is missing now."""
        if self._rest:
            try:
                self.path.stat()
                self._rest = self._rest[self._write(self._rest) :]
            except FileNotFoundError:
                self._rest = b""
            except OSError:
                return False
        return not self._rest

    def _write(self, data: bytes) -> int:
        written = 0
        try:
            # Opened each time: a file that was deleted, or a disk that came back, is no case apart.
            with self._open() as file:
                while written < len(data):
                    written += file.write(data[written:])
        except OSError as error:
            if not self._failing:
                LOGGER.error("predictions are not logged: %s", error)  # noqa: TRY400  no fault here
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
            self._remove_oldest()
        return open(self.path, "ab", buffering=0, opener=partial(os.open, mode=0o640))

    def _remove_oldest(self) -> None:
        others = [
            (match["start"], match["number"], path)
            for path in self._folder.iterdir()
            if (match := NAME.fullmatch(path.name)) and path != self.path and self._removable(match)
        ]
        for _, _, path in sorted(others)[: max(0, len(others) + 1 - self._files)]:
            path.unlink(missing_ok=True)

    def _removable(self, name: re.Match[str]) -> bool:
        if name["host"] != self._host or (int(name["pid"]), name["start"]) == self._own:
            return name["host"] == self._host
        try:
            begun = datetime.strptime(name["start"] + "+0000", "%Y%m%d%H%M%S%f%z").timestamp()
            # A process that began after the file, by any clock, only has the id of its maker.
            return psutil.Process(int(name["pid"])).create_time() > begun + 60
        except psutil.NoSuchProcess:
            return True
        except ValueError:  # no time of ours
            return False
