"""Serves a bento for a trial: a real `bentoml serve` on a free local port."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from churn_assets.settings import SERVICE_PREFIX

if TYPE_CHECKING:
    import httpx

GRACE = 10.0
"""Seconds that a server has to finish its requests after SIGTERM."""

LOG_LINES = 40


class BentoError(RuntimeError):
    """A bento could not be built or served; the message ends with the process's last output."""


@contextmanager
def serving(
    tag_or_path: str, home: Path, *, timeout: float = 60, settings: Mapping[str, str] = {}
) -> Iterator[str]:
    """Serves a bento for as long as the block lasts.

    Args:
        tag_or_path: Name:version in the store, a `.bento` archive, or the folder of a bento.
        home: Home of the store; it is only read.
        timeout: Seconds within which the server must be ready.
        settings: Variables of the service, CHURN_API_..., for this server.

    Yields:
        The base URL, once the server is ready.

    Raises:
        BentoError: The bento does not exist, or its server did not become ready.
    """
    with TemporaryDirectory(prefix="churn-serve-", ignore_cleanup_errors=True) as scratch:
        target = _target(tag_or_path, home, Path(scratch))
        log, port = Path(scratch, "log"), _free_port()
        command = ["bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
        with log.open("wb") as sink:
            process = psutil.Popen(
                [sys.executable, "-m", *command],
                cwd=scratch,
                env=environment(Path(scratch), settings),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        workers: list[psutil.Process] = []
        try:
            _await_ready(process, port, log, timeout)
            workers = process.children(recursive=True)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process, workers)


def environment(home: Path, settings: Mapping[str, str] = {}) -> dict[str, str]:
    """Environment of a BentoML process: its home, no telemetry, and only the given settings.

    Service settings of this process are left out: they are for the service in production.
    """
    inherited = {
        name: text for name, text in os.environ.items() if not name.startswith(SERVICE_PREFIX)
    }
    bentoml = {"BENTOML_HOME": str(home.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    return {**inherited, **bentoml, **settings}


def tail(text: str) -> str:
    """The last lines of a process's output, which usually contain its error."""
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])


def predictions(url: str, customers: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Requests predictions from a served bento, one request per customer over one connection.

    Args:
        url: Base URL of the service.
        customers: Request bodies, see `core.data.features.requests`.

    Returns:
        Churn probabilities, shape (n,).

    Raises:
        BentoError: A response had another status than 200.
    """
    import httpx  # Here: it takes 0.1 s, and every code location loads this module.

    with httpx.Client(base_url=url, timeout=30) as client:
        return np.array([_prediction(client, customer) for customer in customers])


def _prediction(client: httpx.Client, customer: Mapping[str, Any]) -> float:
    response = client.post("/predict", json=dict(customer))
    if response.status_code != http.HTTPStatus.OK:
        raise BentoError(
            f"{client.base_url}predict responded with {response.status_code}: {response.text}"
        )
    return float(response.json()["churn_probability"])


def _target(tag_or_path: str, home: Path, scratch: Path) -> str:
    """Returns the target of `bentoml serve`, with `scratch` as BentoML's home.

    A server may write to that home. In the home of the store it would empty the folder in which
    another server counts its requests.
    """
    path = Path(tag_or_path)
    if path.suffix == ".bento" and path.is_file():
        try:
            with tarfile.open(path) as archive:
                # Python has filters from 3.11.4 on; Debian 12 has 3.11.2.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(scratch / "bento")  # noqa: S202 - a bento of the graph
        except tarfile.TarError as error:
            raise BentoError(f"{path} is not a bento archive: {error}") from error
        return str(scratch / "bento")
    for folder in ("bentos", "models"):
        if (home / folder).is_dir():
            (scratch / folder).symlink_to(home.resolve() / folder)
    if (path / "bento.yaml").is_file():
        return str(path.resolve())
    # BentoML would accept a prefix of a version as the version.
    if not (home / "bentos" / tag_or_path.replace(":", "/") / "bento.yaml").is_file():
        raise BentoError(f"there is no bento {tag_or_path!r} in {home}")
    return tag_or_path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(process: psutil.Popen, port: int, log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not _is_ready(port):
        if process.poll() is not None:
            raise BentoError(f"the server ended:\n{tail(log.read_text(errors='replace'))}")
        if time.monotonic() > deadline:
            output = tail(log.read_text(errors="replace"))
            raise BentoError(f"the server was not ready within {timeout:g} s:\n{output}")
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        with connection.getresponse() as response:
            return response.status == 200
    return False


def _stop(process: psutil.Popen, workers: list[psutil.Process]) -> None:
    """Stops the server and its workers, which lead their own process groups."""
    processes = {process, *workers}
    if process.poll() is None:
        processes |= set(process.children(recursive=True))
        process.terminate()  # It stops its workers and exits after them.
        psutil.wait_procs([process], timeout=GRACE)
    for survivor in processes:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(processes, timeout=GRACE)
