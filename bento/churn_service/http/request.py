"""A request and its reply, as ASGI has them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from time import monotonic
from typing import Any

from churn_service.inference.predictions import Asked
from churn_service.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON = "application/json"


class CallerGone(Exception):  # noqa: N818  # nobody's error
    """The caller closed the connection before the body was whole."""


class Deadline:
    """`asyncio.timeout` for what each request waits for: one timer for all, and not one for each.

    Who waits is looked at ten times within the deadline: it passes up to a tenth late.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # In the order in which they began. A task waits for one thing at a time.
        self._began: dict[asyncio.Task[Any], float] = {}
        self._passed: set[asyncio.Task[Any]] = set()
        self._is_looking = False

    def __enter__(self) -> None:
        """Begins to wait."""
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled"
        self._began[task] = monotonic()
        if not self._is_looking:
            self._look_later()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends waiting.

        Raises:
            TimeoutError: it took too long.
        """
        task = asyncio.current_task()
        assert task is not None
        del self._began[task]
        if task in self._passed:
            self._passed.discard(task)
            # Whoever else has cancelled the task as well wants it to end.
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self.seconds / 10, self._look)
        self._is_looking = True

    def _look(self) -> None:
        latest = monotonic() - self.seconds
        for task in takewhile(lambda task: self._began[task] <= latest, self._began):
            if task not in self._passed:
                self._passed.add(task)
                task.cancel()
        self._is_looking = False
        if self._began:
            self._look_later()


@dataclass(slots=True)
class Call:
    """A request on its way through.

    Attributes:
        headers: by lower-case name.
        request_id: the caller's, or one of ours.
        customers: how many were scored.
        error_type: kind of the problem that ended it.
    """

    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive
    asked: Asked
    request_id: str
    customers: int = 0
    error_type: str = ""

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the caller says it."""
        told = self.headers.get(b"content-length")
        return None if told is None else int(told)

    async def body(self, limit: int, deadline: Deadline) -> bytes:
        """The JSON that was sent.

        Args:
            limit: bytes that it may have.
            deadline: by which it must be here.

        Raises:
            Problem: unsupported-media-type, too-large or timeout.
            CallerGone: it will never be whole.
        """
        _require_json(self.headers)
        # A caller who says how much is coming is refused before it comes.
        if self.length is not None and self.length > limit:
            raise _too_large(limit)
        try:
            with deadline:
                return await self._read(limit)
        except TimeoutError:
            detail = f"the body was not here within {deadline.seconds:g} s"
            raise Problem("timeout", detail, headers={"Connection": "close"}) from None

    async def _read(self, limit: int) -> bytes:
        parts, size, more = [], 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise CallerGone
            part, more = message.get("body", b""), message.get("more_body", False)
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(slots=True)
class Reply:
    """What is sent back."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] | None = None

    async def send(self, send: Send, extra: Headers) -> None:
        """Writes it; `extra` headers come after its own."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *extra,
        ]
        if self.headers:
            headers += [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not _is_json(kind):
        shown = kind.decode("latin-1") or "missing"
        detail = f"the content type is {shown!r} and must be application/json in UTF-8"
        raise Problem("unsupported-media-type", detail, headers={"Accept": JSON})
    if headers.get(b"content-encoding", b"identity") != b"identity":
        detail = "the body must not be compressed"
        raise Problem("unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})


def _is_json(kind: bytes) -> bool:
    """Whether a content type with parameters or capitals is JSON in UTF-8."""
    name, *parameters = (part.strip() for part in kind.lower().split(b";"))
    charset = {p.replace(b'"', b"") for p in parameters if p.startswith(b"charset=")}
    return name == JSON.encode() and charset <= {b"charset=utf-8"}


def _too_large(limit: int) -> Problem:
    # The rest of the body would have to be read before the connection could be used again.
    detail = f"the body is larger than {limit} bytes"
    return Problem("too-large", detail, headers={"Connection": "close"})
