"""Dagster's daemon, one at a time: `python -m churn_assets.daemon` with the options of its `run`.

Dagster only warns of a second daemon, and both would evaluate each tick. Here a daemon first takes
a lock in the instance's storage: a session lock of PostgreSQL, or a file lock beside a sqlite
database. A second daemon waits until the first one's process, or its session, has ended.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock

LOCK_KEY = 4_816_229_001
"""Key of the lock among PostgreSQL's advisory locks of the instance's database."""
POLL_SECONDS = 5.0
NOTICE_A_DEAD_CLIENT = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
"""A server would hold the lock of a lost node's session for two hours; so it does for 25 s."""

log = logging.getLogger("churn.daemon")


@contextmanager
def only_daemon(instance: dg.DagsterInstance) -> Iterator[None]:
    """Holds the lock of the instance's daemon; waits for it without an end.

    If the session that holds it is lost, so is the lock: this process then gets SIGTERM.
    """
    runs: Any = instance.run_storage  # sqlite's and PostgreSQL's have `connect`, the base not
    with runs.connect() as connection:
        if connection.dialect.name == "sqlite":
            with FileLock(Path(instance.root_directory, ".daemon.lock")):
                yield
            return
        connection.exec_driver_sql(NOTICE_A_DEAD_CLIENT)
        while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK_KEY})").scalar():
            log.warning("another daemon of this instance is running; waiting for its end")
            time.sleep(POLL_SECONDS)
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(connection, ended), daemon=True)
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()


def _watch(connection: Any, ended: threading.Event) -> None:
    while not ended.wait(POLL_SECONDS):
        try:
            connection.exec_driver_sql("SELECT 1")
        except Exception:
            log.exception("the session with the daemon's lock is lost; this daemon ends")
            os.kill(os.getpid(), signal.SIGTERM)
            return


def main() -> None:
    """Runs the daemon when no other one of the instance runs."""
    with dg.DagsterInstance.get() as instance, only_daemon(instance):
        [command] = entry_points(group="console_scripts", name="dagster-daemon")
        sys.argv.insert(1, "run")
        command.load()()


if __name__ == "__main__":
    main()
