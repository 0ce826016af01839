"""Every value is described and has an effect, and no other is accepted."""

import json
import re
from pathlib import Path
from typing import Any

import annotated_types
import pytest
from churn_service.settings import ServiceSettings

from churn_assets_tests.charts.rendering import (
    CHART,
    KEY,
    SMALL,
    RefusedError,
    Values,
    at,
    loaded,
    merged,
    render,
)
from churn_assets_tests.charts.schemas import closed, objects, resolved, script, unknown
from churn_assets_tests.charts.test_manifests import EVERYTHING
from churn_assets_tests.charts.test_strategies import BLUE_GREEN, CANARY

pytestmark = pytest.mark.charts

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
FREE = "which the API server checks"
"""Part of the description of objects of Kubernetes, whose keys the schema does not repeat."""


OBJECTS = dict(objects(SCHEMA, SCHEMA))


def test_readme_and_descriptions_are_current() -> None:
    for path, text in script().outputs(CHART).items():
        assert path.read_text(encoding="utf-8") == text, "run `python helm/chart_readme.py`"


def test_every_value_is_described() -> None:
    nameless = [
        f"{path}.{name}"
        for path, node in OBJECTS.items()
        for name, child in node.get("properties", {}).items()
        if not resolved(child, SCHEMA).get("description")
    ]
    assert not nameless


def test_only_labels_and_objects_of_kubernetes_are_open() -> None:
    for path, node in OBJECTS.items():
        extra = node.get("additionalProperties")
        labels = extra == {"type": "string"}
        assert extra is False or labels or FREE in node["description"] or path == "global", path


def test_the_schema_has_the_values_of_the_values_file() -> None:
    def names(values: Values, node: dict[str, Any]) -> None:
        node = resolved(node, SCHEMA)
        if "properties" in node:
            assert values.keys() <= node["properties"].keys()
            for name, value in values.items():
                if isinstance(value, dict):
                    names(value, node["properties"][name])

    values = loaded(CHART / "values.yaml")
    names(values, SCHEMA)
    assert values.keys() == SCHEMA["properties"].keys() - {"global"}


@pytest.mark.parametrize("path", closed(SCHEMA))
def test_an_unknown_key_is_refused(helm: Path, path: str) -> None:
    with pytest.raises(RefusedError, match=r"(?i)additional propert.* .?notAKey"):
        render(helm, merged(SMALL, unknown(path)))


def test_limits_and_defaults_are_those_of_the_service() -> None:
    """The chart repeats them so that a wrong value is refused before anything changes."""
    values = loaded(CHART / "values.yaml")
    names = {"timeoutSeconds": "timeout"}
    for group, prefix in (("config", ""), ("predictionLog", "prediction_log_")):
        for name, rules in SCHEMA["properties"][group]["properties"].items():
            snake = re.sub("([A-Z])", lambda m: "_" + m[1].lower(), names.get(name, name))
            if (field := ServiceSettings.model_fields.get(prefix + snake)) is None:
                assert name in {"keepAliveSeconds", "enabled", "existingClaim", "shipping"}
                continue
            for kind, key in (("Ge", "minimum"), ("Le", "maximum"), ("Gt", "exclusiveMinimum")):
                bounds = [m for m in field.metadata if type(m) is getattr(annotated_types, kind)]
                wanted = [getattr(bound, kind.lower()) for bound in bounds]
                assert ([rules[key]] if key in rules else []) == wanted, f"{name}: {key}"
            # Kubernetes needs a drain, and a pod has less disk than a server.
            if name not in {"drainSeconds", "files", "otlpEndpoint"}:
                assert values[group][name] == field.default, name


