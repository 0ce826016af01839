"""An HTTP client for load tests: counts the requests it sent and the responses it received."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)
PATIENCE = 30.0
"""Seconds after which a response counts as lost."""


@dataclass
class Tally:
    """Counts of requests by their outcome.

    Attributes:
        answered: Number of complete responses, by status.
        lost: Reason for each request that was sent in part at least, and got no complete response.
        refused: Number of connections that the server did not accept.
    """

    answered: dict[int, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    refused: int = 0

    def count(self, status: int) -> None:
        """Counts one complete response."""
        self.answered[status] = self.answered.get(status, 0) + 1


@dataclass(frozen=True)
class RawResponse:
    """A response as it was read from a socket.

    Attributes:
        close: Whether the server closes the connection after the response.
    """

    status: int
    close: bool
    body: bytes


def request_bytes(path: str, content: object, *, key: str | None = None) -> bytes:
    """The bytes of a POST request."""
    body = json.dumps(content).encode()
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: churn\r\nContent-Type: application/json\r\n{authorization}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_response(reader: asyncio.StreamReader) -> RawResponse:
    """Reads one response; raises IncompleteReadError where the connection ends before it does."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head)
    assert length, head
    body = await reader.readexactly(int(length[1]))
    return RawResponse(int(head.split(b" ", 2)[1]), CLOSE.search(head) is not None, body)


async def closed_loop(
    port: int, requests: Sequence[bytes], tally: Tally, go_on: Callable[[], bool]
) -> None:
    """Sends one request after another over kept connections, until a connection is refused."""
    number = 0
    while go_on():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            tally.refused += 1
            return
        close = False
        while go_on() and not close and not reader.at_eof():
            # From here on the server may have received a byte of the request.
            began = time.monotonic()
            writer.write(requests[number % len(requests)])
            number += 1
            try:
                response = await asyncio.wait_for(read_response(reader), PATIENCE)
            except (OSError, EOFError, TimeoutError) as error:
                after = time.monotonic() - began
                tally.lost.append(f"at {began:.3f} after {after:.3f} s: {error!r}")
                break
            tally.count(response.status)
            close = response.close
        writer.close()
