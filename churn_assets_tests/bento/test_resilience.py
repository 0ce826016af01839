"""A stop, too much work and a killed worker: whoever was let in is answered, the others know."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from churn_service.http.routes import SMALL

from churn_assets.adapters.bentos import BuiltBento
from churn_assets_tests.bento.load import Tally, closed_loop, read_reply, request
from churn_assets_tests.bento.running import Answer, Server, running, until
from churn_assets_tests.bentos import customers

CUSTOMERS = customers(5_000)
ONES = [request("/predict", customer) for customer in CUSTOMERS[:160]]
BATCH = request("/predict/batch", {"customers": CUSTOMERS})


def forever() -> bool:
    return True


# SIGTERM

DRAIN = 0.3


async def slow_caller(port: int, tally: Tally, begun: asyncio.Event, go_on: asyncio.Event) -> None:
    """Begins a body, and ends it when it is told to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ONES[0][:-20])
    await writer.drain()
    begun.set()
    await go_on.wait()
    writer.write(ONES[0][-20:])
    try:
        reply = await read_reply(reader)
        tally.answered[reply.status] = tally.answered.get(reply.status, 0) + 1
    except (OSError, EOFError) as error:
        tally.lost.append(repr(error))
    writer.close()


async def stop_under_load(server: Server) -> dict[str, Tally]:
    """Sixteen callers of one customer, two of 5,000, and a slow one; then SIGTERM."""
    tallies = {who: Tally() for who in ("one", "many", "slow")}
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for i in range(16):
            group.create_task(closed_loop(server.port, ONES[i::16], tallies["one"], forever))
        for _ in range(2):
            group.create_task(closed_loop(server.port, [BATCH], tallies["many"], forever))
        group.create_task(slow_caller(server.port, tallies["slow"], begun, go_on))
        await begun.wait()
        await asyncio.sleep(0.7)
        server.process.terminate()
        await asyncio.sleep(DRAIN + 1.0)
        go_on.set()
    return tallies


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("_again", range(2))
def test_a_stop_under_load_loses_no_request(
    built: BuiltBento, tmp_path: Path, workers: int, _again: int
) -> None:
    with running(built, tmp_path, workers=workers, drain_seconds=DRAIN) as server:
        family = [server.process, *server.process.children(recursive=True)]
        assert len(server.workers()) == workers
        tallies = asyncio.run(stop_under_load(server))
        assert {who: tally.lost for who, tally in tallies.items()} == {
            "one": [], "many": [], "slow": [],
        }  # fmt: skip
        assert [set(tally.answered) for tally in tallies.values()] == [{200}] * 3
        assert tallies["one"].answered[200] > 100
        assert tallies["many"].answered[200] >= 2
        assert tallies["slow"].answered == {200: 1}
        # It ends by itself: nobody sends a second signal.
        assert server.process.wait(timeout=10) == 0
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert not [line for line in server.said() if line["level"] in ("ERROR", "CRITICAL")]


# Too much work

TIMEOUT = 2.0


def begin(server: Server, path: str, length: int = 900) -> socket.socket:
    """Sends a head and the first byte of a body."""
    head = b"POST %b HTTP/1.1\r\nHost: churn\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(head % path.encode() + b"Content-Length: %d\r\n\r\n{" % length)
    return connection


def one(server: Server) -> Answer:
    return server.ask("/predict", CUSTOMERS[0])


def many(server: Server, length: int = SMALL + 1) -> Answer:
    """The answer to a batch whose body has so many bytes."""
    return server.ask(
        "/predict/batch", json.dumps({"customers": CUSTOMERS[:2]}).encode().ljust(length)
    )


def assert_refused_at_once(server: Server, ask: Callable[[Server], Answer]) -> None:
    # The body before this one may be on its way yet.
    until(lambda: ask(server).status == 503)
    best = float("inf")
    for _ in range(5):
        began = time.monotonic()
        answer = ask(server)
        best = min(best, time.monotonic() - began)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json["type"] == "urn:churn:problem:overloaded"
    assert best < 0.5
    assert server.ask("/health").status == 200
    assert server.ask("/livez").status == 200


def test_more_requests_than_fit_are_refused_at_once(built: BuiltBento, tmp_path: Path) -> None:
    with running(built, tmp_path, max_concurrency=2, timeout=TIMEOUT) as server:
        began = time.monotonic()
        held = [begin(server, "/predict")]
        assert one(server).status == 200, "there is room for a second"
        held.append(begin(server, "/predict"))
        assert_refused_at_once(server, one)
        for connection in held:
            with closing(connection), http.client.HTTPResponse(connection) as response:
                response.begin()
                assert response.status == 408
                assert response.getheader("Connection") == "close"
                assert json.load(response)["type"] == "urn:churn:problem:timeout"
        assert TIMEOUT <= time.monotonic() - began < TIMEOUT + 5
        assert one(server).status == 200


def test_more_batches_than_fit_are_refused_at_once(built: BuiltBento, tmp_path: Path) -> None:
    with running(built, tmp_path, max_concurrency=3, max_batches=1, timeout=60) as server:
        assert many(server).status == 200, "there is room for one"
        with begin(server, "/predict/batch", SMALL + 1):
            assert_refused_at_once(server, many)
            assert many(server, SMALL).status == 200, "a small one fits beside it"
            assert one(server).status == 200
        # A caller who goes away leaves room, long before the body was due.
        until(lambda: many(server).status == 200)
        with begin(server, "/predict"), begin(server, "/predict"), begin(server, "/predict"):
            assert_refused_at_once(server, one)
        until(lambda: one(server).status == 200)


# A worker ends


def test_a_worker_that_ends_is_replaced_and_the_service_goes_on(
    built: BuiltBento, tmp_path: Path
) -> None:
    with running(built, tmp_path, workers=2, drain_seconds=0) as server:
        told, killed = first = server.workers()
        # One that is told to stop leaves the new callers to the other.
        told.terminate()
        deadline = time.monotonic() + 20
        while told.is_running() and told.status() != psutil.STATUS_ZOMBIE:
            began = time.monotonic()
            with suppress(ConnectionError):
                assert one(server).status == 200
            assert time.monotonic() - began < 5
            assert time.monotonic() < deadline
        killed.kill()
        # Nobody is there to answer. Who connects now waits, and is answered.
        assert one(server).status == 200
        until(lambda: len(server.workers()) == 2, 30)
        assert not set(first) & set(server.workers())
        assert {one(server).status for _ in range(50)} == {200}
        assert server.ask("/readyz").status == 200
