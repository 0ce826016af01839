"""Every line of the prediction log arrives in the store once, and what is lost is counted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pandas as pd
import pytest
from upath import UPath

from churn_assets.adapters.prediction_logs import read_ends, read_lines
from churn_assets.contracts.loading import load_contract
from churn_assets.core.scoring.completeness import Completeness, completeness
from churn_assets.core.scoring.log_lines import parse_lines
from churn_assets.core.scoring.traffic import Window, as_traffic, merge_predictions
from churn_assets_tests.cluster.caller import RATE, Traffic
from churn_assets_tests.cluster.conftest import REPLICAS, Release
from churn_assets_tests.cluster.kubernetes import Namespace, wait
from churn_assets_tests.cluster.log_store import FILE_SECONDS, INTERVAL, LogStore

pytestmark = pytest.mark.cluster

SHIPPED_SECONDS = FILE_SECONDS + 10 * INTERVAL
"""Time after which a line of a running process is in the store."""

CONTRACT = load_contract("telecom")
MONTH = "2025-06"

KILL = """
import os, signal
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) not in (1, os.getpid()):
        os.kill(int(name), signal.SIGKILL)
"""
"""Kills the processes of a container; the first one, which no signal reaches, ends by itself."""

Table = Callable[[str, Traffic], None]


@dataclass(frozen=True)
class Arrived:
    """What the graph finds in the store.

    Attributes:
        copies: Number of lines by prediction.
        rows: Predictions without duplicates.
        found: Counts of the predictions.
        ended: Pods of which a process has ended.
    """

    copies: Counter[str]
    rows: pd.DataFrame
    found: Completeness
    ended: set[str]


@pytest.fixture(scope="module")
def store(release: Release, logs: LogStore) -> LogStore:
    release.values |= logs.values
    release.namespace.upgrade(release.values)
    release.namespace.settle(REPLICAS)
    return logs


def arrived(store: LogStore, folder: Path, now: datetime | None = None) -> Arrived:
    """Reads the store as `served_traffic` does."""
    predictions = UPath(store.download(folder), CONTRACT.name)
    ends, damaged = read_ends(predictions, now=now)
    parsed = parse_lines(read_lines(predictions, {}), CONTRACT, Window())
    assert (damaged, parsed.unfinished, len(parsed.rejected)) == ([], 0, 0)
    rows = as_traffic(parsed.rows, CONTRACT, MONTH)
    rows = merge_predictions(rows.head(0), rows)
    return Arrived(
        Counter(parsed.rows["prediction_id"]),
        rows,
        completeness(rows, rows.head(0), ends, Window()),
        {end.pod for end in ends},
    )


def when_arrived(store: LogStore, folder: Path, ids: set[str], gone: set[str]) -> Arrived:
    """Waits until these predictions, and the ends of pods that are gone, are in the store."""
    tries: list[Arrived] = []

    def complete() -> bool:
        tries.append(arrived(store, folder / str(len(tries))))
        return ids <= tries[-1].copies.keys() and gone <= tries[-1].ended

    wait(complete, lambda: (len(ids - tries[-1].copies.keys()), gone - tries[-1].ended), 90)
    return tries[-1]


def roll(namespace: Namespace, release: Release) -> None:
    namespace.upgrade(release.values | {"podAnnotations": {"rolled": "1"}})
    namespace.settle(REPLICAS)


def evict(namespace: Namespace, _: Release) -> None:
    namespace.evict(namespace.ready_pods()[0])
    namespace.settle(REPLICAS)


def drain(namespace: Namespace, _: Release) -> None:
    namespace.drain(REPLICAS)


@pytest.mark.parametrize("disturb", [roll, evict, drain])
def test_every_line_arrives_once(
    release: Release,
    store: LogStore,
    table: Table,
    tmp_path: Path,
    disturb: Callable[[Namespace, Release], None],
) -> None:
    namespace = release.namespace
    before = set(namespace.ready_pods())
    with release.caller.calling() as traffic:
        disturb(namespace, release)
    table(f"shipped, {disturb.__name__}", traffic)
    assert not traffic.lost
    gone = before - set(namespace.ready_pods())
    assert gone
    last = when_arrived(store, tmp_path, traffic.ids, gone)
    assert set(last.copies.values()) == {1}
    assert last.found.lost == 0
    ours = last.rows[last.rows["prediction_id"].isin(traffic.ids)]
    assert set(ours["release"]) == {"churn"}
    assert before <= set(ours["pod"])
    hashes = ours["pod"].str.split("-").str[-2]
    assert (hashes == ours["template_hash"]).all()


def test_what_a_killed_process_had_not_written_is_counted(
    release: Release, store: LogStore, table: Table, tmp_path: Path
) -> None:
    namespace = release.namespace
    lost = arrived(store, tmp_path / "before").found.lost
    pod = namespace.ready_pods()[0]
    with release.caller.calling() as traffic:
        namespace.kubectl("exec", pod, "--container", "churn", "--", "python3", "-c", KILL)
        wait(lambda: restarts(namespace, pod), lambda: namespace.get("pod", pod)["status"])
        namespace.settle(REPLICAS)
    table("shipped, a container is killed", traffic)
    sleep(SHIPPED_SECONDS)
    last = when_arrived(store, tmp_path, set(), {pod})
    missing = traffic.ids - last.copies.keys()
    assert set(last.copies.values()) == {1}
    # A prediction whose response was cut off is one that was lost, too.
    assert len(missing) <= last.found.lost - lost <= len(missing) + traffic.lost.total()


def restarts(namespace: Namespace, pod: str) -> int:
    (status,) = namespace.get("pod", pod)["status"]["containerStatuses"]
    return int(status["restartCount"])


def test_what_is_lost_with_a_pod_is_counted_up_to_its_last_sign(
    release: Release, store: LogStore, table: Table, tmp_path: Path
) -> None:
    namespace = release.namespace
    lost = arrived(store, tmp_path / "before").found.lost
    pod = namespace.ready_pods()[0]
    with release.caller.calling() as traffic:
        namespace.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        namespace.settle(REPLICAS)
    table("shipped, a pod is lost", traffic)
    sleep(SHIPPED_SECONDS)
    later = arrived(store, tmp_path / "later", datetime.now(UTC) + timedelta(hours=2))
    missing = traffic.ids - later.copies.keys()
    counted = later.found.lost - lost
    assert missing
    assert len(missing) - 2 * INTERVAL * RATE <= counted <= len(missing) + traffic.lost.total()
