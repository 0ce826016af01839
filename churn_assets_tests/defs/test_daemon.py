"""Of several daemons of one instance, one works and the others wait."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from churn_assets import daemon
from churn_assets.daemon import LOCK_KEY, only_daemon

WAIT = 30.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "POLL_SECONDS", 0.05)


@pytest.fixture(params=["sqlite", "postgresql"])
def instance(request: pytest.FixtureRequest, tmp_path: object) -> Iterator[dg.DagsterInstance]:
    if request.param == "postgresql":
        yield request.getfixturevalue("instance_on_postgres")
    else:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as local:
            yield local


def test_a_second_daemon_waits_for_the_end_of_the_first(instance: dg.DagsterInstance) -> None:
    works, may_end = threading.Event(), threading.Event()

    def second() -> None:
        with only_daemon(instance):
            works.set()
            may_end.wait(WAIT)

    with only_daemon(instance):
        other = threading.Thread(target=second)
        other.start()
        assert not works.wait(0.5)
    assert works.wait(WAIT)
    may_end.set()
    other.join(WAIT)
    assert not other.is_alive()


def test_a_daemon_whose_lock_is_lost_ends(
    instance_on_postgres: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: signals.append((process, number)))
    with only_daemon(instance_on_postgres):
        storage: object = instance_on_postgres.run_storage
        with storage.connect() as connection:  # type: ignore[attr-defined]
            ended = connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                f"AND objid = {LOCK_KEY % 2**32}"
            )
            assert ended.scalar() is True
        deadline = time.monotonic() + WAIT
        while not signals and time.monotonic() < deadline:
            time.sleep(0.05)
    assert signals == [(os.getpid(), signal.SIGTERM)]
