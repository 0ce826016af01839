"""A Rollout has the pods of the Deployment, and divides the requests as its strategy promises."""

from pathlib import Path
from typing import Any

import pytest

from churn_assets_tests.charts.rendering import (
    Manifest,
    at,
    example,
    merged,
    of_kind,
    render,
)

pytestmark = pytest.mark.charts

NAME = "churn-churn-service"
JUDGED = {
    "analysis": {"enabled": True, "prometheus": {"address": "http://prometheus:9090"}},
    "metrics": {"serviceMonitor": {"enabled": True}},
}
CANARY = merged(
    JUDGED,
    at("strategy", {"type": "canary", "canary": {"trafficRouting": {"provider": "traefik"}}}),
)
BLUE_GREEN = merged(JUDGED, at("strategy.type", "blueGreen"))
STRATEGIES = ("canary", "blueGreen")


def named(manifests: list[Manifest], kind: str, suffix: str = "") -> dict[str, Any]:
    """Returns the specification of an object."""
    (found,) = (
        m["spec"] for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, NAME + suffix)
    )
    return dict(found)


def rolling(name: str) -> dict[str, Any]:
    """Returns the values of an example with a Deployment instead."""
    return merged(example(name), at("strategy.type", "rolling"), at("analysis.enabled", False))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_rollout_has_the_pods_of_the_deployment(helm: Path, name: str) -> None:
    deployment = str(of_kind(render(helm, rolling(name)), "Deployment")["spec"]["template"])
    rollout = str(of_kind(render(helm, example(name)), "Rollout")["spec"]["template"])
    assert deployment.replace("'pod-template-hash'", "'rollouts-pod-template-hash'") == rollout


@pytest.mark.parametrize(("name", "kind"), [("test", "Deployment"), ("canary", "Rollout")])
def test_the_hash_of_the_pods_is_that_of_their_controller(helm: Path, name: str, kind: str) -> None:
    label = {"Deployment": "pod-template-hash", "Rollout": "rollouts-pod-template-hash"}[kind]
    pod = of_kind(render(helm, example(name)), kind)["spec"]["template"]["spec"]
    (info,) = (v["downwardAPI"]["items"] for v in pod["volumes"] if v["name"] == "pod-info")
    assert {item["path"]: item["fieldRef"]["fieldPath"] for item in info} == {
        "pod": "metadata.name",
        "release": "metadata.labels['app.kubernetes.io/instance']",
        "template-hash": f"metadata.labels['{label}']",
        "role": "metadata.labels['churn/role']",
    }
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["matchLabelKeys"] == [label]


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("canary", {"stableMetadata": "stable", "canaryMetadata": "canary"}),
        ("blueGreen", {"activeMetadata": "active", "previewMetadata": "preview"}),
    ],
)
def test_the_pods_know_their_role(helm: Path, name: str, roles: dict[str, str]) -> None:
    strategy = of_kind(render(helm, example(name)), "Rollout")["spec"]["strategy"][name]
    assert {key: strategy[key]["labels"]["churn/role"] for key in roles} == roles


@pytest.mark.parametrize("name", STRATEGIES)
def test_new_pods_that_never_are_ready_are_taken_back(helm: Path, name: str) -> None:
    assert of_kind(render(helm, example(name)), "Rollout")["spec"]["progressDeadlineAbort"] is True


def test_a_step_is_a_weight_an_analysis_and_a_pause(helm: Path) -> None:
    steps = [{"weight": 10, "pauseSeconds": 7}, {"weight": 40}, {"weight": 100, "pauseSeconds": 0}]
    values = merged(example("canary"), at("strategy.canary.steps", steps))
    strategy = of_kind(render(helm, values), "Rollout")["spec"]["strategy"]["canary"]
    kinds = [next(iter(step)) for step in strategy["steps"]]
    assert kinds == ["setWeight", "analysis", "pause"] * 2 + ["setWeight", "analysis"]
    assert [step["pause"] for step in strategy["steps"] if "pause" in step] == [
        {"duration": "7s"},
        {},
    ]


