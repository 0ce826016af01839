"""The queue from the event loop to a writing thread, so that no request waits."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Generic, TypeVar

LOGGER = logging.getLogger("churn.service")

POLL = 0.2
"""Seconds between two polls of a queue. A thread polling more often costs a tenth of the requests
per second: each time the event loop must release the interpreter lock and get it back."""

CHUNK = 64
"""Rows that are written at once: about half a millisecond for which the event loop may wait."""

Item = TypeVar("Item")
Row = TypeVar("Row")


class WriteQueue(Generic[Item, Row]):
    """A bounded queue between the event loop and a thread that writes its rows.

    Only one thread may call `put` and `close`: so no lock is needed, and no call waits for one.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        rows: Callable[[Item], Iterable[Row]],
        write: Callable[[list[Row]], None],
        lost: Callable[[str, int], None],
        polled: Callable[[], None] = lambda: None,
    ) -> None:
        """Creates the queue; `start` starts the thread.

        Args:
            name: Name of the thread.
            limit: Number of rows that may wait, including those in progress.
            rows: Returns the rows of an item, as many as the `size` passed to `put`.
            write: Writes at most `CHUNK` rows; if it raises, the rows are lost and the log says so.
            lost: Called with the reason and the number of lost rows: "queue" (full) and "closed" by
                the thread that calls `put`, "error" by the writing thread.
            polled: Called by the writing thread after each poll.
        """
        self._rows, self._write, self._lost, self._polled = rows, write, lost, polled
        self._limit = limit
        self._queue: deque[Item] = deque()
        # Only one thread changes each of these two.
        self._accepted = self._done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Item, size: int = 1) -> None:
        """Adds an item of `size` rows, or drops it where the queue is full. Never waits."""
        if self._accepted + size - self._done > self._limit:
            self._lost("closed" if self._stop.is_set() else "queue", size)
            return
        self._accepted += size
        self._queue.append(item)

    def close(self, timeout: float) -> bool:
        """Writes the waiting rows; those left after `timeout` seconds count as lost.

        Returns:
            Whether all rows were written; False on a second call.
        """
        if self._stop.is_set():
            return False
        self._limit = -1
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if left := self._accepted - self._done:
            self._lost("closed", left)
        return not left

    def _run(self) -> None:
        while not self._stop.wait(POLL):
            self._drain()
            self._polled()
        self._drain()

    def _drain(self) -> None:
        rows = chain.from_iterable(map(self._rows, self._items()))
        while chunk := list(islice(rows, CHUNK)):
            try:
                self._write(chunk)
            except Exception:
                # The thread must continue: the next rows may be valid.
                LOGGER.exception("%d rows of the %s are lost", len(chunk), self._thread.name)
                self._lost("error", len(chunk))
            self._done += len(chunk)

    def _items(self) -> Iterator[Item]:
        while self._queue:
            yield self._queue.popleft()
