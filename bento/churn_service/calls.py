"""A request and its reply, as ASGI has them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from churn_service.answers import Asked
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

    async def body(self, limit: int, seconds: float) -> bytes:
        """The JSON that was sent.

        Args:
            limit: bytes that it may have.
            seconds: within which it must be here.

        Raises:
            Problem: unsupported-media-type, too-large or timeout.
            CallerGone: it will never be whole.
        """
        _require_json(self.headers)
        # A caller who says how much is coming is refused before it comes.
        if self.length is not None and self.length > limit:
            raise _too_large(limit)
        deadline = _Deadline(seconds)
        try:
            return await self._read(limit)
        except asyncio.CancelledError:
            if not deadline.was_why():
                raise
            detail = f"the body was not here within {seconds:g} s"
            raise Problem("timeout", detail, headers={"Connection": "close"}) from None
        finally:
            deadline.cancel()

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


class _Deadline:
    """`asyncio.timeout` for every request: the same at a third of its cost."""

    def __init__(self, seconds: float) -> None:
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._passed = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    def _pass(self) -> None:
        self._passed = True
        if self._task is not None:
            self._task.cancel()

    def was_why(self) -> bool:
        """Whether the task was cancelled by this, and by nobody else as well."""
        return self._passed and self._task is not None and self._task.uncancel() == 0

    def cancel(self) -> None:
        self._timer.cancel()


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
