"""Append-only files of JSON lines: one process writes, readers continue where they stopped."""

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
"""`start` is UTC to the microsecond: the files of one process sort by time."""


class LineFiles:
    """Files of lines that one thread of one process appends to.

    The oldest files of this process and of dead processes on this host are removed. Files of
    another host stay, because this host cannot know whether their process is alive.
    """

    def __init__(self, folder: Path, file_bytes: int, files: int) -> None:
        self._folder, self._file_bytes, self._files = folder, file_bytes, files
        self._host = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)
        self._own = os.getpid(), re.sub(r"\D", "", iso_time(time.time(), "microseconds"))
        self._number = self._size = 0
        self._rest, self._failing = b"", False

    @property
    def path(self) -> Path:
        """The current file."""
        pid, start = self._own
        return self._folder / f"predictions.{self._host}.{pid}.{start}.{self._number:06}.jsonl"

    def append(self, lines: Sequence[bytes]) -> int:
        """Appends lines that end with a newline and returns the number of lost lines.

        A disk that fills up may take half a line. That half stays, because it may have been read:
        once there is room, its other half is written first.
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

    def _write(self, data: bytes) -> int:
        written = 0
        try:
            # Opened each time: a deleted file or a disk that came back needs no special case.
            with self._open() as file:
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
            started = datetime.strptime(name["start"] + "+0000", "%Y%m%d%H%M%S%f%z").timestamp()
            # A process that started a minute or more after the file only reuses its writer's id.
            return psutil.Process(int(name["pid"])).create_time() > started + 60
        except psutil.NoSuchProcess:
            return True
        except ValueError:  # not a time that this class wrote
            return False
