"""The service's logs: JSON lines on stderr, written by a thread so that no request waits."""

import logging
import logging.config
import os
import re
import select
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any, Literal

from pydantic_core import to_json

from churn_service.observability.queue import WriteQueue

QUEUE = 20_000
"""Lines of the request log that may wait to be written; some 10 MB."""

PIPE_BUF = 4096
"""Bytes that Linux writes to a pipe atomically, so that lines of several workers do not mix."""

FIELDS = (
    "time", "level", "logger", "request_id", "key_id", "trace_id",
    "method", "route", "status", "ms", "customers", "error_type",
)  # fmt: skip

LEVELS = {logging.INFO: "INFO", logging.WARNING: "WARNING", logging.ERROR: "ERROR"}

_Request = tuple[Any, ...]


class RequestLog:
    """Writes one JSON line per request, with no content of the request but its route.

    If stderr stalls, lines wait, then are dropped; a later line reports how many.
    """

    def __init__(self, level: str, stream: IO[Any] | None = None) -> None:
        """Prepares the log.

        Args:
            level: Least level that is written. A request is INFO, from status 400 on WARNING, from
                500 on ERROR.
            stream: File with a descriptor; None is stderr.
        """
        self._level = logging.getLevelNamesMapping()[level]
        self._fd = (sys.stderr if stream is None else stream).fileno()
        self._lost = {"queue": 0, "closed": 0, "error": 0}
        self._reported, self._torn = 0, False
        self._queue = WriteQueue("request log", QUEUE, _rows, self._write, self._count_lost)

    def start(self) -> None:
        self._queue.start()

    def close(self, timeout: float = 1.0) -> None:
        """Writes the waiting lines, for at most `timeout` seconds."""
        self._queue.close(timeout)

    def put(
        self,
        time: float,
        method: str,
        route: str,
        status: int,
        seconds: float,
        *,
        request_id: str,
        key_id: str,
        trace_id: str,
        error_type: str = "",
        customers: int = 0,
    ) -> None:
        """Logs a request that arrived at `time` (since 1970) and took `seconds`. Never waits."""
        level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
        if level >= self._level:
            self._queue.put(
                (time, level, request_id, key_id, trace_id, method, route, status, seconds,
                 customers, error_type)
            )  # fmt: skip

    def _count_lost(self, reason: str, count: int) -> None:
        self._lost[reason] += count

    def _write(self, requests: list[_Request]) -> None:
        lines = [*self._loss_report(), *map(_line, requests)]
        for piece in _pieces(lines):
            try:
                _write_all(self._fd, b"\n" + piece if self._torn else piece)
                self._torn = False
            except OSError:
                # Only a later line can report this.
                self._torn = True
                self._lost["error"] += piece.count(b"\n")

    def _loss_report(self) -> Iterator[bytes]:
        lost = sum(self._lost.values())
        if lost > self._reported:
            line = {
                "time": iso_time(time.time(), "milliseconds"),
                "level": "ERROR",
                "logger": "churn.request",
                "message": "lines of this log were dropped: stderr did not take them in time",
                "dropped": lost - self._reported,
            }
            self._reported = lost
            yield to_json(line) + b"\n"


def _rows(request: _Request) -> tuple[_Request]:
    return (request,)


def _line(request: _Request) -> bytes:
    moment, level, *ids, seconds, customers, error_type = request
    head = iso_time(moment, "milliseconds"), LEVELS[level], "churn.request"
    values = (*head, *ids, round(seconds * 1000, 3), customers, error_type)
    return to_json(dict(zip(FIELDS, values, strict=True))) + b"\n"


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) >= PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            # Another process that shares the pipe made it non-blocking; this thread may wait.
            select.select((), (fd,), ())


def iso_time(moment: float, precision: Literal["milliseconds", "microseconds"]) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, such as `2026-03-01T12:00:00.250Z`."""
    second, micros = divmod(round(moment * 1e6), 1_000_000)
    fraction = f"{micros:06}" if precision == "microseconds" else f"{micros // 1000:03}"
    return f"{_second(second)}.{fraction}Z"


@lru_cache(16)  # Many requests come within one second.
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# Version 00 ends with the flags; a later, unknown version may have more fields.
TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?",
    re.DOTALL,
)


def trace_id(traceparent: str | None) -> str:
    """Id of the trace that a request belongs to, from its `traceparent` header.

    By W3C Trace Context level 1 (https://www.w3.org/TR/trace-context-1/), section 3.2.

    Returns:
        32 hexadecimal digits; "" where the header is missing or invalid.
    """
    match = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return match[1] if match else ""


def configure(level: str) -> None:
    """Makes the loggers of the service, BentoML and uvicorn write JSON to stderr.

    Call it after BentoML has set up its own logging, which it replaces. uvicorn's access log is
    switched off, because the request log has more.
    """
    to_stderr = {"level": level, "handlers": ["stderr"], "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": _formatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "loggers": {
                **dict.fromkeys(("churn.service", "bentoml", "uvicorn"), to_stderr),
                "uvicorn.access": {"level": logging.CRITICAL + 1, "propagate": False},
            },
        }
    )


def _formatter() -> logging.Formatter:
    from pythonjsonlogger.core import RESERVED_ATTRS
    from pythonjsonlogger.json import JsonFormatter

    formatter = JsonFormatter(
        ("asctime", "levelname", "name", "message"),
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        # uvicorn's copy of the message, in colours.
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],
    )
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03dZ"
    return formatter
