"""Starts a server, waits for its first correct answer, watches it, stops it."""

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
    """A server did not start or answered wrongly; the message ends with what it said last."""


@dataclass(frozen=True)
class Question:
    """What a route is asked, and how its answer is read.

    Attributes:
        requests: JSON file with path, headers and bodies, as `benchmarks.client` takes it.
        rows: customers in a body.
        probability: of the first customer in an answer; None where the answer is a constant.
        expected: that probability for the first body.
    """

    requests: Path
    rows: int
    probability: Callable[[Any], float] | None
    expected: float


@dataclass(frozen=True)
class Peer:
    """A way to serve the model.

    Attributes:
        command: words of the command; "PORT" stands for the port.
        questions: by the name under which each is reported; the first is asked at the start.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    questions: Mapping[str, Question]


@dataclass(frozen=True)
class Memory:
    """Of one process, in MiB.

    Attributes:
        resident: all that it has in memory, shared libraries too (RSS).
        own: what nobody shares with it (USS).
    """

    resident: float
    own: float


@dataclass
class Server:
    """A peer's server on 127.0.0.1 with its worker.

    Attributes:
        seconds: from the start of its process to its first correct answer.
    """

    peer: Peer
    process: psutil.Popen
    port: int
    log: Path
    seconds: float = math.nan

    def await_first_answer(self, began: float) -> None:
        question = next(iter(self.peer.questions.values()))
        while not self.answers(question):
            if self.process.poll() is not None or perf_counter() - began > START_TIMEOUT:
                raise ServerError(f"{self.peer.name} did not start:\n{self.said()}")
            time.sleep(PAUSE)
        self.seconds = perf_counter() - began

    def check(self) -> None:
        """Raises ServerError unless every question is answered with the model's probability."""
        for name, question in self.peer.questions.items():
            if not self.answers(question):
                raise ServerError(f"{name} did not answer:\n{self.said()}")

    def answers(self, question: Question) -> bool:
        """Whether it answers 200 yet; raises ServerError if it does with a wrong probability."""
        asked = json.loads(question.requests.read_text(encoding="utf-8"))
        headers = {"Content-Type": "application/json"} | asked["headers"]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("POST", asked["path"], asked["bodies"][0], headers)
            with connection.getresponse() as response:
                text = response.read()
                if response.status == http.HTTPStatus.OK:
                    self._compare(question, json.loads(text))
                    return True
        return False

    def _compare(self, question: Question, answer: Any) -> None:
        if question.probability is None:
            return
        found = question.probability(answer)
        if abs(found - question.expected) > SAME:
            raise ServerError(f"{self.peer.name} said {found}, the model says {question.expected}")

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of processor time that all its processes have taken."""
        return sum(_cpu(process) for process in self.family())

    def memory(self) -> tuple[Memory, Memory]:
        """Of the worker, which is the process that took most time, and of all others together."""
        worker, *others = sorted(self.family(), key=_cpu, reverse=True)
        found = [_memory(process) for process in others]
        return _memory(worker), Memory(
            sum(one.resident for one in found), sum(one.own for one in found)
        )

    def said(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-LOG_LINES:])

    def stop(self) -> None:
        """Tells the first process to stop, then its children if it left them; kills the rest."""
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
    """A server that has given its first correct answer.

    Raises:
        ServerError: it did not.
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
        server.await_first_answer(began)
        yield server
    finally:
        server.stop()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Of a server: as at home with a user, who has compiled modules kept and no telemetry."""
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
