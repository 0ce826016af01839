"""No request is lost while a new version takes over, is taken back, or the strategy changes."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

import httpx
import pytest

from churn_assets_tests.cluster.caller import Traffic
from churn_assets_tests.cluster.conftest import REPLICAS, Release
from churn_assets_tests.cluster.kubernetes import NAME, CommandError, Namespace, run, wait

pytestmark = pytest.mark.cluster

Table = Callable[[str, Traffic], None]

WEIGHTS = (5, 25, 50, 100)
POINTS = 2.0
"""Largest difference between a weight that is set and the share that is seen, in points."""

SAMPLE = 4_000
"""Requests by which a share is seen."""

COUNT = """
import urllib.request
text = urllib.request.urlopen("http://127.0.0.1:3000/metrics").read().decode()
counts = [line for line in text.splitlines() if line.startswith("churn_predictions_total{")]
print(sum(float(line.split()[-1]) for line in counts))
"""

STEPS = [{"weight": weight, "pauseSeconds": None} for weight in WEIGHTS]
CANARY: dict[str, object] = {
    "strategy.type": "canary",
    "strategy.canary.trafficRouting.provider": "traefik",
    "strategy.canary.steps": STEPS,
    "strategy.scaleDownDelaySeconds": 10,
    "strategy.abortScaleDownDelaySeconds": 10,
}
BLUE_GREEN = CANARY | {"strategy.type": "blueGreen", "strategy.scaleDownDelaySeconds": 60}
BOTH = {"strategy.keepDeployment": True}


def version(name: str) -> dict[str, object]:
    """A pod template of another hash, with the same model."""
    return {"podAnnotations": {"version": name}}


def rollouts(namespace: Namespace, verb: str) -> None:
    run("kubectl-argo-rollouts", "--namespace", namespace.name, verb, NAME)


def status(namespace: Namespace) -> dict[str, Any]:
    """Status of the Rollout; that of an older generation counts as none."""
    rollout = namespace.get("rollout", NAME)
    found: dict[str, Any] = rollout.get("status", {})
    seen = str(rollout["metadata"]["generation"]) == found.get("observedGeneration")
    return found if seen else {}


def wait_phase(namespace: Namespace, phase: str, step: int | None = None) -> None:
    """Waits for a phase of the Rollout, and for the index of a step."""

    def reached() -> bool:
        now = status(namespace)
        return now.get("phase") == phase and step in (None, now.get("currentStepIndex"))

    wait(reached, lambda: (phase, step, status(namespace)))


def pods_of(namespace: Namespace, template_hash: str) -> list[str]:
    label = "rollouts-pod-template-hash"
    pods = namespace.pods()
    return [
        p["metadata"]["name"] for p in pods if p["metadata"]["labels"].get(label) == template_hash
    ]


def answered(namespace: Namespace, template_hash: str) -> float:
    """Customers that the pods of a version have scored."""
    pods = pods_of(namespace, template_hash)
    command = ("--container", "churn", "--", "python3", "-c", COUNT)
    return sum(float(namespace.kubectl("exec", pod, *command)) for pod in pods)


@contextmanager
def nothing_lost(release: Release, table: Table, what: str) -> Iterator[None]:
    with release.caller.calling() as traffic:
        yield
    table(what, traffic)
    assert not traffic.lost
    assert not traffic.wrong


def test_from_rolling_to_canary(release: Release, table: Table) -> None:
    namespace = release.namespace
    with pytest.raises(CommandError, match=r"strategy\.keepDeployment=true first"):
        namespace.upgrade(release.values | CANARY)
    with nothing_lost(release, table, "rolling to canary"):
        namespace.upgrade(release.values | CANARY | BOTH)
        wait_phase(namespace, "Healthy")
        namespace.settle(2 * REPLICAS)
        namespace.upgrade(release.values | CANARY)
        namespace.settle(REPLICAS)


def test_a_canary_to_all(release: Release, table: Table) -> None:
    namespace = release.namespace
    shares = {}
    with nothing_lost(release, table, "canary to 100%"):
        namespace.upgrade(release.values | CANARY | version("good"))
        for at, weight in enumerate(WEIGHTS):
            wait_phase(namespace, "Paused", 2 * at + 1)
            shares[weight] = share_of_the_canary(namespace)
            rollouts(namespace, "promote")
        wait_phase(namespace, "Healthy")
        namespace.settle(REPLICAS)
    assert all(abs(share - weight) <= POINTS for weight, share in shares.items()), shares


def share_of_the_canary(namespace: Namespace) -> float:
    """Share of the next requests that the canary answers, in percent."""
    now = status(namespace)
    canary, stable = now["currentPodHash"], now["stableRS"]

    def counts() -> tuple[float, float]:
        return answered(namespace, canary), answered(namespace, stable)

    before = counts()
    after = before
    began = monotonic()
    while sum(after) - sum(before) < SAMPLE and monotonic() - began < 120:
        after = counts()
    return 100 * (after[0] - before[0]) / (sum(after) - sum(before))


def test_the_header_reaches_the_canary_and_an_abort_takes_it_back(
    release: Release, table: Table
) -> None:
    namespace, caller = release.namespace, release.caller
    stable = status(namespace)["stableRS"]
    with nothing_lost(release, table, "canary aborted by hand"):
        namespace.upgrade(release.values | CANARY | version("aborted"))
        wait_phase(namespace, "Paused", 1)
        canary = status(namespace)["currentPodHash"]
        before = answered(namespace, canary)
        for _ in range(200):
            headers = {"Host": caller.host, "X-API-Key": caller.key, "X-Churn-Canary": "true"}
            url = f"{caller.url}/predict"
            assert httpx.post(url, json=caller.expected[0][0], headers=headers).status_code == 200
        assert answered(namespace, canary) - before >= 200
        rollouts(namespace, "abort")
        wait_phase(namespace, "Degraded")
        namespace.settle(REPLICAS)
        assert len(pods_of(namespace, stable)) == REPLICAS
        namespace.upgrade(release.values | CANARY | version("good"))
        wait_phase(namespace, "Healthy")


def test_a_canary_that_never_is_ready_is_taken_back(release: Release, table: Table) -> None:
    namespace = release.namespace
    broken = {"image.tag": "absent", "progressDeadlineSeconds": 30}
    with nothing_lost(release, table, "canary never ready"):
        namespace.upgrade(release.values | CANARY | version("good") | broken)
        wait_phase(namespace, "Degraded")
        assert "timed out progressing" in status(namespace)["message"]
        namespace.upgrade(release.values | CANARY | version("good"))
        wait_phase(namespace, "Healthy")
        namespace.settle(REPLICAS)


def test_from_canary_to_blue_green_and_a_switch_and_back(release: Release, table: Table) -> None:
    namespace = release.namespace
    with nothing_lost(release, table, "canary to blue/green"):
        namespace.upgrade(release.values | BLUE_GREEN | version("good"))
        wait_phase(namespace, "Healthy")
    blue = status(namespace)["stableRS"]
    with nothing_lost(release, table, "blue/green switch and back"):
        namespace.upgrade(release.values | BLUE_GREEN | version("green"))
        wait_phase(namespace, "Paused")
        assert status(namespace)["blueGreen"]["activeSelector"] == blue
        rollouts(namespace, "promote")
        wait_phase(namespace, "Healthy")
        assert status(namespace)["blueGreen"]["activeSelector"] != blue
        namespace.upgrade(release.values | BLUE_GREEN | version("good"))
        wait_phase(namespace, "Paused")
        rollouts(namespace, "promote")
        wait_phase(namespace, "Healthy")
        assert status(namespace)["blueGreen"]["activeSelector"] == blue
    namespace.settle(REPLICAS)


@pytest.fixture
def judged(release: Release) -> dict[str, object]:
    """Values of a canary that Prometheus judges every few seconds."""
    address = os.environ.get("CHURN_CLUSTER_PROMETHEUS")
    if not address:
        pytest.skip("CHURN_CLUSTER_PROMETHEUS is not set: no address that Argo Rollouts reaches")
    steps = [{"weight": weight, "pauseSeconds": 0} for weight in WEIGHTS]
    return dict(release.values) | CANARY | {
        "strategy.canary.steps": steps,
        "analysis.enabled": True,
        "analysis.prometheus.address": address,
        "analysis.intervalSeconds": 5,
        "analysis.windowSeconds": 30,
        "analysis.minRequests": 50,
        "analysis.deadlineSeconds": 600,
        "metrics.serviceMonitor.enabled": True,
        "metrics.serviceMonitor.interval": "5s",
        "metrics.serviceMonitor.scrapeTimeout": "4s",
        "networkPolicy.prometheus.namespaceLabels": {"kubernetes.io/metadata.name": "monitoring"},
    }  # fmt: skip


def test_a_good_canary_is_never_taken_back(
    release: Release, judged: Mapping[str, object], table: Table
) -> None:
    namespace = release.namespace
    namespace.upgrade(judged | version("good"))
    wait_phase(namespace, "Healthy")
    with nothing_lost(release, table, "canary judged as good"):
        namespace.upgrade(judged | version("judged"))
        wait_phase(namespace, "Healthy")
    namespace.settle(REPLICAS)


@pytest.mark.parametrize(
    ("what", "changed", "reason"),
    [
        ("a limit that is broken", {"analysis.limits.p99Seconds": 0.0001}, '"p99-seconds"'),
        ("prometheus down", {"analysis.prometheus.address": "http://127.0.0.1:1",
                             "analysis.consecutiveErrorLimit": 1}, "consecutiveErrors"),
        ("too few requests", {"analysis.minRequests": 1_000_000,
                              "analysis.deadlineSeconds": 90}, '"deadline"'),
    ],
)  # fmt: skip
def test_a_canary_is_taken_back_by_the_analysis(
    release: Release,
    judged: Mapping[str, object],
    table: Table,
    what: str,
    changed: dict[str, object],
    reason: str,
) -> None:
    namespace = release.namespace
    stable = status(namespace)["stableRS"]
    with nothing_lost(release, table, what):
        namespace.upgrade(judged | version(what) | changed)
        wait_phase(namespace, "Degraded")
    assert reason in status(namespace)["message"]
    events = namespace.kubectl("get", "events", "--field-selector", "reason=RolloutAborted")
    assert reason.strip('"') in events
    namespace.settle(REPLICAS)
    assert len(pods_of(namespace, stable)) == REPLICAS


def test_back_to_rolling(release: Release, table: Table) -> None:
    namespace = release.namespace
    last = version("last")
    namespace.upgrade(
        release.values | BLUE_GREEN | {"strategy.blueGreen.autoPromotionEnabled": True} | last
    )
    wait_phase(namespace, "Healthy")
    with pytest.raises(CommandError, match=r"present type and strategy\.keepDeployment=true first"):
        namespace.upgrade(release.values | last)
    with nothing_lost(release, table, "blue/green to rolling"):
        namespace.upgrade(release.values | BLUE_GREEN | last | BOTH)
        namespace.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=180s")
        namespace.upgrade(release.values | last)
        namespace.settle(REPLICAS)
