"""The service without one of its own parts, or with a library's part in its place.

`benchmarks.service_parts` copies this module into unpacked bentos, beside `service.py`, which then
calls one of the functions.
"""

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from churn_service import graceful_shutdown, worker
from churn_service.http import middleware
from churn_service.http.middleware import Dispatcher
from churn_service.observability import logs, metrics, prediction_log


def drain(service: Any) -> None:
    """The shutdown of uvicorn alone."""
    vars(worker)["drain_on_sigterm"] = lambda seconds, began: None


def filter_of_new_connections(service: Any) -> None:
    """The drain alone: the listening socket stays open until BentoML's supervisor ends."""
    graceful_shutdown.refuse_connections = lambda: None


class BlockingQueue:
    """A thread that waits in `queue.Queue.get`, as `logging.handlers.QueueListener` does."""

    def __init__(
        self,
        name: str,
        limit: int,
        rows: Callable[[Any], Iterable[Any]],
        write: Callable[[list[Any]], None],
        lost: Callable[[str, int], None],
    ) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(limit)
        self._rows, self._write, self._lost = rows, write, lost
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Any, size: int = 1) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._lost("queue", size)

    def close(self, timeout: float) -> bool:
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        for item in iter(self._queue.get, None):
            self._write(list(self._rows(item)))


def polled_queue(service: Any) -> None:
    """`queue.Queue` and a thread that waits in `get`."""
    for module in (logs, prediction_log):
        vars(module)["WriteQueue"] = BlockingQueue


def middleware_before_the_router(service: Any) -> None:
    """The same application mounted, as with `@bentoml.asgi_app`: behind BentoML's router."""
    [(_, options)] = [found for found in service.middlewares if found[0] is Dispatcher]
    service.middlewares.clear()
    service.apis.clear()
    service.mount_asgi_app(Dispatcher(None, **options), "/")  # type: ignore[arg-type]


def one_name_for_unknown_paths(service: Any) -> None:
    """BentoML's middlewares as they are: each requested path is a label of its metrics."""
    middleware._hide_unknown_paths = lambda app: None


def windows_in_mapped_memory(service: Any) -> None:
    """Counters only: no counts of the last customers, and no shares computed from them."""

    class NoCounts:
        def __init__(self, *_: Any) -> None: ...
        def add(self, *_: Any) -> None: ...
        def extend(self, *_: Any) -> None: ...
        def write(self) -> None: ...

    for name in ("RollingScores", "RollingChecks", "PublishedCounts"):
        vars(metrics)[name] = NoCounts
