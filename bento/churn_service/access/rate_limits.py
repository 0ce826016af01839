"""Rate limit of each API key."""

import math
import time

from limits import parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter


class RateLimiter:
    """Counts the requests of each key in fixed windows; a key's first request starts its window.

    A worker knows only its own requests, so each worker grants its share of the limit. The class
    is for one thread, the event loop.
    """

    def __init__(self, limit: str, workers: int) -> None:
        """Divides a limit among workers.

        Args:
            limit: Limit of one key over all workers, in the notation of the `limits` library.
            workers: Number of workers; each grants an equal share, but at least one request.
        """
        total = parse(limit)
        self._share = type(total)(max(1, total.amount // workers), total.multiples)
        self._windows = FixedWindowRateLimiter(_Windows())

    def retry_after(self, key_id: str) -> int | None:
        """Counts one request.

        Args:
            key_id: Id of the key that made the request. Must be the id of a valid key, because ids
                are never removed.

        Returns:
            None where the request is within the limit; else the whole seconds, at least 1, until
            the next request is allowed.
        """
        if self._windows.hit(self._share, key_id):
            return None
        end = self._windows.get_window_stats(self._share, key_id).reset_time
        return max(1, math.ceil(end - time.monotonic()))


class _Windows(Storage):
    """The window of each key, on the monotonic clock.

    The library's `MemoryStorage` removes old windows in threads that it starts up to 100 times a
    second, and the event loop waits until each thread has started: 0.3 ms and more at p99.9. There
    are few keys, so this class never removes a window.
    """

    STORAGE_SCHEME = None  # cannot be created from a URL

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
        removed = len(self._ends)
        self._ends.clear()
        self._counts.clear()
        return removed

    def clear(self, key: str) -> None:
        self._ends.pop(key, None)
        self._counts.pop(key, None)
