"""A timeout for waiting requests, with one timer for all of them."""

import asyncio
from itertools import takewhile
from time import monotonic
from typing import Any


class Deadline:
    """Context manager that limits how long a task waits, as `asyncio.timeout` does.

    `asyncio.timeout` starts a timer for each request; this class has one timer for all. It checks
    the waiting tasks ten times within the deadline, so a task is cancelled up to a tenth late.

    Attributes:
        seconds: Longest time that a task may wait.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Ordered by start. A task waits for one thing at a time.
        self._started: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer_is_set = False

    def __enter__(self) -> None:
        """Starts the deadline of the current task."""
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled"
        self._started[task] = monotonic()
        if not self._timer_is_set:
            self._set_timer()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the deadline of the current task.

        Raises:
            TimeoutError: The task waited too long.
        """
        task = asyncio.current_task()
        assert task is not None
        del self._started[task]
        if task in self._expired:
            self._expired.discard(task)
            # A second cancellation came from elsewhere and must not be turned into a timeout.
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError

    def _set_timer(self) -> None:
        asyncio.get_running_loop().call_later(self.seconds / 10, self._cancel_expired)
        self._timer_is_set = True

    def _cancel_expired(self) -> None:
        latest = monotonic() - self.seconds
        for task in takewhile(lambda task: self._started[task] <= latest, self._started):
            if task not in self._expired:
                self._expired.add(task)
                task.cancel()
        self._timer_is_set = False
        if self._started:
            self._set_timer()
