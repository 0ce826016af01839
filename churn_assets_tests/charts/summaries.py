"""Short summaries of the manifests of the examples.

`python -m churn_assets_tests.charts.summaries` writes them to summaries.yaml, so that a review
shows what a change of the chart changes.
"""

import shutil
from pathlib import Path
from typing import Any

import yaml

from churn_assets_tests.charts.rendering import EXAMPLES, Manifest, example, render

FILE = Path(__file__).with_name("summaries.yaml")


def summary(helm: Path, name: str) -> dict[str, Any]:
    """Returns what an example creates: the key fields of each object, by kind and name."""
    manifests = render(helm, example(name))
    return {f"{m['kind']} {m['metadata']['name']}": _key_fields(m) for m in manifests}


def _key_fields(manifest: Manifest) -> Any:
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Deployment" | "Rollout":
            pod = spec["template"]["spec"]
            return _strategy(spec) | {
                "replicas": spec.get("replicas", "autoscaled"),
                "grace": pod["terminationGracePeriodSeconds"],
                "containers": [
                    _container(c) for c in [*pod.get("initContainers", []), *pod["containers"]]
                ],
                "volumes": {v["name"]: _source(v) for v in pod["volumes"]},
                "spread": [c["topologyKey"] for c in pod["topologySpreadConstraints"]],
            }
        case "HorizontalPodAutoscaler":
            types = [metric["type"] for metric in spec["metrics"]]
            return {"pods": [spec["minReplicas"], spec["maxReplicas"]], "metrics": types}
        case "NetworkPolicy":
            return {"ingress": spec["ingress"], "egress": spec["egress"]}
        case "Service":
            return {"type": spec["type"], "ports": [port["port"] for port in spec["ports"]]}
        case "HTTPRoute":
            (rule,) = spec["rules"]
            paths = [match["path"]["value"] for match in rule["matches"]]
            parents, hosts = spec["parentRefs"], spec["hostnames"]
            return {"parents": parents, "hosts": hosts, "paths": paths} | {
                "headers": rule["matches"][0].get("headers", []),
                "to": [backend["name"] for backend in rule["backendRefs"]],
            }
        case "AnalysisTemplate":
            return {
                metric["name"]: metric.get("successCondition", next(iter(metric["provider"])))
                for metric in spec["metrics"]
            }
        case "Pod":
            return {"hook": manifest["metadata"]["annotations"]["helm.sh/hook"]}
        case "Secret":
            return {"entries": sorted(manifest["stringData"])}
        case "ServiceAccount":
            return {"token": manifest["automountServiceAccountToken"]}
        case _:
            return {key: value for key, value in spec.items() if key != "selector"}


def _strategy(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns the strategy of a Rollout; an analysis is the names of its templates."""
    found: dict[str, Any] = {}
    for name, strategy in spec["strategy"].items():
        if name in ("canary", "blueGreen"):
            found[name] = {key: _short(value) for key, value in strategy.items()}
    return found


def _short(value: Any) -> Any:
    match value:
        case {"templates": templates}:
            return [template["templateName"] for template in templates]
        case dict():
            return {key: _short(child) for key, child in value.items()}
        case list():
            return [_short(child) for child in value]
    return value


def _container(container: dict[str, Any]) -> dict[str, Any]:
    mounts = container["volumeMounts"]
    return {
        "image": container["image"],
        "resources": container["resources"],
        "mounts": [m["mountPath"] + " (read-only)" * bool(m.get("readOnly")) for m in mounts],
    }


def _source(volume: dict[str, Any]) -> str:
    match volume:
        case {"emptyDir": {"sizeLimit": size}}:
            return f"emptyDir {size}"
        case {"secret": {"secretName": name}}:
            return f"secret {name}"
        case {"persistentVolumeClaim": {"claimName": name}}:
            return f"claim {name}"
        case {"downwardAPI": {"items": items}}:
            return "downward API " + ", ".join(item["path"] for item in items)
    raise ValueError(f"a volume of another kind: {volume}")


def main() -> None:
    """Writes the summaries."""
    helm = shutil.which("helm")
    if helm is None:
        raise SystemExit("helm is not on the PATH")
    found = {name: summary(Path(helm), name) for name in EXAMPLES}
    FILE.write_text(yaml.safe_dump(found, sort_keys=False, width=100), encoding="utf-8")


if __name__ == "__main__":
    main()
