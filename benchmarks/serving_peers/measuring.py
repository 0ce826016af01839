"""Measurement of the servers: starts and loads, by turns."""

import os
import statistics
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.client import ResponseError, run_apart
from benchmarks.serving_peers.catalogue import OURS
from benchmarks.serving_peers.servers import Memory, Peer, Server, Workload, served

CONNECTIONS = (1, 8, 32)
BATCH_CONNECTIONS = 1
WARM_UP = 0.5


@dataclass(frozen=True)
class Cell:
    """Measurements of one workload with one number of connections, in one round.

    Attributes:
        rate: Responses per second.
        p50: Median of the seconds from request to response; `p99` and `worst` likewise.
        cpu: Seconds of the server's processor time per request.
        client: Share of one core that the client took.
    """

    rate: float
    p50: float
    p99: float
    worst: float
    cpu: float
    client: float


@dataclass
class Measured:
    """Results of all rounds.

    Attributes:
        cells: Measurements of each round, by workload and connections.
        starts: Seconds to the first correct response, by server.
        memory: Memory of the worker and of the other processes after the load, by server.
        rows: Customers in a request, by workload.
        logged: Metrics of the service about its prediction log; empty where it was not measured.
    """

    cells: dict[tuple[str, int], list[Cell]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, tuple[Memory, Memory]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    logged: str = ""

    def has(self, workload: str) -> bool:
        return workload in self.rows

    def values(self, workload: str, connections: int, quantity: str = "rate") -> list[float]:
        return [getattr(cell, quantity) for cell in self.cells.get((workload, connections), [])]

    def median(self, workload: str, connections: int, quantity: str = "rate") -> float:
        """Median over the rounds; raises StatisticsError where nothing was measured."""
        return statistics.median(self.values(workload, connections, quantity))


def measure_starts(peers: Sequence[Peer], scratch: Path, rounds: int, measured: Measured) -> None:
    """Starts each server alone; the first start does not count, because Python compiles modules."""
    for number in range(rounds + 1):
        for peer in peers:
            with served(peer, scratch) as server:
                if number:
                    measured.starts[peer.name].append(server.seconds)
    print(f"started {rounds} times, load {os.getloadavg()[0]:.2f}", flush=True)


def measure_load(
    peers: Sequence[Peer], scratch: Path, rounds: int, seconds: float, measured: Measured
) -> None:
    """Puts one server at a time under load, while all are up."""
    with ExitStack() as stack:
        servers = [stack.enter_context(served(peer, scratch)) for peer in peers]
        for server in servers:
            server.check()
        for number in range(rounds):
            for connections in CONNECTIONS:
                for server in servers:
                    _measure_workloads(server, connections, seconds, measured)
            print(f"round {number + 1}, load {os.getloadavg()[0]:.2f}", flush=True)
        measured.memory.update({server.peer.name: server.memory() for server in servers})
        measured.logged = "\n".join(line for s in servers for line in _prediction_log(s))


def _measure_workloads(
    server: Server, connections: int, seconds: float, measured: Measured
) -> None:
    for name, workload in server.peer.workloads.items():
        if workload.rows == 1 or connections == BATCH_CONNECTIONS:
            cell = put_under_load(server, workload, connections, seconds)
            measured.cells[name, connections].append(cell)
            measured.rows[name] = workload.rows


def _prediction_log(server: Server) -> list[str]:
    """Metrics with the number of scored customers, and of those missing from the prediction log."""
    if server.peer.name != OURS:
        return []
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    names = ("churn_predictions_total", "churn_prediction_log_dropped_total")
    return [line for line in lines if line.startswith(names)]


def put_under_load(server: Server, workload: Workload, connections: int, seconds: float) -> Cell:
    """Measures once, by a client in a process of its own.

    Raises:
        ResponseError: A response was not 200, or did not come.
    """
    before = server.cpu()
    try:
        measured = run_apart(
            "127.0.0.1", server.port, workload.requests,
            connections=connections, seconds=seconds, warm_up=WARM_UP,
        )  # fmt: skip
    except ResponseError as error:
        raise ResponseError(f"{server.peer.name}:\n{error}\n{server.log_tail()}") from error
    return Cell(
        measured["rate"], measured["p50"], measured["p99"], measured["worst"],
        cpu=(server.cpu() - before) / measured["sent"], client=measured["busy"],
    )  # fmt: skip
