"""A process's last prediction, in a file that survives the process.

A process that is killed loses the lines that its writing thread had not written yet. The numbers of
its later lines would show that gap, but there are none. So the number of the last prediction is
kept in memory that the kernel writes to a file, and the lines after the last written one can be
counted. The lock on the file says whether the process runs: the kernel releases it at any end.
"""

import fcntl
import logging
import mmap
import os
from contextlib import suppress
from pathlib import Path

LOGGER = logging.getLogger("churn.service")

SUFFIX = ".last.json"
BYTES = 128
KEPT = 1_000
"""Files of ended processes that are kept: without a shipper nobody else removes them."""


class LastPrediction:
    """Keeps `{"last_prediction_id": ..., "time": ...}`, padded with spaces, in a file.

    The field's name is not `prediction_id`, so that a search for an id finds its line alone.

    `put` may be called by one thread, `open` and `close` by another one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory: mmap.mmap | None = None
        self._fd: int | None = None
        self._record = b""
        self._failing = False

    def put(self, prediction_id: str, time: float) -> None:
        """Notes a prediction, in a microsecond."""
        record = f'{{"last_prediction_id":"{prediction_id}","time":{time:.6f}}}'
        self._record = record.encode().ljust(BYTES - 1)[: BYTES - 1] + b"\n"
        # A reference of its own: `close` may run at the same time.
        if (memory := self._memory) is not None:
            memory[:] = self._record

    def open(self) -> None:
        """Creates the file, unless it exists; tries again at the next call where it cannot be."""
        if self._fd is not None or not self._record:
            return
        fd = None
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o640)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Without room on the disk a write to the memory would end the process.
            os.write(fd, self._record)
            self._memory = mmap.mmap(fd, BYTES)
        except OSError as error:
            if fd is not None:
                os.close(fd)
            if not self._failing:
                LOGGER.warning("the last prediction is not kept in %s: %s", self._path, error)
            self._failing = True
            return
        self._fd = fd
        self._memory[:] = self._record
        self._remove_oldest()

    def close(self) -> None:
        """Releases the lock; the file stays."""
        # Not `mmap.close`: `put` may be writing. The last reference unmaps the memory.
        self._memory = None
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _remove_oldest(self) -> None:
        found = []
        for path in self._path.parent.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # The shipper may remove it.
                found.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(found)[: -KEPT - 1]:
            path.unlink(missing_ok=True)
