"""A peer's server: start, first correct response, processor time, memory, stop."""

import http.client
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

START_TIMEOUT = 120.0
STOP_TIMEOUT = 15.0
PAUSE = 0.005
"""Seconds between two attempts to reach a server that starts."""

LOG_LINES = 40
SAME = 1e-9


class ServerError(RuntimeError):
    """A server did not start or responded wrongly; the message may end with the end of its log."""


@dataclass(frozen=True)
class Workload:
    """Requests for one route, and the expected probability.

    Attributes:
        requests: JSON file with path, headers and bodies, as `benchmarks.client` takes it.
        rows: Number of customers in a body.
        probability: Reads the probability of the first customer from a response; None where the
            response is a constant.
        expected: Probability of the first customer in the first body.
    """

    requests: Path
    rows: int
    probability: Callable[[Any], float] | None
    expected: float


@dataclass(frozen=True)
class Peer:
    """A way to serve the model.

    Attributes:
        command: Words of the command; "PORT" stands for the port.
        workloads: Workloads by the name in the report; the first one is sent at the start.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    workloads: Mapping[str, Workload]


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in MiB.

    Attributes:
        resident: Resident memory, including shared libraries (RSS).
        own: Memory that no other process shares (USS).
    """

    resident: float
    own: float


@dataclass
class Server:
    """A peer's server on 127.0.0.1 with its worker.

    Attributes:
        seconds: Time from the start of the process to the first correct response.
    """

    peer: Peer
    process: psutil.Popen
    port: int
    log: Path
    seconds: float = math.nan

    def await_first_response(self, began: float) -> None:
        workload = next(iter(self.peer.workloads.values()))
        while not self.responds(workload):
            if self.process.poll() is not None or perf_counter() - began > START_TIMEOUT:
                raise ServerError(f"{self.peer.name} did not start:\n{self.log_tail()}")
            time.sleep(PAUSE)
        self.seconds = perf_counter() - began

    def check(self) -> None:
        """Raises ServerError unless the response to every workload has the model's probability."""
        for name, workload in self.peer.workloads.items():
            if not self.responds(workload):
                raise ServerError(f"{name} did not answer:\n{self.log_tail()}")

    def responds(self, workload: Workload) -> bool:
        """Whether the server answers 200 yet; raises ServerError if the probability is wrong."""
        content = json.loads(workload.requests.read_text(encoding="utf-8"))
        headers = {"Content-Type": "application/json"} | content["headers"]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("POST", content["path"], content["bodies"][0], headers)
            with connection.getresponse() as response:
                text = response.read()
                if response.status == http.HTTPStatus.OK:
                    self._compare(workload, json.loads(text))
                    return True
        return False

    def _compare(self, workload: Workload, response: Any) -> None:
        if workload.probability is None:
            return
        found = workload.probability(response)
        if abs(found - workload.expected) > SAME:
            raise ServerError(f"{self.peer.name} returned {found} instead of {workload.expected}")

    def processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Processor time of all processes so far, in seconds."""
        return sum(_cpu(process) for process in self.processes())

    def memory(self) -> tuple[Memory, Memory]:
        """Memory of the worker (the process with most processor time), and of all others."""
        worker, *others = sorted(self.processes(), key=_cpu, reverse=True)
        found = [_memory(process) for process in others]
        return _memory(worker), Memory(
            sum(one.resident for one in found), sum(one.own for one in found)
        )

    def log_tail(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-LOG_LINES:])

    def stop(self) -> None:
        """Terminates the first process, then children that it left behind; kills the rest."""
        children = self.process.children(recursive=True) if self.process.is_running() else []
        with suppress(psutil.NoSuchProcess):
            self.process.terminate()
        psutil.wait_procs([self.process], timeout=STOP_TIMEOUT)
        for end in (psutil.Process.terminate, psutil.Process.kill):
            _, left = psutil.wait_procs([self.process, *children], timeout=0)
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    end(process)
            psutil.wait_procs(left, timeout=STOP_TIMEOUT)


@contextmanager
def served(peer: Peer, scratch: Path) -> Iterator[Server]:
    """Starts a server and waits for its first correct response.

    Raises:
        ServerError: There was no correct response.
    """
    port, log = free_port(), scratch / f"{peer.name.replace(' ', '-')}.log"
    command = [str(port) if word == "PORT" else word for word in peer.command]
    with log.open("ab") as sink:
        began = perf_counter()
        process = psutil.Popen(
            command, cwd=scratch, env=environment(peer.variables), stdin=subprocess.DEVNULL,
            stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = Server(peer, process, port, log)
    try:
        server.await_first_response(began)
        yield server
    finally:
        server.stop()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment of a server, as a user has it: compiled modules are kept, telemetry is off."""
    prefixes = ("CHURN_", "BENTOML_", "MLFLOW_", "PROMETHEUS_", "PYTHONDONTWRITE", "UVICORN_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    tools = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return kept | {"PATH": tools} | quiet | dict(variables)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> Memory:
    info = process.memory_full_info()
    return Memory(info.rss / 2**20, info.uss / 2**20)
