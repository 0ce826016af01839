"""A cheap load client: N connections, each of which sends a request after each response.

    python -m benchmarks.client --port 3000 --requests requests.json --connections 8 --seconds 5

The client shares the machine with the server that it measures, so it must need far less processor
time. An HTTP library needs several times as much as a quick server. This client sends bytes that
were encoded before, and reads only the status and the length of a response. It prints one line of
JSON with its measurements.
"""

import argparse
import asyncio
import gc
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import cast

import uvloop

ROOT = Path(__file__).parents[1]

GRACE = 120.0
"""Seconds that a server may take for the responses that are pending when the time is up."""

OK = b"HTTP/1.1 200 "
HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


class ResponseError(RuntimeError):
    """The response was not 200, or there was none."""


class Load:
    """State that all connections share.

    Attributes:
        requests: Endless iterator of the bytes to send.
        begins: Time by `perf_counter` from which responses count.
        ends: Time after which no request is sent.
        last: Time of the last response.
        latencies: Seconds from request to response, of the responses after `begins`.
        sent: Number of requests, including those of the warm-up.
        done: Future of each connection; has an exception where a response was wrong.
    """

    def __init__(self, requests: Sequence[bytes], warm_up: float, seconds: float) -> None:
        self.requests: Iterator[bytes] = itertools.cycle(requests)
        self.begins = perf_counter() + warm_up
        self.ends = self.begins + seconds
        self.latencies: list[float] = []
        self.last = self.begins
        self.sent = 0
        self.done: list[asyncio.Future[None]] = []


class Connection(asyncio.Protocol):
    """Sends a request, waits for the whole response, and sends the next request."""

    def __init__(self, load: Load, done: "asyncio.Future[None]") -> None:
        self.load, self.done = load, done
        self.sent_at = 0.0
        self.received = b""
        self.needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass.
        self.send()

    def itself(self) -> "Connection":
        """The protocol factory that asyncio wants."""
        return self

    def send(self) -> None:
        self.load.sent += 1
        self.sent_at = perf_counter()
        self.transport.write(next(self.load.requests))

    def data_received(self, data: bytes) -> None:
        received = self.received = self.received + data if self.received else data
        if not self.needed:
            self.needed = self.length(received)
        if self.needed and len(received) >= self.needed:
            self.received, self.needed = b"", 0
            self.count()

    def length(self, received: bytes) -> int:
        """Bytes of the whole response; 0 while its head is not complete."""
        end = received.find(HEAD_END)
        if end < 0:
            return 0
        head = received[:end].lower()
        found = head.find(LENGTH)
        if not received.startswith(OK) or found < 0:
            self.fail(f"wanted 200 and a length, got:\n{received[:2000].decode(errors='replace')}")
            return 0
        return end + len(HEAD_END) + int(head[found + len(LENGTH) :].split(b"\r", 1)[0])

    def count(self) -> None:
        now, load = perf_counter(), self.load
        if now >= load.begins:
            load.latencies.append(now - self.sent_at)
            load.last = now
        if now < load.ends:
            self.send()
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(ResponseError(reason))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the server closed the connection: {exc}")


async def run(
    address: tuple[str, int],
    requests: Sequence[bytes],
    connections: int,
    warm_up: float,
    seconds: float,
) -> Load:
    """Puts a server under load.

    Raises:
        ResponseError: A response was not 200, or did not come.
    """
    loop = asyncio.get_running_loop()
    load = Load(requests, warm_up, seconds)
    for _ in range(connections):
        connection = Connection(load, loop.create_future())
        load.done.append(connection.done)
        await loop.create_connection(connection.itself, *address)
    async with asyncio.timeout(warm_up + seconds + GRACE):
        await asyncio.gather(*load.done)
    return load


def encoded(path: str, headers: Mapping[str, str], bodies: Sequence[str]) -> list[bytes]:
    """Requests as bytes of HTTP."""
    fixed = {"Host": "127.0.0.1", "Content-Type": "application/json"} | dict(headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
    return [
        f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        for body in (text.encode() for text in bodies)
    ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run_apart(host: str, port: int, requests: Path, **options: float) -> dict[str, float]:
    """Runs this module in a process of its own, so that the server's measurement is not disturbed.

    Args:
        requests: JSON file with path, headers and bodies.
        options: Further options of the command, such as `connections`.

    Returns:
        What the command prints.

    Raises:
        ResponseError: A response was not 200, or there was none.
    """
    given = {"host": host, "port": port, "requests": requests, **options}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    done = subprocess.run(  # noqa: S603  # its own command, no shell
        [sys.executable, "-m", "benchmarks.client", *words],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise ResponseError(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=Path, required=True, help="JSON: path, headers, bodies")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds that do not count")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    requests = encoded(**json.loads(options.requests.read_text(encoding="utf-8")))
    gc.disable()  # Its pauses would count as the server's.
    began = perf_counter(), time.process_time()
    address = options.host, options.port
    load = uvloop.run(run(address, requests, options.connections, options.warm_up, options.seconds))
    wall, cpu = perf_counter() - began[0], time.process_time() - began[1]
    latencies = sorted(load.latencies)
    print(
        json.dumps(
            {
                "sent": load.sent,
                "rate": len(latencies) / (load.last - load.begins),
                "p50": quantile(latencies, 0.5),
                "p99": quantile(latencies, 0.99),
                "worst": latencies[-1],
                "busy": cpu / wall,
            }
        )
    )


if __name__ == "__main__":
    main()
