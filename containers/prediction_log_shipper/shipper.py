"""Ships closed files, keeps the volume within its bound, and ends in time."""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from bento_fetcher.download import DeadlineError, deadline
from bento_fetcher.settings import reason, shown

from prediction_log_shipper.report import log, read_counts, write_counts
from prediction_log_shipper.settings import Settings
from prediction_log_shipper.store import Store
from prediction_log_shipper.volume import (
    ENDED,
    RUNNING,
    Process,
    find_processes,
    is_closed,
    lines_in,
    newest_first,
    size_of,
)

UPLOAD_SECONDS = 600.0
"""Longest attempt to store one file."""

MAX_WAIT, MAX_WAIT_AT_STOP = 60.0, 2.0
"""Longest pause after failures."""

POLL_SECONDS = 0.2


class Shipper:
    """Ships the files of a volume to a store.

    The files of a process are shipped in their order, so that a file in the store shows that those
    before it were shipped or are lost. `stop` may be called by a handler of a signal.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._counts = read_counts(settings.folder)
        # Of the file that is being stored: the other thread must not remove it.
        self._lock, self._storing = threading.Lock(), Path()
        self._failures, self._end = 0, 0.0
        self._running: dict[str, bytes] = {}

    def run(self) -> int:
        """Ships until `stop` is called, then what is left; returns the exit code."""
        self._report()
        threading.Thread(target=self._keep_within_bound, name="bound", daemon=True).start()
        while not self._end:
            self.ship()
            self._pause(self._wait() if self._failures else self._settings.interval)
        return self._finish()

    def stop(self) -> None:
        """Makes `run` ship what is left and return, also while it stores a file."""
        self._end = self._end or monotonic() + self._settings.stop_seconds
        self._shorten_attempt()

    def ship(self, *, open_files: bool = False) -> None:
        """Ships every closed file and removes it.

        Args:
            open_files: Whether a copy of each open file is shipped as well.
        """
        failed = False
        for process in find_processes(self._settings.folder):
            if not (
                self._ship_files(process, open_files)
                and self._ship_running(process)
                and self._ship_end(process)
            ):
                failed = True
        self._failures = self._failures + 1 if failed else 0
        self._report()

    def drop_newest(self) -> None:
        """Removes the newest closed files while the volume has too many bytes, and counts them."""
        with self._lock:
            files = [path for one in find_processes(self._settings.folder) for path in one.files]
            excess = sum(map(size_of, files)) - self._settings.max_bytes
            for path in newest_first(files) if excess > 0 else ():
                if excess <= 0:
                    break
                if path != self._storing and is_closed(path):
                    lines, size = lines_in(path), size_of(path)
                    path.unlink(missing_ok=True)
                    excess -= size
                    self._counts.dropped += 1
                    self._counts.dropped_lines += lines
                    log("ERROR", "dropped", file=path.name, lines=lines, bytes=size,
                        error=f"CHURN_SHIP_MAX_BYTES is {self._settings.max_bytes}")  # fmt: skip

    def _ship_files(self, process: Process, open_files: bool) -> bool:
        """Ships the files of lines of a process; returns whether all attempts succeeded."""
        for path in list(process.files):
            closed = is_closed(path)
            if closed or (open_files and size_of(path)):
                if not self._stored(path, process.contract, path.name, remove=closed):
                    return False
                if not closed:
                    return True
            elif process.ended and not size_of(path):
                path.unlink(missing_ok=True)  # The process ended before the first byte.
            else:
                return True
            process.files.remove(path)
        return True

    def _ship_running(self, process: Process) -> bool:
        """Stores the last prediction of a process that runs, where it is another one."""
        if process.last is None or process.ended:
            return True
        last = process.last.read_bytes()
        if last == self._running.get(process.name):
            return True
        name = process.name + RUNNING
        if not self._stored(process.last, process.contract, name, remove=False, replace=True):
            return False
        self._running[process.name] = last
        return True

    def _ship_end(self, process: Process) -> bool:
        """Ships the last prediction of a process that has ended, after all of its files."""
        if process.last is None or not process.ended or process.files:
            return True
        name = process.name + ENDED
        return self._stored(process.last, process.contract, name, remove=True)

    def _stored(
        self, path: Path, contract: str, name: str, *, remove: bool, replace: bool = False
    ) -> bool:
        """Stores a file, then removes it; returns whether that succeeded.

        Args:
            replace: Whether the file is one that changes: it is neither counted nor logged.
        """
        settings, begin = self._settings, monotonic()
        release = settings.pod_field("release", "unknown")
        pod = settings.pod_field("pod", name.split(".")[1])
        target = f"{contract}/{release}/{pod}/{name}"
        with self._keeping(path):
            size = size_of(path)
            try:
                with deadline(UPLOAD_SECONDS):
                    if self._end:
                        self._shorten_attempt()
                    self._store.put(path, target, replace=replace)
            except FileNotFoundError:
                if not path.exists():
                    return True  # Dropped before this attempt.
                where = f"CHURN_SHIP_URL is {shown(settings.url)!r}"
                return self._failed(path, target, f"{where}: there is no such folder or bucket")
            except DeadlineError:
                return self._failed(path, target, f"not stored within {monotonic() - begin:.0f} s")
            except Exception as error:  # noqa: BLE001 - the stores share no base class of errors
                return self._failed(path, target, reason(error))
            if remove:
                path.unlink(missing_ok=True)
        if replace:
            return True
        self._counts.shipped += 1
        self._counts.shipped_bytes += size
        seconds = round(monotonic() - begin, 3)
        log("INFO", "shipped", file=path.name, object=target, bytes=size, seconds=seconds)
        return True

    def _shorten_attempt(self) -> None:
        """Makes an attempt that is in progress end with the time of the shipper."""
        if (left := signal.getitimer(signal.ITIMER_REAL)[0]) > 0:
            left = min(left, self._end - monotonic())
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))

    def _failed(self, path: Path, target: str, error: str) -> bool:
        self._counts.failed += 1
        log("ERROR", "not shipped", file=path.name, object=target, error=error)
        return False

    @contextmanager
    def _keeping(self, path: Path) -> Iterator[None]:
        with self._lock:
            self._storing = path
        try:
            yield
        finally:
            self._storing = Path()

    def _keep_within_bound(self) -> None:
        while True:
            # A thread that ends would leave the volume without a bound.
            try:
                self.drop_newest()
            except OSError as error:
                log("ERROR", "the volume's bound is not kept", error=reason(error))
            sleep(self._settings.interval)

    def _finish(self) -> int:
        """Waits for the service's end and ships what is left, within the time."""
        copied, copy_at = False, self._end - self._settings.stop_seconds / 2
        while (left := self._left()) and monotonic() < self._end:
            # A service that does not end may take its last lines with it: they are copied.
            copy = not copied and monotonic() >= copy_at
            self.ship(open_files=copy)
            copied = copied or copy
            if self._left():
                wait = self._wait() if self._failures else POLL_SECONDS
                self._pause(min(wait, MAX_WAIT_AT_STOP), at_stop=True)
        self._report()
        log("ERROR" if left else "INFO", "ended", left=left, **vars(self._counts))
        return 1 if left else 0

    def _left(self) -> list[str]:
        """Names of the files that are not shipped, and of the processes that have not ended."""
        found = find_processes(self._settings.folder)
        files = [path.name for one in found for path in one.files if size_of(path)]
        return files + [one.last.name for one in found if one.last]

    def _wait(self) -> float:
        # Random, so that the pods do not all come back to a store at the same moment.
        return min(MAX_WAIT, 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1)  # noqa: S311

    def _pause(self, seconds: float, *, at_stop: bool = False) -> None:
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0 and (at_stop or not self._end):
            sleep(min(left, POLL_SECONDS))

    def _report(self) -> None:
        files = [path for one in find_processes(self._settings.folder) for path in one.files]
        self._counts.waiting, self._counts.waiting_bytes = len(files), sum(map(size_of, files))
        write_counts(self._settings.folder, self._counts)
