"""A real `dagster dev` over delivered files, and the event log of its instance."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import dagster as dg
import psutil

from churn_assets.core.simulation.simulator import Simulator
from churn_assets.defs.platform.partitions import closed_months
from churn_assets_tests.adapters.receivers import Received, webhook
from churn_assets_tests.documents import ROOT

CUSTOMERS = 3_000
GRACE = 30

MONTHS = closed_months("2025-01").get_partition_keys()[-3:]
TICK = 3
"""Seconds between two ticks of the daemon."""

PATIENCE = 300
"""Seconds to wait for a result; on an otherwise idle machine most results take 30."""

BY_MONTH = ("raw_customers", "quarantined_customers", "validated_features", "served_traffic",
            "customer_scores", "drift_report")  # fmt: skip
MODEL = ("churn_model", "evaluation_report", "promoted_model", "churn_bento")
"""In the order of their materialisation."""


@dataclass(frozen=True)
class DeliveryFolder:
    """Folder into which files of a month are delivered."""

    folder: Path

    def deliver(
        self, month: str, operator: Simulator, *, labels_of: str | None = None, left_out: int = 0
    ) -> None:
        """Delivers the customers of a month, and the labels of an earlier month.

        Args:
            left_out: Number of customers that are left out, so that a second delivery differs.
        """
        customers = operator.snapshot(month).iloc[left_out:]
        self._put(f"customers-{month}.csv", customers.to_csv(index=False))
        if labels_of:
            self._put(f"labels-{labels_of}.csv", operator.labels(labels_of).to_csv(index=False))

    def _put(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}"
        temporary.write_text(text)
        temporary.rename(self.folder / name)


@dataclass(frozen=True)
class EventLog:
    """Reads an instance's event log."""

    dagster_home: Path

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.dagster_home))

    def materialisations(self, since: int = 0) -> list[tuple[str, str | None, int]]:
        """Asset, month and event id of every materialisation by a step, in order."""
        filters = dg.EventRecordsFilter(
            dg.DagsterEventType.ASSET_MATERIALIZATION, after_cursor=since
        )
        records = self.instance.event_log_storage.get_event_records(filters, ascending=True)
        return [
            (key.to_user_string(), record.partition_key, record.storage_id)
            for record in records
            if record.run_id and (key := record.asset_key)
        ]

    def counts(self, since: int = 0) -> Counter[tuple[str, str | None]]:
        """Number of materialisations by asset and month."""
        return Counter((name, month) for name, month, _ in self.materialisations(since))

    def step_successes(self, since: datetime) -> Counter[tuple[str, str | None]]:
        """Number of successes by step and month, in the runs created since then."""
        return Counter(
            (str(record.event_log_entry.step_key), run.tags.get("dagster/partition"))
            for run in self.instance.get_runs(dg.RunsFilter(created_after=since))
            for record in self.instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS
            ).records
        )

    def ticks(self, sensor: str, after: float) -> int:
        """Number of ticks of a sensor after a time, as a timestamp."""
        return sum(
            len(self.instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after))
            for state in self.instance.all_instigator_state()
            if state.instigator_name == sensor
        )

    def last_id(self) -> int:
        return self.instance.event_log_storage.get_maximum_record_id() or 0

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(statuses=list(statuses) or None)))


@dataclass
class LiveHome:
    """A home, the folder of its source, and the receiver of its alerts."""

    home: Path
    source: DeliveryFolder
    received: Received
    log: EventLog = field(init=False)
    before: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        dagster_home = self.home / "dagster"
        dagster_home.mkdir()
        self.source.folder.mkdir()
        text = (ROOT / "dagster.yaml").read_text()
        faster = text.replace("poll_interval_seconds: 15", f"poll_interval_seconds: {TICK}")
        (dagster_home / "dagster.yaml").write_text(faster)
        self.log = EventLog(dagster_home)

    def environment(self, **policy: str) -> dict[str, str]:
        return {
            "DAGSTER_HOME": str(self.home / "dagster"),
            "BENTOML_HOME": str(self.home / "bentoml"),
            "CHURN_HOME": str(self.home),
            "CHURN_SOURCE": "file",
            "CHURN_FILE__CUSTOMERS": str(self.source.folder / "customers-{month}.csv"),
            "CHURN_FILE__LABELS": str(self.source.folder / "labels-{month}.csv"),
            "CHURN_FIRST_MONTH": MONTHS[0],
            "CHURN_BOOTSTRAP_RESAMPLES": "100",
            "CHURN_PROMOTION__RESAMPLES": "200",
            # So few customers prove nothing: the margins promote any model that is not absurd.
            "CHURN_PROMOTION__AUC_MARGIN": "0.4",
            "CHURN_PROMOTION__PROFIT_MARGIN": "10",
            "CHURN_PROMOTION__FIRST_PROFIT": "-1000000",
            "CHURN_LIMITS__MIN_AUC": "0.5",
            "CHURN_LIMITS__MIN_GAIN_OVER_BASELINE": "-1",
            "CHURN_LIMITS__MAX_AUC_DROP": "0.4",
            "CHURN_AUTOMATION__INTERVAL_SECONDS": str(TICK),
            "CHURN_ALERTS__WEBHOOK": self.received.url,
            **policy,
        }

    def alerts(self) -> list[str]:
        """Texts of the alerts that were received."""
        return [json.dumps(body) for body in self.received.accepted]

    def output(self) -> str:
        """Last output of `dagster dev`."""
        return (self.home / "dev.log").read_text()[-6_000:]


@contextmanager
def live_home(folder: Path) -> Iterator[LiveHome]:
    """An empty home in a folder, with a receiver of its alerts."""
    with webhook() as received:
        live = LiveHome(folder, DeliveryFolder(folder / "source"), received)
        with live.log.instance:
            yield live


def expected(delivered: int, labelled: int) -> set[tuple[str, str | None]]:
    """All assets and months that exist after so many months are delivered and labelled."""
    months = {(name, month) for name in BY_MONTH for month in MONTHS[:delivered]}
    labels = {("churn_labels", month) for month in MONTHS[:labelled]}
    return months | labels | {(name, None) for name in ("training_set", *MODEL)}


@contextmanager
def dagster_dev(log: Path, environment: dict[str, str]) -> Iterator[psutil.Popen]:
    """Runs webserver and daemon as `make dev` does; stops them by their process ids at the end."""
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "--workspace",
               "workspace.yaml", "--host", "127.0.0.1", "--port", str(_free_port())]  # fmt: skip
    with log.open("ab") as sink:
        process = psutil.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=sink, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            end(process, signal.SIGINT)


def end(process: psutil.Popen, how: signal.Signals) -> None:
    """Ends a process and all its descendants."""
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    if how is signal.SIGINT and process.is_running():
        process.send_signal(how)
        psutil.wait_procs(family, timeout=GRACE)
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, timeout=GRACE)


def wait(until: Callable[[], object], seconds: float, what: Callable[[], object]) -> None:
    """Waits until a condition holds; the error after the deadline shows `what`."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, what()
        time.sleep(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
