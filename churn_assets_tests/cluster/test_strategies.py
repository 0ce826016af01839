"""No request is lost while a new version takes over, is taken back, or the strategy changes."""

from time import monotonic

import httpx
import pytest

from churn_assets_tests.cluster.conftest import REPLICAS, Release, scale_up_and_down
from churn_assets_tests.cluster.kubernetes import NAME, CommandError, Namespace, wait
from churn_assets_tests.cluster.rollouts import (
    BOTH,
    CANARY,
    WEIGHTS,
    Table,
    nothing_lost,
    pods_of,
    rollouts,
    status,
    to_rollout,
    version,
    wait_phase,
)

pytestmark = pytest.mark.cluster

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

BLUE_GREEN = CANARY | {"strategy.type": "blueGreen", "strategy.scaleDownDelaySeconds": 60}


def answered(namespace: Namespace, template_hash: str) -> float:
    """Customers that the pods of a version have scored."""
    pods = pods_of(namespace, template_hash)
    command = ("--container", "churn", "--", "python3", "-c", COUNT)
    return sum(float(namespace.kubectl("exec", pod, *command)) for pod in pods)


def test_from_rolling_to_canary(release: Release, table: Table) -> None:
    namespace = release.namespace
    with pytest.raises(CommandError, match=r"strategy\.keepDeployment=true first"):
        namespace.upgrade(release.values | CANARY)
    with nothing_lost(release, table, "rolling to canary"):
        to_rollout(release, release.values | CANARY)


def test_a_second_change_supersedes_the_first(release: Release, table: Table) -> None:
    namespace = release.namespace
    with nothing_lost(release, table, "two changes at once"):
        namespace.upgrade(release.values | CANARY | version("first"))
        wait_phase(namespace, "Paused", 1)
        first = status(namespace)["currentPodHash"]
        namespace.upgrade(release.values | CANARY | version("second"))
        wait_phase(namespace, "Paused", 1)
        assert status(namespace)["currentPodHash"] != first
        wait(lambda: not pods_of(namespace, first), lambda: pods_of(namespace, first))
        rollouts(namespace, "promote", "--full")
        wait_phase(namespace, "Healthy")
        namespace.settle(REPLICAS)
    assert first not in (status(namespace)["currentPodHash"], status(namespace)["stableRS"])


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


def test_a_canary_that_never_is_ready_is_taken_back(release: Release, table: Table) -> None:
    namespace = release.namespace
    broken = {"image.tag": "absent", "progressDeadlineSeconds": 30}
    with nothing_lost(release, table, "canary never ready"):
        namespace.upgrade(release.values | CANARY | version("good") | broken)
        wait_phase(namespace, "Degraded")
        events = namespace.kubectl("get", "events", "--field-selector", "reason=RolloutAborted")
        assert "timed out progressing" in events
        namespace.upgrade(release.values | CANARY | version("good"))
        wait_phase(namespace, "Healthy")
        namespace.settle(REPLICAS)


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


def test_the_autoscaler_scales_a_rollout(release: Release, table: Table) -> None:
    values = release.values | CANARY | version("good")
    with nothing_lost(release, table, "autoscaling of a Rollout"):
        scale_up_and_down(release.namespace, values)
    release.namespace.upgrade(values)
    release.namespace.settle(REPLICAS)


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
