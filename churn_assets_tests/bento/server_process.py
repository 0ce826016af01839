"""A `bentoml serve` that a test may damage: its processes, its files and its log are the test's."""

import http.client
import json
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from churn_assets.adapters.bentos import BuiltBento
from churn_assets.adapters.serving import environment
from churn_assets_tests.bento.expected_responses import received

START_SECONDS = 60.0


@dataclass(frozen=True)
class ServerProcess:
    """A `bentoml serve` of an unpacked bento that no other test uses.

    Attributes:
        model: Folder of the scorers' files.
    """

    process: psutil.Popen
    port: int
    model: Path
    log: Path

    def request(
        self, path: str, body: Any = None, *, key: str | None = None, timeout: float = 30
    ) -> httpx.Response:
        """Sends one request over a connection of its own.

        Args:
            body: JSON or its bytes; makes the request a POST.
            key: API key.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A request that a dying worker resets leaves its socket open, too.
        with closing(connection):
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                headers["Content-Type"] = "application/json"
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                connection.request("POST", path, content, headers)
            with connection.getresponse() as response:
                return received(response.status, response.getheaders(), response.read())

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by its name and labels as Prometheus writes them."""
        text = self.request("/metrics").text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return {_series(s.name, s.labels): s.value for s in samples}

    def workers(self) -> list[psutil.Process]:
        return [
            child
            for child in self.process.children(recursive=True)
            if "_bentoml_impl.worker.service" in child.cmdline()
        ]

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of the log: those that the service wrote itself."""
        lines = (line for line in self.log.read_text(errors="replace").splitlines())
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def server_process(
    built: BuiltBento,
    scratch: Path,
    *,
    prepare: Callable[[Path], None] = lambda model: None,
    ready: str = "/readyz",
    **settings: str | int | float | Path,
) -> Iterator[ServerProcess]:
    """Serves a bento from a folder of its own, and leaves no process behind.

    Args:
        scratch: Empty folder.
        prepare: Called with the folder of the model before the start.
        ready: Path that returns 200 once the server is up.
        settings: Settings of the service: `timeout=2` is CHURN_API_TIMEOUT.
    """
    bento, home, log = scratch / "bento", scratch / "home", scratch / "log"
    with tarfile.open(built.archive) as archive:
        archive.extractall(bento, filter="data")
    home.mkdir()
    model = bento.joinpath("models", *built.model_tag.split(":"))
    prepare(model)
    variables = {f"CHURN_API_{name.upper()}": str(value) for name, value in settings.items()}
    port = _free_port()
    command = ["bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as sink:
        process = psutil.Popen(
            [sys.executable, "-m", *command],
            cwd=scratch,
            env=environment(home, variables),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    server = ServerProcess(process, port, model, log)
    family: set[psutil.Process] = {process}
    try:
        wait_until(lambda: _up(server, ready), START_SECONDS)
        family |= set(process.children(recursive=True))
        yield server
    finally:
        if process.poll() is None:
            family |= set(process.children(recursive=True))
        for survivor in family:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
        psutil.wait_procs(family, timeout=10)


def wait_until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _up(server: ServerProcess, path: str) -> bool:
    assert server.process.poll() is None, server.log.read_text(errors="replace")
    with suppress(OSError, http.client.HTTPException):
        return server.request(path, timeout=2).status_code == 200
    return False


def _series(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
