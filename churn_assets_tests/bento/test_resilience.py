"""Shutdown, overload and killed workers: no accepted request is lost, the others are refused."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from churn_service.http.routes import SMALL

from churn_assets.adapters.bentos import BuiltBento
from churn_assets_tests.bento.expected_responses import assert_problem
from churn_assets_tests.bento.load_client import Tally, closed_loop, read_response, request_bytes
from churn_assets_tests.bento.server_process import (
    ServerProcess,
    server_process,
    wait_until,
)
from churn_assets_tests.bentos import customers

CUSTOMERS = customers(5_000)
ONES = [request_bytes("/predict", customer) for customer in CUSTOMERS[:160]]
BATCH = request_bytes("/predict/batch", {"customers": CUSTOMERS})


def forever() -> bool:
    return True


# Shutdown

DRAIN = 0.3


async def slow_client(port: int, tally: Tally, begun: asyncio.Event, go_on: asyncio.Event) -> None:
    """Sends a body in two parts, the second one after `go_on` is set."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ONES[0][:-20])
    await writer.drain()
    begun.set()
    await go_on.wait()
    writer.write(ONES[0][-20:])
    try:
        tally.count((await read_response(reader)).status)
    except (OSError, EOFError) as error:
        tally.lost.append(repr(error))
    writer.close()


async def stop_under_load(server: ServerProcess) -> dict[str, Tally]:
    """Runs 16 clients with one customer, two with 5,000 and a slow one, and sends SIGTERM."""
    tallies = {client: Tally() for client in ("one", "many", "slow")}
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for i in range(16):
            group.create_task(closed_loop(server.port, ONES[i::16], tallies["one"], forever))
        for _ in range(2):
            group.create_task(closed_loop(server.port, [BATCH], tallies["many"], forever))
        group.create_task(slow_client(server.port, tallies["slow"], begun, go_on))
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
    with server_process(built, tmp_path, workers=workers, drain_seconds=DRAIN) as server:
        family = [server.process, *server.process.children(recursive=True)]
        assert len(server.workers()) == workers
        tallies = asyncio.run(stop_under_load(server))
        assert {client: tally.lost for client, tally in tallies.items()} == {
            "one": [], "many": [], "slow": [],
        }  # fmt: skip
        assert [set(tally.answered) for tally in tallies.values()] == [{200}] * 3
        assert tallies["one"].answered[200] > 100
        assert tallies["many"].answered[200] >= 2
        assert tallies["slow"].answered == {200: 1}
        # The server ends without a second signal.
        assert server.process.wait(timeout=10) == 0
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert not [line for line in server.log_lines() if line["level"] in ("ERROR", "CRITICAL")]


# Overload

TIMEOUT = 2.0


def begin_request(server: ServerProcess, path: str, length: int = 900) -> socket.socket:
    """Sends the head of a request and the first byte of its body."""
    head = b"POST %b HTTP/1.1\r\nHost: churn\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(head % path.encode() + b"Content-Length: %d\r\n\r\n{" % length)
    return connection


def send_customer(server: ServerProcess) -> httpx.Response:
    return server.request("/predict", CUSTOMERS[0])


def send_batch(server: ServerProcess, length: int = SMALL + 1) -> httpx.Response:
    """Sends a batch whose body has `length` bytes."""
    return server.request(
        "/predict/batch", json.dumps({"customers": CUSTOMERS[:2]}).encode().ljust(length)
    )


def assert_refused_at_once(
    server: ServerProcess, send: Callable[[ServerProcess], httpx.Response]
) -> None:
    # The server may not have received the previous requests yet.
    wait_until(lambda: send(server).status_code == 503)
    best = float("inf")
    for _ in range(5):
        began = time.monotonic()
        response = send(server)
        best = min(best, time.monotonic() - began)
        assert int(response.headers["retry-after"]) >= 1
        assert_problem(response, 503, "overloaded")
    assert best < 0.5
    assert server.request("/health").status_code == 200
    assert server.request("/livez").status_code == 200


def test_requests_over_the_concurrency_limit_are_refused_at_once(
    built: BuiltBento, tmp_path: Path
) -> None:
    with server_process(built, tmp_path, max_concurrency=2, timeout=TIMEOUT) as server:
        began = time.monotonic()
        held = [begin_request(server, "/predict")]
        assert send_customer(server).status_code == 200, "the limit is two requests"
        held.append(begin_request(server, "/predict"))
        assert_refused_at_once(server, send_customer)
        for connection in held:
            with closing(connection), http.client.HTTPResponse(connection) as response:
                response.begin()
                assert response.status == 408
                assert response.getheader("Connection") == "close"
                assert json.load(response)["type"] == "urn:churn:problem:timeout"
        assert TIMEOUT <= time.monotonic() - began < TIMEOUT + 5
        assert send_customer(server).status_code == 200


def test_batches_over_the_concurrency_limit_are_refused_at_once(
    built: BuiltBento, tmp_path: Path
) -> None:
    with server_process(built, tmp_path, max_concurrency=3, max_batches=1, timeout=60) as server:
        assert send_batch(server).status_code == 200, "the limit is one batch"
        with begin_request(server, "/predict/batch", SMALL + 1):
            assert_refused_at_once(server, send_batch)
            assert send_batch(server, SMALL).status_code == 200, "small batches do not count"
            assert send_customer(server).status_code == 200
        # A client that disconnects frees its place, long before the deadline of its body.
        wait_until(lambda: send_batch(server).status_code == 200)
        with (
            begin_request(server, "/predict"),
            begin_request(server, "/predict"),
            begin_request(server, "/predict"),
        ):
            assert_refused_at_once(server, send_customer)
        wait_until(lambda: send_customer(server).status_code == 200)


# The end of a worker


def test_a_worker_that_ends_is_replaced_while_the_service_responds(
    built: BuiltBento, tmp_path: Path
) -> None:
    with server_process(built, tmp_path, workers=2, drain_seconds=0) as server:
        terminated, killed = first = server.workers()
        # A worker that receives SIGTERM leaves new connections to the other worker.
        terminated.terminate()
        deadline = time.monotonic() + 20
        while terminated.is_running() and terminated.status() != psutil.STATUS_ZOMBIE:
            began = time.monotonic()
            with suppress(ConnectionError):
                assert send_customer(server).status_code == 200
            assert time.monotonic() - began < 5
            assert time.monotonic() < deadline
        killed.kill()
        # No worker is running now. A client that connects waits for the next one, and is answered.
        assert send_customer(server).status_code == 200
        wait_until(lambda: len(server.workers()) == 2, 30)
        assert not set(first) & set(server.workers())
        assert {send_customer(server).status_code for _ in range(50)} == {200}
        assert server.request("/readyz").status_code == 200
