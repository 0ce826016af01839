"""What cannot work is refused before anything changes, or the old pods go on serving."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from churn_assets_tests.cluster.archives import (
    Store,
    start_store,
    truncated,
    with_wrong_golden_rows,
)
from churn_assets_tests.cluster.conftest import REPLICAS, Release, Target
from churn_assets_tests.cluster.kubernetes import CommandError, Namespace, is_ready, run, wait

pytestmark = pytest.mark.cluster

A_FEW = 1_000
"""Requests that must be answered meanwhile, at least."""

ATOMIC = ("--atomic", "--timeout", "45s")


@pytest.fixture(scope="module")
def store(release: Release, target: Target) -> Store:
    archives = {
        "good.bento": target.archive.read_bytes(),
        "half.bento": truncated(target.archive),
        "wrong.bento": with_wrong_golden_rows(target.archive),
    }
    return start_store(release.namespace, archives)


def revision(namespace: Namespace) -> tuple[int, str]:
    """Number and status of the release's newest revision."""
    newest = json.loads(namespace.helm("history", "--output", "json"))[-1]
    return newest["revision"], newest["status"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image.tag": "latest"}, "image.tag"),
        ({"auth.existingSecret": "absent"}, "absent"),
        ({"idKey.existingSecret": "absent"}, "absent"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_values_are_refused_before_anything_changes(
    release: Release, values: dict[str, object], message: str
) -> None:
    is_refused(release, values, message)


def test_a_service_monitor_that_cannot_work_is_refused(release: Release) -> None:
    has_crd = "monitoring.coreos.com/v1" in run("kubectl", "api-versions").split()
    # With the CRD, what is missing is Prometheus' way to the pods.
    message = "networkPolicy.prometheus is empty" if has_crd else "the cluster has no monitoring"
    is_refused(release, {"metrics.serviceMonitor.enabled": True}, message)


def is_refused(release: Release, values: Mapping[str, object], message: str) -> None:
    """The chart refuses the values with this message, and nothing has changed."""
    before = revision(release.namespace)
    with pytest.raises(CommandError, match=message):
        release.namespace.upgrade({**release.values, **values})
    assert revision(release.namespace) == before


def test_a_model_is_released_as_an_archive(release: Release, store: Store) -> None:
    with release.caller.calling() as traffic:
        release.namespace.upgrade(release.values | store.values("good.bento"))
        release.namespace.settle(REPLICAS)
    assert not traffic.lost
    assert not traffic.wrong
    release.namespace.upgrade(release.values)
    release.namespace.settle(REPLICAS)


@contextmanager
def failing_upgrade(release: Release, values: Mapping[str, object]) -> Iterator[None]:
    """An upgrade that is taken back at its deadline, while every request is answered."""
    command = release.namespace.upgrade_command({**release.values, **values}, *ATOMIC)
    with (
        release.caller.calling(A_FEW) as traffic,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as helm,
    ):
        yield
        output, _ = helm.communicate()
    assert helm.returncode, output
    assert not traffic.lost
    assert not traffic.wrong
    release.namespace.settle(REPLICAS)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("good.bento", {"model.archive.sha256": "0" * 64}, "0000000"),
        ("half.bento", {}, "half.bento"),
        ("good.bento", {"model.archive.contract": "bank"}, "bank"),
        ("absent.bento", {"model.archive.sha256": "0" * 64}, "404"),
    ],
)
def test_an_archive_is_refused_and_the_old_pods_go_on(
    release: Release, store: Store, name: str, changed: dict[str, object], message: str
) -> None:
    with failing_upgrade(release, store.values(name) | changed):
        wait(lambda: message in refusals(release.namespace), lambda: refusals(release.namespace))


def refusals(namespace: Namespace) -> str:
    """Termination messages of the init containers."""
    states = [
        status.get(state, {}).get("terminated", {}).get("message", "")
        for pod in namespace.pods()
        for status in pod["status"].get("initContainerStatuses", ())
        for state in ("state", "lastState")
    ]
    return "\n".join(states)


def test_a_model_that_fails_its_golden_rows_is_never_ready(release: Release, store: Store) -> None:
    namespace = release.namespace

    def logs() -> str:
        new = [pod["metadata"]["name"] for pod in namespace.pods() if not is_ready(pod)]
        return "".join(namespace.kubectl("logs", pod, "--ignore-errors") for pod in new)

    with failing_upgrade(release, store.values("wrong.bento")):
        wait(lambda: "neither scorer passes its golden rows" in logs(), logs)


def test_a_pod_with_too_little_memory_never_gets_a_request(release: Release) -> None:
    namespace = release.namespace

    def states() -> str:
        return json.dumps([pod["status"].get("containerStatuses") for pod in namespace.pods()])

    limits = {"resources.limits.memory": "48Mi", "resources.requests.memory": "48Mi"}
    with failing_upgrade(release, limits):
        wait(lambda: "OOMKilled" in states(), states)


def test_an_upgrade_is_refused_while_another_runs(release: Release) -> None:
    namespace = release.namespace
    with failing_upgrade(release, {"image.tag": "absent"}):
        wait(lambda: revision(namespace)[1] == "pending-upgrade", lambda: revision(namespace))
        with pytest.raises(CommandError, match="another operation"):
            namespace.upgrade(release.values)
