"""How many requests a key may make."""

import math
import time

from limits import parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter


class RateLimiter:
    """Counts the requests of each key in fixed windows, the first of which opens a window.

    A worker knows only its own requests, so each grants its share of the limit. It is meant for
    one thread, the event loop.
    """

    def __init__(self, limit: str, workers: int) -> None:
        """Divides a limit among workers.

        Args:
            limit: of one key over all workers, in the notation of the `limits` library.
            workers: processes that serve; each grants an equal share, at least one request.
        """
        whole = parse(limit)
        self._share = type(whole)(max(1, whole.amount // workers), whole.multiples)
        self._windows = FixedWindowRateLimiter(_Windows())

    def retry_after(self, key_id: str) -> int | None:
        """Counts one request.

        Args:
            key_id: whose; must be a known one, because it is kept for good.

        Returns:
            None where the key may go on; else whole seconds, at least 1, until it may.
        """
        if self._windows.hit(self._share, key_id):
            return None
        end = self._windows.get_window_stats(self._share, key_id).reset_time
        return max(1, math.ceil(end - time.monotonic()))


class _Windows(Storage):
    """The window of each key, on the clock that nobody sets.

    The `MemoryStorage` of the library forgets old windows by a thread that it starts up to 100
    times a second, and the event loop waits for each to begin: 0.3 ms and more at p99.9. Keys are
    few, so that nothing has to be forgotten here.
    """

    STORAGE_SCHEME = None  # not to be had by a URL

    def __init__(self) -> None:
        super().__init__()
        self._ends: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.monotonic()
        if now >= self._ends.get(key, now):
            self._ends[key], self._counts[key] = now + expiry, 0
        self._counts[key] += amount
        return self._counts[key]

    def get(self, key: str) -> int:
        return self._counts.get(key, 0) if time.monotonic() < self.get_expiry(key) else 0

    def get_expiry(self, key: str) -> float:
        return self._ends.get(key, -math.inf)

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        forgotten = len(self._ends)
        self._ends.clear()
        self._counts.clear()
        return forgotten

    def clear(self, key: str) -> None:
        self._ends.pop(key, None)
        self._counts.pop(key, None)