def test_traefik_divides_the_requests(helm: Path) -> None:
    manifests = render(helm, example("canary"))
    (rule,) = named(manifests, "HTTPRoute")["rules"]
    assert rule["backendRefs"] == [{"group": "traefik.io", "kind": "TraefikService", "name": NAME}]
    weights = {
        s["name"]: s["weight"] for s in named(manifests, "TraefikService")["weighted"]["services"]
    }
    assert weights == {NAME: 100, f"{NAME}-canary": 0}
    routing = named(manifests, "Rollout")["strategy"]["canary"]["trafficRouting"]
    assert routing == {"traefik": {"weightedTraefikServiceName": NAME}}


def test_the_gateway_api_divides_the_requests(helm: Path) -> None:
    values = merged(example("canary"), at("strategy.canary.trafficRouting.provider", "gatewayAPI"))
    manifests = render(helm, values)
    (rule,) = named(manifests, "HTTPRoute")["rules"]
    weights = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
    assert weights == {NAME: 100, f"{NAME}-canary": 0}
    routing = named(manifests, "Rollout")["strategy"]["canary"]["trafficRouting"]
    plugin = {"httpRoute": NAME, "namespace": "crm"}
    assert routing == {"plugins": {"argoproj-labs/gatewayAPI": plugin}}
    assert not [m for m in manifests if m["kind"] == "TraefikService"]


@pytest.mark.parametrize(("name", "suffix"), [("canary", "-canary"), ("blueGreen", "-preview")])
def test_a_header_reaches_the_new_version(helm: Path, name: str, suffix: str) -> None:
    manifests = render(helm, example(name))
    (rule,) = named(manifests, "HTTPRoute", suffix)["rules"]
    assert rule["backendRefs"] == [{"name": NAME + suffix, "port": 80}]
    assert all(
        m["headers"] == [{"name": "X-Churn-Canary", "value": "true"}] for m in rule["matches"]
    )
    assert named(manifests, "Service", suffix)["type"] == "ClusterIP"
    without = render(helm, merged(example(name), at("strategy.header.name", "")))
    assert [m["metadata"]["name"] for m in without if m["kind"] == "HTTPRoute"] == [NAME]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_autoscaler_scales_the_rollout(helm: Path, name: str) -> None:
    manifests = render(helm, merged(example(name), at("autoscaling.enabled", True)))
    assert "replicas" not in named(manifests, "Rollout")
    target = named(manifests, "HorizontalPodAutoscaler")["scaleTargetRef"]
    assert target == {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": NAME}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_deployment_stays_during_a_change_of_strategy(helm: Path, name: str) -> None:
    before = of_kind(render(helm, rolling(name)), "Deployment")
    between = render(helm, merged(example(name), at("strategy.keepDeployment", True)))
    assert of_kind(between, "Deployment") == before
    assert of_kind(between, "Rollout") == of_kind(render(helm, example(name)), "Rollout")


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_pod_is_scraped_once_with_its_hash(helm: Path, name: str) -> None:
    manifests = render(helm, example(name))
    assert named(manifests, "PodMonitor")["podTargetLabels"] == ["rollouts-pod-template-hash"]
    assert not [m for m in manifests if m["kind"] == "ServiceMonitor"]


def test_the_shipper_outlives_the_service(helm: Path) -> None:
    pod = of_kind(render(helm, example("canary")), "Rollout")["spec"]["template"]["spec"]
    (shipper,) = pod["initContainers"]
    assert shipper["restartPolicy"] == "Always"
    assert shipper["command"] == ["python3", "-m", "prediction_log_shipper"]
    assert shipper["envFrom"] == [{"secretRef": {"name": "log-store"}}]
    assert {v["name"]: v["value"] for v in shipper["env"]} == {
        "CHURN_SHIP_FOLDER": "/var/log/churn",
        "CHURN_SHIP_URL": "s3://logs/predictions",
        "CHURN_SHIP_POD_INFO": "/etc/podinfo",
        "CHURN_SHIP_INTERVAL": "10",
        "CHURN_SHIP_MAX_BYTES": "1073741824",
        "CHURN_SHIP_STOP_SECONDS": "20",
    }
    assert pod["terminationGracePeriodSeconds"] == 60
    (churn,) = pod["containers"]
    kept = {v["name"]: v["value"] for v in churn["env"]}["CHURN_API_PREDICTION_LOG_FILES"]
    assert kept == "10000"
