"""A canary that is bad is taken back by itself, and a good one never."""

import os
import re
from collections.abc import Mapping
from time import monotonic

import pytest

from churn_assets_tests.cluster.archives import DEGRADED, FAULTS, Store, faulty, start_store
from churn_assets_tests.cluster.conftest import REPLICAS, Release, Target
from churn_assets_tests.cluster.log_store import LogStore
from churn_assets_tests.cluster.rollouts import (
    CANARY,
    WEIGHTS,
    Table,
    nothing_lost,
    pods_of,
    status,
    to_rollout,
    version,
    wait_phase,
)

pytestmark = pytest.mark.cluster

A_FEW = 1_000
"""Requests that are sent while a bad canary is taken back, at least."""

GOOD_RUNS = int(os.environ.get("CHURN_CLUSTER_GOOD_RUNS", "1"))
"""Number of good canaries, none of which may be taken back."""

STEPS = [{"weight": weight, "pauseSeconds": 0} for weight in WEIGHTS]

Values = Mapping[str, object]


@pytest.fixture(scope="module")
def store(release: Release, target: Target) -> Store:
    faults = {fault: faulty(target.archive, fault) for fault in (*FAULTS, DEGRADED)}
    return start_store(release.namespace, {"good": target.archive.read_bytes()} | faults)


@pytest.fixture(scope="module")
def judged(release: Release, store: Store, logs: LogStore, target: Target) -> Values:
    """Values of a release whose canaries are judged every few seconds."""
    if not target.prometheus:
        pytest.skip("CHURN_CLUSTER_PROMETHEUS is not set: no address that Argo Rollouts reaches")
    values = release.values | CANARY | store.values("good") | logs.values | {
        "strategy.canary.steps": STEPS,
        "analysis.enabled": True,
        "analysis.prometheus.address": target.prometheus,
        "analysis.intervalSeconds": 5,
        "analysis.windowSeconds": 30,
        "analysis.minRequests": 50,
        "analysis.deadlineSeconds": 600,
        "analysis.rescoring.enabled": True,
        "analysis.rescoring.requests": 200,
        "analysis.rescoring.timeoutSeconds": 120,
        "metrics.serviceMonitor.enabled": True,
        "metrics.serviceMonitor.interval": "5s",
        "metrics.serviceMonitor.scrapeTimeout": "4s",
        "networkPolicy.prometheus.namespaceLabels": {"kubernetes.io/metadata.name": "monitoring"},
    }  # fmt: skip
    to_rollout(release, values)
    return values


@pytest.mark.parametrize("run", range(GOOD_RUNS))
def test_a_good_canary_is_never_taken_back(
    release: Release, judged: Values, table: Table, run: int
) -> None:
    # The first one takes every step, the others two of them.
    steps = {"strategy.canary.steps": [STEPS[0], STEPS[-1]]} if run else {}
    with nothing_lost(release, table, f"good canary {run}"):
        release.namespace.upgrade({**judged, **version(f"good {run}"), **steps})
        wait_phase(release.namespace, "Healthy")
    release.namespace.settle(REPLICAS)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong", "answers-are-of-the-model"),
        ("errors", "error-share"),
        ("slow", "p99-seconds|p99-ratio"),
        (DEGRADED, "degraded-share"),
        ("crash", "restarts|down-share|error-share"),
    ],
)
def test_a_bad_canary_is_taken_back(
    release: Release, judged: Values, store: Store, table: Table, fault: str, reason: str
) -> None:
    namespace, caller = release.namespace, release.caller
    stable = status(namespace)["stableRS"]
    with caller.calling(A_FEW) as traffic:
        began = monotonic()
        namespace.upgrade({**judged, **store.values(fault)})
        wait_phase(namespace, "Degraded")
        seconds = monotonic() - began
    share = (traffic.versions[fault] + traffic.lost.total()) / traffic.requests
    table(f"{fault}: {seconds:.0f} s, {share:.2%} by the canary", traffic)
    assert is_taken_back(release, stable, reason)


@pytest.mark.parametrize(
    ("what", "changed", "reason"),
    [
        ("prometheus down", {"analysis.prometheus.address": "http://127.0.0.1:1",
                             "analysis.consecutiveErrorLimit": 1}, "consecutiveErrors"),
        ("too few requests", {"analysis.minRequests": 1_000_000,
                              "analysis.deadlineSeconds": 90}, "deadline"),
    ],
)  # fmt: skip
def test_a_canary_that_cannot_be_judged_is_taken_back(
    release: Release,
    judged: Values,
    table: Table,
    what: str,
    changed: dict[str, object],
    reason: str,
) -> None:
    stable = status(release.namespace)["stableRS"]
    with nothing_lost(release, table, what):
        release.namespace.upgrade({**judged, **version(what), **changed})
        wait_phase(release.namespace, "Degraded")
    assert is_taken_back(release, stable, reason)


def is_taken_back(release: Release, stable: str, reason: str) -> bool:
    """Whether only stable pods are left, and status and event of the Rollout say why."""
    namespace = release.namespace
    events = namespace.kubectl("get", "events", "--field-selector", "reason=RolloutAborted")
    message = status(namespace)["message"]
    assert re.search(reason, message), message
    assert re.search(reason, events), events
    namespace.helm("rollback")
    wait_phase(namespace, "Healthy")
    namespace.settle(REPLICAS)
    return len(pods_of(namespace, stable)) == REPLICAS
