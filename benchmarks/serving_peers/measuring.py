"""Starts the servers by turns and puts them under load by turns."""

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving_peers.catalogue import OURS, ROOT
from benchmarks.serving_peers.servers import Memory, Peer, Question, Server, served

CONNECTIONS = (1, 8, 32)
BATCH_CONNECTIONS = 1
WARM_UP = 0.5


@dataclass(frozen=True)
class Cell:
    """One question under one number of connections, in one round.

    Attributes:
        rate: answers a second.
        p50: seconds from question to answer, median; `p99` and `worst` likewise.
        cpu: seconds of the server's processor time for one answer.
        client: share of one core that the client took.
    """

    rate: float
    p50: float
    p99: float
    worst: float
    cpu: float
    client: float


@dataclass
class Measured:
    """What all rounds gave.

    Attributes:
        cells: by question and connections.
        starts: seconds to the first correct answer, by server.
        memory: of the worker and of the other processes, by server, after the load.
        rows: customers in a request, by question.
        logged: what the service says of its prediction log, empty where it was not measured.
    """

    cells: dict[tuple[str, int], list[Cell]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, tuple[Memory, Memory]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    logged: str = ""

    def has(self, question: str) -> bool:
        return question in self.rows

    def values(self, question: str, connections: int, what: str = "rate") -> list[float]:
        return [getattr(cell, what) for cell in self.cells.get((question, connections), [])]

    def median(self, question: str, connections: int, what: str = "rate") -> float:
        """Over the rounds; StatisticsError where it was not measured."""
        return statistics.median(self.values(question, connections, what))


def measure_starts(peers: Sequence[Peer], scratch: Path, rounds: int, measured: Measured) -> None:
    """Starts each alone; the first time, which has Python compile modules, does not count."""
    for number in range(rounds + 1):
        for peer in peers:
            with served(peer, scratch) as server:
                if number:
                    measured.starts[peer.name].append(server.seconds)
    print(f"started {rounds} times, load {os.getloadavg()[0]:.2f}", flush=True)


def measure_load(
    peers: Sequence[Peer], scratch: Path, rounds: int, seconds: float, measured: Measured
) -> None:
    """All servers are up, and one at a time has something to do."""
    with ExitStack() as stack:
        servers = [stack.enter_context(served(peer, scratch)) for peer in peers]
        for server in servers:
            server.check()
        for number in range(rounds):
            for connections in CONNECTIONS:
                for server in servers:
                    _ask_everything(server, connections, seconds, measured)
            print(f"round {number + 1}, load {os.getloadavg()[0]:.2f}", flush=True)
        measured.memory.update({server.peer.name: server.memory() for server in servers})
        measured.logged = "\n".join(line for s in servers for line in _prediction_log(s))


def _ask_everything(server: Server, connections: int, seconds: float, measured: Measured) -> None:
    for name, question in server.peer.questions.items():
        if question.rows == 1 or connections == BATCH_CONNECTIONS:
            cell = put_under_load(server, question, connections, seconds)
            measured.cells[name, connections].append(cell)
            measured.rows[name] = question.rows


def _prediction_log(server: Server) -> list[str]:
    """How many customers got an answer and how many of them did not reach the log."""
    if server.peer.name != OURS:
        return []
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    names = ("churn_predictions_total", "churn_prediction_log_dropped_total")
    return [line for line in lines if line.startswith(names)]


def put_under_load(server: Server, question: Question, connections: int, seconds: float) -> Cell:
    """One measurement, by a client in a process of its own.

    Raises:
        RuntimeError: an answer was not 200, or did not come.
    """
    options = {
        "--port": server.port,
        "--requests": question.requests,
        "--connections": connections,
        "--seconds": seconds,
        "--warm-up": WARM_UP,
    }
    words = [str(word) for pair in options.items() for word in pair]
    before = server.cpu()
    done = subprocess.run(  # noqa: S603  # its own command, no shell
        [sys.executable, "-m", "benchmarks.client", *words],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{server.peer.name}:\n{done.stderr}\n{server.said()}")
    found = json.loads(done.stdout)
    return Cell(
        found["rate"], found["p50"], found["p99"], found["worst"],
        cpu=(server.cpu() - before) / found["asked"], client=found["busy"],
    )  # fmt: skip
