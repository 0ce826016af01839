"""The chart renders manifests that Kubernetes accepts, with the security that it promises."""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from churn_service.settings import ServiceSettings

from churn_assets_tests.charts.rendering import (
    CHART,
    EXAMPLES,
    SMALL,
    Manifest,
    example,
    merged,
    of_kind,
    pod_specs,
    render,
)

pytestmark = pytest.mark.charts

EVERYTHING = merged(
    example("archive"),
    {
        "autoscaling": {"enabled": True, "requestsPerSecond": {"target": 200}},
        "idKey": {"existingSecret": "churn-id-key"},
        "predictionLog": {
            "shipping": {
                "enabled": True,
                "url": "s3://logs/predictions",
                "existingSecret": "log-store",
                "image": {"tag": "1.2.3"},
            }
        },
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gw"}], "hostnames": ["a.test"]},
        "ingress": {
            "enabled": True,
            "className": "traefik",
            "hosts": ["b.test"],
            "tls": [{"secretName": "tls", "hosts": ["b.test"]}],
        },
        "metrics": {
            "scrapeAnnotations": True,
            "serviceMonitor": {"enabled": True, "existingSecret": "admin-key"},
        },
        "networkPolicy": {
            "gateway": {"namespaceLabels": {"name": "gateway"}},
            "prometheus": {"podLabels": {"app": "prometheus"}},
            "predictionStore": [{"ports": [{"port": 443}]}],
        },
        "tests": {"existingSecret": "admin-key"},
    },
)
RELEASES = {name: example(name) for name in EXAMPLES} | {"everything": EVERYTHING, "small": SMALL}
CUSTOM = {
    "AnalysisTemplate",
    "HTTPRoute",
    "PodMonitor",
    "Rollout",
    "ServiceMonitor",
    "TraefikService",
}
"""Kinds that are not Kubernetes' own; the tests on a cluster check them against their CRDs."""


@pytest.fixture(params=RELEASES)
def manifests(request: pytest.FixtureRequest, helm: Path) -> list[Manifest]:
    """The manifests of each release."""
    return render(helm, RELEASES[request.param])


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_lint_finds_nothing(helm: Path, name: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(RELEASES[name]), encoding="utf-8")
    command: list[str | Path] = [helm, "lint", "--strict", "--quiet", CHART, "--values", values]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("kubernetes", ["1.30", "1.34"])
@pytest.mark.parametrize("name", RELEASES)
def test_the_manifests_fit_the_schemas_of_kubernetes(
    helm: Path, name: str, kubernetes: str
) -> None:
    for manifest in render(helm, RELEASES[name], kubernetes=f"{kubernetes}.0"):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_every_pod_fulfils_pod_security_restricted(manifests: list[Manifest]) -> None:
    specs = list(pod_specs(manifests))
    assert [kind for kind, _ in specs] in (["Deployment", "Pod"], ["Rollout", "Pod"])
    for _, pod in specs:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for volume in pod.get("volumes", []):
            assert volume.keys() & {
                "downwardAPI",
                "emptyDir",
                "persistentVolumeClaim",
                "secret",
            }, volume
            assert volume.get("emptyDir", {"sizeLimit": "-"})["sizeLimit"], volume


