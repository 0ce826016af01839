"""Wrong values are refused, with what to set."""

import re
from pathlib import Path
from typing import cast

import pytest

from churn_assets_tests.charts.rendering import (
    KEY,
    SMALL,
    RefusedError,
    Values,
    at,
    example,
    merged,
    render,
)

pytestmark = pytest.mark.charts

ARCHIVE = example("archive")
JUDGED = example("canary")
REFUSED: dict[str, tuple[Values, str]] = {
    "no tag": (at("image.tag", ""), "image.tag and image.digest are empty: set one"),
    "latest": (at("image.tag", "latest"), 'image.tag is "latest"'),
    "latest fetcher": (
        merged(ARCHIVE, at("model.archive.image.tag", "latest")),
        'model.archive.image.tag is "latest"',
    ),
    "no keys": (at("auth.keys", []), "auth.existingSecret and auth.keys are empty"),
    "two sources of keys": (at("auth.existingSecret", "a"), "set only one of them"),
    "a key twice": (at("auth.keys", [KEY, KEY]), 'auth.keys has the id "crm-1" twice'),
    "extraEnv": (at("extraEnv", [{"name": "CHURN_API_WORKERS", "value": "2"}]), "extraEnv[0].name"),
    "no url": (merged(ARCHIVE, at("model.archive.url", "")), 'model.archive.url is ""'),
    "ftp": (merged(ARCHIVE, at("model.archive.url", "ftp://a/b")), "set an address with s3://"),
    "no sha256": (merged(ARCHIVE, at("model.archive.sha256", "")), 'model.archive.sha256 is ""'),
    "wrong sha256": (merged(ARCHIVE, at("model.archive.sha256", "abc")), "64 hex digits"),
    "no contract": (merged(ARCHIVE, at("model.archive.contract", "")), "contract is empty"),
    "no claim": (
        merged(ARCHIVE, at("model.archive.url", "file:///archives/a")),
        "set model.archive.existingClaim",
    ),
    "not on the claim": (
        merged(ARCHIVE, at("model.archive", {"url": "file:///a", "existingClaim": "a"})),
        "set file:///archives/...",
    ),
    "rollout too short": (
        merged(ARCHIVE, at("progressDeadlineSeconds", 300)),
        "set more than model.archive.timeoutSeconds, which is 300",
    ),
    "archive unused": (at("model.archive.url", "s3://a/b"), "set model.source=archive"),
    "store out of reach": (
        merged(ARCHIVE, at("networkPolicy.modelStore", [])),
        "networkPolicy.modelStore is empty",
    ),
    "min above max": (
        at("autoscaling", {"enabled": True, "minReplicas": 9}),
        "autoscaling.minReplicas is 9: set at most autoscaling.maxReplicas, which is 6",
    ),
    "scaled by nothing": (
        at("autoscaling", {"enabled": True, "targetCPUUtilizationPercentage": None}),
        "set at least one of them",
    ),
    "share of nothing": (
        merged(at("autoscaling.enabled", True), at("resources.requests.cpu", None)),
        "resources.requests.cpu is empty",
    ),
    "drains blocked": (
        at("podDisruptionBudget", {"minAvailable": 2, "maxUnavailable": None}),
        "podDisruptionBudget.minAvailable is 2 of 2 pods",
    ),
    "drains blocked by a share": (
        at("podDisruptionBudget", {"minAvailable": "51%", "maxUnavailable": None}),
        "podDisruptionBudget.minAvailable is 51% of 2 pods",
    ),
    "no pod may be missing": (at("podDisruptionBudget.maxUnavailable", 0), "set at least 1"),
    "two limits": (at("podDisruptionBudget.minAvailable", 1), "set exactly one of them"),
    "killed too early": (at("terminationGracePeriodSeconds", 39), "set at least 40"),
    "drain too long": (at("config.drainSeconds", 20), "set less than 30"),
    "gateway out of reach": (
        at("httpRoute", {"enabled": True, "parentRefs": [{"name": "gw"}]}),
        "networkPolicy.gateway is empty",
    ),
    "prometheus out of reach": (at("metrics.scrapeAnnotations", True), "prometheus is empty"),
    "collector out of reach": (at("config.otlpEndpoint", "http://c:4318"), "no trace would reach"),
    "no gateway": (at("httpRoute.enabled", True), "httpRoute.parentRefs is empty"),
    "no hosts": (at("ingress.enabled", True), "ingress.hosts is empty"),
    "both without hosts": (
        merged(at("ingress.enabled", True), at("httpRoute.enabled", True)),
        "httpRoute.hostnames is empty and ingress.enabled is true",
    ),
    "no gateway for a canary": (
        at("strategy.type", "canary"),
        'strategy.type is "canary" and httpRoute.enabled is false',
    ),
    "weights that fall": (
        merged(JUDGED, at("strategy.canary.steps", [{"weight": 50}, {"weight": 50}])),
        "strategy.canary.steps[1].weight is 50: set more than 50",
    ),
    "weights that end early": (
        merged(JUDGED, at("strategy.canary.steps", [{"weight": 50}])),
        "strategy.canary.steps ends at the weight 50: set 100",
    ),
    "a Deployment beside itself": (
        at("strategy.keepDeployment", True),
        "strategy.keepDeployment is true and strategy.type is",
    ),
    "two workloads, one autoscaler": (
        merged(JUDGED, at("strategy.keepDeployment", True), at("autoscaling.enabled", True)),
        "one autoscaler cannot scale both",
    ),
    "more previews than pods": (
        at("strategy", {"type": "blueGreen", "blueGreen": {"previewReplicaCount": 3}}),
        "strategy.blueGreen.previewReplicaCount is 3: set at most 2",
    ),
    "nothing to judge": (
        merged(JUDGED, at("strategy.type", "rolling")),
        'analysis.enabled is true and strategy.type is "rolling"',
    ),
    "no address of prometheus": (
        merged(JUDGED, at("analysis.prometheus.address", "")),
        'analysis.prometheus.address is "": set an address',
    ),
    "nothing scrapes": (
        merged(JUDGED, at("metrics.serviceMonitor.enabled", False)),
        "analysis.enabled is true and nothing scrapes the pods",
    ),
    "window without two measurements": (
        merged(JUDGED, at("analysis.intervalSeconds", 300)),
        "analysis.windowSeconds is 120: set at least analysis.intervalSeconds, which is 300",
    ),
    "window without five scrapes": (
        merged(JUDGED, at("metrics.serviceMonitor.interval", "30s")),
        "analysis.windowSeconds is 120: set at least 150",
    ),
    "deadline within the pauses": (
        merged(JUDGED, at("analysis.deadlineSeconds", 1200)),
        "analysis.deadlineSeconds is 1200: set more than 1320",
    ),
    "rescoring without a log": (
        merged(JUDGED, at("predictionLog.shipping", {"enabled": False, "url": ""})),
        "analysis.rescoring.enabled is true and no prediction log is shipped",
    ),
    "rescoring without a key": (
        merged(JUDGED, at("idKey.existingSecret", "")),
        "analysis.rescoring.enabled is true and idKey.existingSecret is empty",
    ),
    "rescoring ends before a file is shipped": (
        merged(JUDGED, at("analysis.rescoring.timeoutSeconds", 310)),
        "analysis.rescoring.timeoutSeconds is 310: set more than 310",
    ),
    "latest shipper": (
        merged(JUDGED, at("predictionLog.shipping.image.tag", "latest")),
        'predictionLog.shipping.image.tag is "latest"',
    ),
    "nothing to ship": (
        merged(JUDGED, at("predictionLog.enabled", False)),
        "predictionLog.shipping.enabled is true and predictionLog.enabled is false",
    ),
    "unshipped files shared": (
        merged(JUDGED, at("predictionLog.existingClaim", "logs")),
        "pods must not share unshipped files",
    ),
    "shipped nowhere": (
        merged(JUDGED, at("predictionLog.shipping.url", "http://a/b")),
        "predictionLog.shipping.url is",
    ),
    "shipped to no volume": (
        merged(JUDGED, at("predictionLog.shipping.url", "file:///predictions")),
        "set predictionLog.shipping.existingClaim",
    ),
    "shipped beside the volume": (
        merged(JUDGED, at("predictionLog.shipping", {"url": "file:///a", "existingClaim": "logs"})),
        "set file:///predictions...",
    ),
    "no room for a file": (
        merged(JUDGED, at("predictionLog.shipping.maxBytes", 1024)),
        "set at least predictionLog.fileBytes, which is 67108864",
    ),
    "shipping forgotten": (
        at("predictionLog.shipping.url", "s3://a/b"),
        "predictionLog.shipping.enabled is false",
    ),
    "log store out of reach": (
        merged(JUDGED, at("networkPolicy.predictionStore", [])),
        "networkPolicy.predictionStore is empty",
    ),
    "killed before the rest is shipped": (
        merged(JUDGED, at("terminationGracePeriodSeconds", 59)),
        "set at least 60",
    ),
    "no key for prometheus": (
        merged(at("config.metrics", "admin"), at("metrics.serviceMonitor.enabled", True)),
        "metrics.serviceMonitor.existingSecret is empty",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_values_are_refused_with_what_to_set(helm: Path, case: str) -> None:
    values, message = REFUSED[case]
    base = {} if "image" in values and "auth" in values else SMALL
    with pytest.raises(RefusedError, match=re.escape(message)):
        render(helm, merged(base, values))


@pytest.mark.parametrize(
    ("value", "example_of", "crd", "instead"),
    [
        (
            "httpRoute.enabled is true",
            "canary",
            "gateway.networking.k8s.io/v1/HTTPRoute",
            "ingress",
        ),
        (
            "metrics.serviceMonitor.enabled is true",
            "production",
            "monitoring.coreos.com/v1/ServiceMonitor",
            "metrics.scrapeAnnotations=true",
        ),
        (
            "metrics.serviceMonitor.enabled is true",
            "canary",
            "monitoring.coreos.com/v1/PodMonitor",
            "metrics.scrapeAnnotations=true",
        ),
        ("strategy.type is canary", "canary", "argoproj.io/v1alpha1/Rollout", "type=rolling"),
        ("strategy.type is blueGreen", "blueGreen", "argoproj.io/v1alpha1/Rollout", "type=rolling"),
        (
            "strategy.canary.trafficRouting.provider is traefik",
            "canary",
            "traefik.io/v1alpha1/TraefikService",
            "gatewayAPI",
        ),
    ],
)
def test_a_missing_crd_is_refused(
    helm: Path, value: str, example_of: str, crd: str, instead: str
) -> None:
    message = rf"{re.escape(value)}, and the cluster has no {crd}: .*{instead}"
    with pytest.raises(RefusedError, match=message):
        render(helm, example(example_of), crds=())


def test_all_problems_are_named_at_once(helm: Path) -> None:
    values = {"model": {"source": "archive"}, "terminationGracePeriodSeconds": 1}
    with pytest.raises(RefusedError) as refused:
        render(helm, values)
    problems = re.findall(r"^  - ([\w.]+)", cast(str, refused.value.args[0]), re.MULTILINE)
    assert problems == [
        "image.tag",
        "model.archive.image.tag",
        "auth.existingSecret",
        "model.archive.url",
        "model.archive.sha256",
        "model.archive.contract",
        "terminationGracePeriodSeconds",
        "networkPolicy.modelStore",
    ]


def test_an_older_kubernetes_is_refused(helm: Path) -> None:
    with pytest.raises(RefusedError, match=r"kubeVersion: >=1\.30"):
        render(helm, SMALL, kubernetes="1.29.0")
