"""Failures of pods are named, with the value to change."""

import json
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster_k8s.client import DagsterKubernetesClient
from kubernetes.client import ApiClient

from churn_assets import definitions
from churn_assets.defs.platform.kubernetes import pod_failures
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import SettingsError, load_settings


def pod(status: dict[str, Any], limits: dict[str, str] | None = None) -> Any:
    """A pod as the Kubernetes API returns it."""
    container = {"name": "dagster", "resources": {"limits": limits or {}}}
    document = {
        "metadata": {"name": "run-1"},
        "spec": {"containers": [container]},
        "status": status,
    }
    return ApiClient().deserialize(SimpleNamespace(data=json.dumps(document)), "V1Pod")


def ended(reason: str, code: int) -> dict[str, Any]:
    return state({"terminated": {"reason": reason, "exitCode": code}})


def state(found: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "dagster", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [{**container, "state": found}]}


def condition(kind: str, status: str, message: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "message": message}]}


NO_ROOM = "0/2 nodes are available: 2 Insufficient memory."
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "runs": (state({"running": {}}), []),
    "well": (ended("Completed", 0), []),
    "out of memory": (
        ended("OOMKilled", 137),
        ["OOMKilled: more memory than 1Gi; raise runs.resources.limits.memory"],
    ),
    "killed": (ended("Error", 137), ["pod run-1 ended with 137 (Error)"]),
    "no image": (
        state({"waiting": {"reason": "ImagePullBackOff", "message": "pull of x failed"}}),
        ["ImagePullBackOff: pull of x failed; see image"],
    ),
    "no room": (
        condition("PodScheduled", "False", NO_ROOM),
        [f"pod run-1 has no node: {NO_ROOM}; see runs.resources"],
    ),
    "scheduled": (condition("PodScheduled", "True", ""), []),
    "evicted": (
        condition("DisruptionTarget", "True", "the node is gone"),
        ["pod run-1 was taken away: the node is gone"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_happened_to_a_pod_is_named(name: str) -> None:
    status, expected = CASES[name]
    client = DagsterKubernetesClient(
        None,
        SimpleNamespace(
            list_namespaced_pod=lambda **_: SimpleNamespace(items=[pod(status, {"memory": "1Gi"})])
        ),
        None, None, None,
    )  # fmt: skip
    assert list(pod_failures(client, "job", "crm", "runs.resources")) == expected


@pytest.fixture
def on_kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> pytest.MonkeyPatch:
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    monkeypatch.setenv("CHURN_EXECUTOR", "k8s")
    return monkeypatch


def test_the_resources_are_of_steps_that_exist(on_kubernetes: pytest.MonkeyPatch) -> None:
    table = {"churn_model": {"limits": {"memory": "2Gi"}}}
    on_kubernetes.setenv("CHURN_STEP_RESOURCES", json.dumps(table))
    executor = definitions.build(Platform.of(load_settings())).executor
    assert executor.name == "k8s"
    on_kubernetes.setenv("CHURN_STEP_RESOURCES", json.dumps({"model": table["churn_model"]}))
    with pytest.raises(SettingsError, match=r"names model: the steps are .*churn_bento"):
        definitions.build(Platform.of(load_settings()))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CHURN_EXECUTOR", "celery", r"CHURN_EXECUTOR is 'celery': .*'in_process' or 'k8s'"),
        ("CHURN_STEP_RESOURCES", "[", "CHURN_STEP_RESOURCES"),
        ("CHURN_STEP_RESOURCES", '{"churn_model": {"limit": {}}}', "CHURN_STEP_RESOURCES"),
        ("CHURN_STEP_RESOURCES", '{"churn_model": {"limits": {"disk": "1"}}}', "'cpu' or 'memory'"),
    ],
)
def test_a_wrong_setting_is_named(
    on_kubernetes: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    on_kubernetes.setenv(variable, value)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_the_executor_of_kubernetes_needs_its_launcher(on_kubernetes: pytest.MonkeyPatch) -> None:
    executor = definitions.build(Platform.of(load_settings())).executor
    with dg.DagsterInstance.ephemeral() as instance:
        context = SimpleNamespace(instance=instance)
        with pytest.raises(SettingsError, match=r"CHURN_EXECUTOR is 'k8s', but .* on this machine"):
            executor.executor_creation_fn(context)
