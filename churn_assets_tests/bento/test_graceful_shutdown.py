"""The socket filter against new connections; test_resilience.py tests a shutdown under load."""

import subprocess
import sys
from pathlib import Path

import churn_service
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the filter")

WORKER = """
import socket, sys
sys.path[:0] = sys.argv[1:]
import click
from churn_service.graceful_shutdown import refuse_connections, accept_connections

def connects():
    try:
        with socket.create_connection(address, timeout=0.3):
            return "taken"
    except TimeoutError:
        return "dropped"

with socket.create_server(("127.0.0.1", 0)) as listener, click.Context(click.Command("w")) as cli:
    address = listener.getsockname()
    cli.params["fd"] = listener.fileno()
    accept_connections()
    early = socket.create_connection(address)
    print(connects(), end=" ")
    refuse_connections()
    early.sendall(b"request")
    print(listener.accept()[0].recv(99).decode(), connects(), end=" ")
    accept_connections()
    print(connects(), open("/proc/self/comm").read().strip())
    early.close()
"""


def worker(code: str = WORKER) -> list[str]:
    return [sys.executable, "-c", code, str(Path(churn_service.__file__).parents[1])]


def test_new_connections_are_dropped_and_accepted_ones_are_kept() -> None:
    run = subprocess.run(worker(), capture_output=True, text=True, timeout=30)
    assert run.stdout.split() == ["taken", "request", "dropped", "taken", "churn-draining"], (
        run.stderr
    )


def test_connections_are_not_dropped_while_another_worker_accepts_them() -> None:
    waits = "import sys, time\nif sys.argv[2:]: print(flush=True); time.sleep(60)\n" + WORKER
    with subprocess.Popen([*worker(waits), "wait"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            run = subprocess.run(worker(waits), capture_output=True, text=True, timeout=30)
        finally:
            other.kill()
    assert run.stdout.split() == ["taken", "request", "taken", "taken", "churn-draining"], (
        run.stderr
    )