def test_every_container_fulfils_pod_security_restricted(manifests: list[Manifest]) -> None:
    for _, pod in pod_specs(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_the_service_can_write_only_where_it_must(helm: Path) -> None:
    deployment = of_kind(render(helm, EVERYTHING), "Deployment")
    (churn,) = deployment["spec"]["template"]["spec"]["containers"]
    writable = {m["mountPath"] for m in churn["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/churn", "/var/log/churn"}
    read_only = {m["mountPath"] for m in churn["volumeMounts"] if m.get("readOnly")}
    assert read_only == {"/bento", "/etc/churn/keys", "/etc/churn/id", "/etc/podinfo"}


def test_a_secret_that_rotates_is_mounted_as_a_folder(helm: Path) -> None:
    deployment = of_kind(render(helm, EVERYTHING), "Deployment")
    (churn,) = deployment["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount for mount in churn["volumeMounts"]}
    assert "subPath" not in mounts["keys"]
    assert "subPath" not in mounts["id-key"]


def test_other_keys_do_not_restart_the_pods(helm: Path) -> None:
    def template(id_: str) -> Any:
        key = {**SMALL["auth"]["keys"][0], "id": id_}
        manifests = render(helm, merged(SMALL, {"auth": {"keys": [key]}}))
        return of_kind(manifests, "Deployment")["spec"]["template"]

    assert template("crm-1") == template("crm-2")


def test_rendering_twice_gives_the_same(helm: Path) -> None:
    assert render(helm, EVERYTHING) == render(helm, EVERYTHING)


def test_selectors_have_only_labels_that_never_change(manifests: list[Manifest]) -> None:
    labels = {
        "app.kubernetes.io/name": "churn-service",
        "app.kubernetes.io/instance": "churn",
    }
    services = [m["spec"]["selector"] for m in manifests if m["kind"] == "Service"]
    assert all(selector == labels for selector in services)
    controllers = ("Deployment", "Rollout", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor")
    selectors = [m["spec"]["selector"] for m in manifests if m["kind"] in controllers]
    assert all(selector == {"matchLabels": labels} for selector in selectors)
    assert len(services) + len(selectors) >= 3


def test_every_object_has_the_recommended_labels(manifests: list[Manifest]) -> None:
    names = {"name", "instance", "component", "part-of", "managed-by"}
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert {f"app.kubernetes.io/{name}" for name in names} <= labels.keys(), manifest["kind"]
        assert manifest["metadata"]["namespace"] == "crm"


def test_every_setting_of_the_service_is_set(helm: Path) -> None:
    values = merged(EVERYTHING, {"config": {"otlpEndpoint": "http://collector:4318/v1/traces"}})
    values = merged(values, {"networkPolicy": {"extraEgress": [{"ports": [{"port": 4318}]}]}})
    deployment = of_kind(render(helm, values), "Deployment")
    (churn,) = deployment["spec"]["template"]["spec"]["containers"]
    names = {v["name"] for v in churn["env"] if v["name"].startswith("CHURN_API_")}
    assert names == {f"CHURN_API_{name.upper()}" for name in ServiceSettings.model_fields}


def test_an_autoscaled_deployment_leaves_its_replicas_alone(helm: Path) -> None:
    manifests = render(helm, EVERYTHING)
    assert "replicas" not in of_kind(manifests, "Deployment")["spec"]
    metrics = of_kind(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["ContainerResource", "Pods"]


@pytest.mark.parametrize(
    ("config", "seconds"),
    [({}, 40), ({"drainSeconds": 2.5}, 38), ({"drainSeconds": 10, "timeoutSeconds": 15}, 50)],
)
def test_the_grace_period_covers_the_stopping(
    helm: Path, config: dict[str, float], seconds: int
) -> None:
    manifests = render(helm, merged(SMALL, {"config": config}))
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


def test_the_route_keeps_internal_paths_inside(helm: Path) -> None:
    (rule,) = of_kind(render(helm, EVERYTHING), "HTTPRoute")["spec"]["rules"]
    paths = {match["path"]["value"] for match in rule["matches"]}
    assert paths == {"/predict", "/model", "/health", "/docs", "/docs.json"}
    assert rule["backendRefs"] == [{"name": "churn-churn-service", "port": 80}]


def test_the_service_monitor_finds_the_service(helm: Path) -> None:
    manifests = render(helm, EVERYTHING)
    service, monitor = of_kind(manifests, "Service"), of_kind(manifests, "ServiceMonitor")["spec"]
    selected = monitor["selector"]["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"] == [
        {
            "port": service["spec"]["ports"][0]["name"],
            "path": "/metrics",
            "interval": "15s",
            "scrapeTimeout": "10s",
            "authorization": {
                "type": "Bearer",
                "credentials": {"name": "admin-key", "key": "token"},
            },
        }
    ]
