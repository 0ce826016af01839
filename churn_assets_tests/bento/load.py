"""A caller that keeps count of what it sent, and of what came back."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)
PATIENCE = 30.0
"""Seconds after which an answer counts as lost."""


@dataclass
class Tally:
    """What became of the requests that left.

    Attributes:
        answered: number of complete answers, by status.
        lost: requests of which at least a byte was sent, and no complete answer came: why.
        refused: connections that the server did not take.
    """

    answered: dict[int, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    refused: int = 0


@dataclass(frozen=True)
class Reply:
    status: int
    close: bool
    body: bytes


def request(path: str, content: object, *, key: str | None = None) -> bytes:
    """The bytes of a POST."""
    body = json.dumps(content).encode()
    who = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: churn\r\nContent-Type: application/json\r\n{who}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """A complete answer; raises IncompleteReadError where it is not."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head)
    assert length, head
    body = await reader.readexactly(int(length[1]))
    return Reply(int(head.split(b" ", 2)[1]), CLOSE.search(head) is not None, body)


async def closed_loop(
    port: int, requests: Sequence[bytes], tally: Tally, go_on: Callable[[], bool]
) -> None:
    """Sends one request after another over kept connections, until no connection is taken."""
    number = 0
    while go_on():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            tally.refused += 1
            return
        close = False
        while go_on() and not close and not reader.at_eof():
            # From here on a byte may be on its way.
            began = time.monotonic()
            writer.write(requests[number % len(requests)])
            number += 1
            try:
                reply = await asyncio.wait_for(read_reply(reader), PATIENCE)
            except (OSError, EOFError, TimeoutError) as error:
                after = time.monotonic() - began
                tally.lost.append(f"at {began:.3f} after {after:.3f} s: {error!r}")
                break
            tally.answered[reply.status] = tally.answered.get(reply.status, 0) + 1
            close = reply.close
        writer.close()