# Other values for those that no rule below finds.
OTHER: dict[str, Any] = {
    "model.source": "image",
    "model.archive.url": "https://models.test/a.bento",
    "model.archive.sha256": "a" * 64,
    "model.archive.existingClaim": "archives",
    "image.digest": "sha256:" + "a" * 64,
    "model.archive.image.digest": "sha256:" + "a" * 64,
    "imagePullSecrets": [{"name": "registry"}],
    "topologySpreadConstraints": [],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "autoscaling.behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    "autoscaling.minReplicas": 3,
    "podDisruptionBudget.minAvailable": 1,
    "config.rateLimit": "50/second",
    "config.otlpEndpoint": "http://collector:4318/v1/traces",
    "config.timeoutSeconds": 12,
    "auth.existingSecret": "other-keys",
    "auth.keys": [KEY],
    "httpRoute.parentRefs": [{"name": "other", "sectionName": "https"}],
    "httpRoute.hostnames": ["other.test"],
    "ingress.hosts": ["other.test"],
    "ingress.tls": [{"secretName": "other", "hosts": ["other.test"]}],
    "networkPolicy.extraIngress": [{"ports": [{"port": 3000}]}],
    "networkPolicy.modelStore": [{"ports": [{"port": 9000}]}],
    "networkPolicy.extraEgress": [{"ports": [{"port": 4318}]}],
    "metrics.serviceMonitor.interval": "30s",
    "metrics.serviceMonitor.scrapeTimeout": "5s",
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "model.archive.extraEnv": [{"name": "AWS_ENDPOINT_URL", "value": "http://store:9000"}],
    "extraContainers": [{"name": "shipper", "image": "shipper:1"}],
    "terminationGracePeriodSeconds": 90,
    "preStopSleepSeconds": 7,
    "strategy.type": "blueGreen",
    "strategy.canary.steps": [{"weight": 100}],
    "analysis.prometheus.address": "https://other:9090",
    "analysis.limits.downShare": 0.25,
    "analysis.extraTemplates": ["other"],
    "predictionLog.shipping.url": "gs://other/predictions",
    "predictionLog.shipping.extraEnv": [{"name": "AWS_ENDPOINT_URL", "value": "http://store:9000"}],
    "predictionLog.shipping.image.digest": "sha256:" + "a" * 64,
    "networkPolicy.predictionStore": [{"ports": [{"port": 9000}]}],
}
# What must be set besides, for the value to count.
WITH: dict[str, Values] = {
    "replicaCount": at("autoscaling.enabled", False),
    "podDisruptionBudget.minAvailable": at("podDisruptionBudget.maxUnavailable", None),
    "config.otlpEndpoint": at("networkPolicy.extraEgress", [{"ports": [{"port": 4318}]}]),
    "auth.keys": at("auth.existingSecret", ""),
    "model.source": {"model": {"archive": {"url": ""}}},
    "strategy.keepDeployment": merged(CANARY, at("autoscaling.enabled", False)),
    "strategy.blueGreen": BLUE_GREEN,
    "strategy": CANARY,
    "analysis": CANARY,
    "analysis.rescoring": merged(CANARY, at("analysis.rescoring.enabled", True)),
    "predictionLog.enabled": at("predictionLog.shipping", {"enabled": False, "url": ""}),
    "predictionLog.existingClaim": at("predictionLog.shipping", {"enabled": False, "url": ""}),
    "predictionLog.files": at("predictionLog.shipping", {"enabled": False, "url": ""}),
    "predictionLog.shipping.enabled": at("predictionLog.shipping.url", ""),
}
ALONE = {
    "auth.keys",
    "model.source",
    "podDisruptionBudget.minAvailable",
    "predictionLog.shipping.enabled",
}
"""Values that exclude another one: they are compared with it."""


def _leaf_paths() -> list[str]:
    return list(script().leaves(loaded(CHART / "values.yaml")))


def _with(path: str) -> Values:
    """Returns what must be set besides for a value, or for the part that it belongs to."""
    names = path.split(".")
    parts = (".".join(names[:count]) for count in range(len(names), 0, -1))
    return next((WITH[part] for part in parts if part in WITH), {})


def _other(path: str, now: Any) -> Any:
    """Returns another valid value."""
    if path in OTHER:
        return OTHER[path]
    node: dict[str, Any] = SCHEMA
    for name in path.split("."):
        node = resolved(resolved(node, SCHEMA)["properties"][name], SCHEMA)
    if "enum" in node:
        return next(value for value in node["enum"] if value != now)
    if isinstance(now, bool):
        return not now
    if isinstance(now, str):
        return "300Mi" if re.fullmatch("[0-9]+[MG]i", now) else "other"
    if isinstance(now, (int, float)) or "integer" in node["type"]:
        number = (now or 0) + 1
        return number if number <= node.get("maximum", number) else 0.5
    if node["type"] == "object":
        quantities = "cpu" in node.get("properties", {})
        return {"memory": "300Mi", "cpu": "300m"} if quantities else {"example": "other"}
    return ["/other"]


@pytest.mark.parametrize("path", _leaf_paths())
def test_every_value_has_an_effect(helm: Path, path: str) -> None:
    base = merged(loaded(CHART / "values.yaml"), EVERYTHING, _with(path))
    now: Any = base
    for name in path.split("."):
        now = now[name]
    changed = merged(base, at(path, _other(path, now)))
    if path in ALONE:
        base = merged(loaded(CHART / "values.yaml"), EVERYTHING)
    assert render(helm, changed) != render(helm, base)
