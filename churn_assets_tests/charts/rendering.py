"""Renders the chart with helm."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

REPO = Path(__file__).parents[2]
CHART = REPO / "helm" / "churn-service"
RELEASE, NAMESPACE = "churn", "crm"
KUBERNETES = "1.34.0"
CRDS = (
    "argoproj.io/v1alpha1/Rollout",
    "gateway.networking.k8s.io/v1/HTTPRoute",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "traefik.io/v1alpha1/TraefikService",
)

Values = Mapping[str, Any]
Manifest = dict[str, Any]

KEY = {
    "id": "crm-1",
    "role": "predict",
    "salt": "00" * 16,
    "hash": "0" * 64,
    "expires": "2030-01-01T00:00:00Z",
}
SMALL: Values = {"image": {"tag": "1.2.3"}, "auth": {"keys": [KEY]}}
"""The fewest values that are accepted."""

EXAMPLES: dict[str, tuple[Path, Values]] = {
    "test": (CHART / "values-test.yaml", {"auth": {"keys": [KEY]}}),
    "production": (CHART / "values-production.yaml", {"image": {"tag": "1.2.3"}}),
    "archive": (Path(__file__).with_name("archive.yaml"), {}),
    "canary": (Path(__file__).with_name("canary.yaml"), {}),
    "blueGreen": (Path(__file__).with_name("canary.yaml"), {"strategy": {"type": "blueGreen"}}),
}
"""Values files, and what a release adds to them."""


class RefusedError(Exception):
    """helm refused the values; the text is its message."""


def loaded(path: Path) -> dict[str, Any]:
    """Returns the content of a YAML file."""
    return cast(dict[str, Any], yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader))


def merged(*layers: Values) -> dict[str, Any]:
    """Returns the values, where later layers overwrite earlier ones, as helm merges them."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
            result[name] = merged(result[name], value) if both else value
    return result


def at(path: str, value: object) -> dict[str, Any]:
    """Returns values that set one dotted path; `\\.` is a dot in a name."""
    names = [name.replace("\0", ".") for name in path.replace("\\.", "\0").split(".")]
    for name in reversed(names):
        value = {name: value}
    return cast(dict[str, Any], value)


def render(
    helm: Path,
    values: Values,
    *,
    chart: Path = CHART,
    kubernetes: str = KUBERNETES,
    crds: tuple[str, ...] = CRDS,
) -> list[Manifest]:
    """Returns the manifests of a release.

    Raises:
        RefusedError: The chart refuses the values.
    """
    command: list[str | Path] = [helm, "template", RELEASE, chart, "--values", "-"]
    command += ["--namespace", NAMESPACE, "--kube-version", kubernetes]
    command += [f"--api-versions={crd}" for crd in crds]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    if done.returncode:
        raise RefusedError(done.stderr)
    documents = yaml.load_all(done.stdout, yaml.CSafeLoader)
    return [document for document in documents if document]


def example(name: str) -> dict[str, Any]:
    """Returns the values of an example release."""
    path, added = EXAMPLES[name]
    return merged(loaded(path), added)


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields kind and specification of every pod."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield "Pod", manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            yield manifest["kind"], manifest["spec"]["template"]["spec"]


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """Returns the only manifest of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found
