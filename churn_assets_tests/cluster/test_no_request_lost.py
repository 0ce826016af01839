"""No request is lost, and no answer is wrong, whatever happens to the pods behind the gateway."""

from collections.abc import Callable

import pytest

from churn_assets_tests.cluster.caller import Traffic
from churn_assets_tests.cluster.conftest import (
    REPLICAS,
    Release,
    api_key,
    keys_secret,
    scale_up_and_down,
)
from churn_assets_tests.cluster.kubernetes import wait

pytestmark = pytest.mark.cluster

Table = Callable[[str, Traffic], None]

OK, UNAUTHORIZED = 200, 401
IN_A_ROW = 20
"""Answers in a row after which every pod has a key."""


def judge(traffic: Traffic) -> None:
    assert not traffic.lost
    assert not traffic.wrong


def test_at_rest(release: Release, table: Table) -> None:
    with release.caller.calling() as traffic:
        pass
    table("at rest", traffic)
    judge(traffic)


def test_during_an_upgrade_and_the_way_back(release: Release, table: Table) -> None:
    with release.caller.calling() as traffic:
        release.namespace.upgrade(release.values | {"podAnnotations": {"upgrade": "1"}})
        release.namespace.settle(REPLICAS)
    table("helm upgrade", traffic)
    judge(traffic)
    with release.caller.calling() as traffic:
        release.namespace.helm("rollback", "--wait", "--timeout", "180s")
        release.namespace.settle(REPLICAS)
    table("helm rollback", traffic)
    judge(traffic)


def test_during_a_rotation_of_keys(release: Release, table: Table) -> None:
    caller, namespace = release.caller, release.namespace
    before = namespace.ready_pods()
    old = caller.key
    new, entry = api_key("second")

    def everywhere(key: str, status: int) -> Callable[[], bool]:
        return lambda: all(caller.status(key) == status for _ in range(IN_A_ROW))

    with caller.calling() as traffic:
        namespace.apply(keys_secret(release.entry, entry))
        wait(everywhere(new, OK), lambda: "the new key is not accepted everywhere")
        caller.key = new
        namespace.apply(keys_secret(entry))
        wait(everywhere(old, UNAUTHORIZED), lambda: "the old key is still accepted")
    table("rotation of the key", traffic)
    release.entry = entry
    judge(traffic)
    assert namespace.ready_pods() == before


def test_while_a_node_is_drained(release: Release, table: Table) -> None:
    with release.caller.calling() as traffic:
        release.namespace.drain(REPLICAS)
    table("kubectl drain", traffic)
    judge(traffic)


def test_while_pods_are_deleted(release: Release, table: Table) -> None:
    namespace = release.namespace
    with release.caller.calling() as traffic:
        for pod in namespace.ready_pods():
            namespace.kubectl("delete", "pod", pod)
            namespace.settle(REPLICAS)
    table("kubectl delete pod, each", traffic)
    judge(traffic)


def test_while_the_autoscaler_adds_and_removes_pods(release: Release, table: Table) -> None:
    with release.caller.calling() as traffic:
        scale_up_and_down(release.namespace, release.values)
    table("autoscaling up and down", traffic)
    judge(traffic)
    release.namespace.upgrade(release.values)
    release.namespace.settle(REPLICAS)
