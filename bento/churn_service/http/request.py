"""An HTTP request, as ASGI delivers it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from churn_service.inference.predictions import RequestContext
from churn_service.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON = "application/json"


class ClientDisconnect(Exception):  # noqa: N818  # Starlette's name for it
    """The client closed the connection before the body was complete."""


@dataclass(slots=True)
class Request:
    """One request, with its values for the request log.

    Attributes:
        headers: Values by lower-case name.
        request_id: The client's `X-Request-Id`, or a generated one.
        customers: Number of customers scored.
        error_type: Kind of the problem that ended the request; "" where there was none.
    """

    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive
    context: RequestContext
    request_id: str
    customers: int = 0
    error_type: str = ""

    @property
    def length(self) -> int | None:
        """Bytes of the body by `Content-Length`; None where the header is missing."""
        length = self.headers.get(b"content-length")
        return None if length is None else int(length)

    async def body(self, limit: int, timeout: float) -> bytes:
        """Reads the JSON body.

        Args:
            limit: Most bytes that the body may have.
            timeout: Seconds within which the whole body must arrive.

        Raises:
            Problem: `unsupported-media-type`, `too-large` or `timeout`.
            ClientDisconnect: The client closed the connection.
        """
        _require_json(self.headers)
        # A client that announces too much is refused before it sends anything.
        if self.length is not None and self.length > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(timeout):
                return await self._read(limit)
        except TimeoutError:
            detail = f"the body did not arrive within {timeout:g} s"
            raise Problem("timeout", detail, headers={"Connection": "close"}) from None

    async def _read(self, limit: int) -> bytes:
        parts, size, more = [], 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message.get("body", b""), message.get("more_body", False)
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"")
    if content_type != b"application/json" and not _is_json(content_type):
        shown = content_type.decode("latin-1") or "missing"
        detail = f"the content type is {shown!r} and must be application/json in UTF-8"
        raise Problem("unsupported-media-type", detail, headers={"Accept": JSON})
    if headers.get(b"content-encoding", b"identity") != b"identity":
        detail = "the body must not be compressed"
        raise Problem("unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})


def _is_json(content_type: bytes) -> bool:
    """Whether a content type with parameters or capitals is JSON in UTF-8."""
    name, *parameters = (part.strip() for part in content_type.lower().split(b";"))
    charset = {p.replace(b'"', b"") for p in parameters if p.startswith(b"charset=")}
    return name == JSON.encode() and charset <= {b"charset=utf-8"}


def _too_large(limit: int) -> Problem:
    # To reuse the connection, the server would have to read the rest of the body.
    detail = f"the body is larger than {limit} bytes"
    return Problem("too-large", detail, headers={"Connection": "close"})
