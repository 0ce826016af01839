"""How rows get from the event loop to a thread that writes them, while no request waits."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Generic, TypeVar

LOGGER = logging.getLogger("churn.service")

POLL = 0.2
"""Seconds between two looks at a queue. Threads that wake more often cost a tenth of all requests:
each time the event loop must hand over the interpreter, and get it back."""

CHUNK = 64
"""Rows that are written at once: about half a millisecond in which the event loop may wait."""

Item = TypeVar("Item")
Row = TypeVar("Row")


class WriteQueue(Generic[Item, Row]):
    """A bounded queue between the event loop and a thread that writes what is in it.

    `put` and `close` must be called by one thread: then no lock is needed, and none is waited for.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        rows: Callable[[Item], Iterable[Row]],
        write: Callable[[list[Row]], None],
        lost: Callable[[str, int], None],
    ) -> None:
        """Makes the queue; `start` starts the thread.

        Args:
            name: of the thread.
            limit: rows that may wait, those in hand among them.
            rows: the rows of an item, as many as `put` is told.
            write: writes at most `CHUNK` rows; if it raises, they are lost and that is logged.
            lost: is told why rows were lost, and how many: "queue" (full) and "closed" by the
                thread that puts, "error" by the thread that writes.
        """
        self._rows, self._write, self._lost = rows, write, lost
        self._limit = limit
        self._queue: deque[Item] = deque()
        # Each of these two has one thread that changes it.
        self._accepted = self._done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Item, size: int = 1) -> None:
        """Takes an item of `size` rows, or loses it where the queue is full. Never waits."""
        if self._accepted + size - self._done > self._limit:
            self._lost("closed" if self._stop.is_set() else "queue", size)
            return
        self._accepted += size
        self._queue.append(item)

    def close(self, timeout: float) -> bool:
        """Writes what waits; what is left after `timeout` seconds counts as lost.

        Returns:
            Whether all was written; False when asked again.
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
        self._drain()

    def _drain(self) -> None:
        rows = chain.from_iterable(map(self._rows, self._items()))
        while chunk := list(islice(rows, CHUNK)):
            try:
                self._write(chunk)
            except Exception:
                # The thread must live on: the next rows may be sound.
                LOGGER.exception("%d rows of the %s are lost", len(chunk), self._thread.name)
                self._lost("error", len(chunk))
            self._done += len(chunk)

    def _items(self) -> Iterator[Item]:
        while self._queue:
            yield self._queue.popleft()
