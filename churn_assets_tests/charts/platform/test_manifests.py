"""The platform's chart renders what Kubernetes and Dagster accept, locked down as promised."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig

from churn_assets.settings import HIDDEN, Settings, load_settings
from churn_assets_tests.charts.platform.rendering import (
    CHART,
    EVERYTHING,
    NAME,
    RELEASES,
    SMALL,
    rendered,
)
from churn_assets_tests.charts.rendering import Manifest, Values, merged, pod_specs

pytestmark = pytest.mark.charts


@pytest.fixture(params=RELEASES)
def manifests(request: pytest.FixtureRequest, helm: Path) -> list[Manifest]:
    """The manifests of each release."""
    return rendered(helm, RELEASES[request.param])


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def instance(manifests: list[Manifest]) -> dict[str, Any]:
    """The content of dagster.yaml."""
    text = named(manifests, "ConfigMap", f"{NAME}-instance")["data"]["dagster.yaml"]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def settings(manifests: list[Manifest]) -> dict[str, str]:
    found: dict[str, str] = named(manifests, "ConfigMap", f"{NAME}-settings")["data"]
    return found


def run_pods(manifests: list[Manifest]) -> dict[str, Any]:
    """The specification that the launcher gives the pods of runs."""
    found: dict[str, Any] = instance(manifests)["run_launcher"]["config"]["run_k8s_config"]
    return found


@pytest.mark.parametrize("name", RELEASES)
def test_helm_lint_finds_nothing(helm: Path, name: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(dict(RELEASES[name])), encoding="utf-8")
    command: list[str | Path] = [helm, "lint", "--strict", "--quiet", CHART, "--values", values]
    command += ["--kube-version", "1.34.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kubernetes", ["1.30", "1.34"])
@pytest.mark.parametrize("name", RELEASES)
def test_the_manifests_fit_the_schemas_of_kubernetes(
    helm: Path, name: str, kubernetes: str
) -> None:
    for manifest in rendered(helm, RELEASES[name], kubernetes=f"{kubernetes}.0"):
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_every_pod_fulfils_pod_security_restricted(manifests: list[Manifest]) -> None:
    for _, pod in pod_specs(manifests):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] != 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_the_pods_of_runs_are_as_locked_down(manifests: list[Manifest]) -> None:
    run = run_pods(manifests)
    code = next(
        pod for _, pod in pod_specs(manifests) if pod["containers"][0]["name"] == "code-location"
    )
    assert run["pod_spec_config"]["securityContext"] == code["securityContext"]
    assert run["pod_spec_config"]["enableServiceLinks"] is False
    [container] = code["containers"]
    assert run["container_config"]["securityContext"] == container["securityContext"]
    current = [v for v in container["env"] if v["name"] == "DAGSTER_CURRENT_IMAGE"]
    assert run["container_config"]["env"] == [v for v in container["env"] if v not in current]


def test_dagster_accepts_the_launcher(manifests: list[Manifest]) -> None:
    from dagster._config import process_config

    config = instance(manifests)["run_launcher"]["config"]
    checked = process_config(DagsterK8sJobConfig.config_type_run_launcher(), config)
    assert checked.success, checked.errors
    UserDefinedDagsterK8sConfig.from_dict(run_pods(manifests))


def test_only_who_starts_jobs_has_a_token(helm: Path) -> None:
    def tokens(values: Values) -> set[str]:
        return {
            pod["containers"][0]["name"]
            for _, pod in pod_specs(rendered(helm, values))
            if pod["automountServiceAccountToken"]
        }

    assert tokens(SMALL) == tokens(EVERYTHING) == {"daemon", "webserver", "migrations"}
    for values, account, token in (
        (SMALL, NAME, False),
        (EVERYTHING, f"{NAME}-launcher", True),
    ):
        manifests = rendered(helm, values)
        config = instance(manifests)["run_launcher"]["config"]
        assert config["service_account_name"] == account
        assert run_pods(manifests)["pod_spec_config"]["automountServiceAccountToken"] is token


def test_a_pod_without_a_token_does_not_open_the_launcher(helm: Path) -> None:
    """Dagster opens the launcher with every instance whose runs can be resumed."""
    manifests = rendered(helm, EVERYTHING)
    files = named(manifests, "ConfigMap", f"{NAME}-instance")["data"]
    for _, pod in pod_specs(manifests):
        [container] = pod["containers"]
        for mount in container["volumeMounts"]:
            if mount["mountPath"] == "/opt/dagster/dagster.yaml":
                config = yaml.safe_load(files[mount["subPath"]])
                resumed = config["run_monitoring"]["max_resume_run_attempts"]
                assert bool(resumed) is pod["automountServiceAccountToken"], container["name"]


def test_the_launcher_may_only_handle_jobs_of_its_namespace(manifests: list[Manifest]) -> None:
    assert not [m for m in manifests if m["kind"].startswith("Cluster")]
    [role] = [m for m in manifests if m["kind"] == "Role"]
    assert {
        f"{resource} {' '.join(rule['verbs'])}"
        for rule in role["rules"]
        for resource in rule["resources"]
    } == {
        "jobs create get list delete",
        "jobs/status get",
        "pods get list delete",
        "pods/log get",
        "events list",
    }


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key != "secretKeyRef":
                yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    else:
        yield str(node)


def test_no_object_has_a_secret(manifests: list[Manifest]) -> None:
    assert not [m for m in manifests if m["kind"] == "Secret"]
    for manifest in manifests:
        for text in texts(manifest):
            assert not re.search(r"://[^/\s]*:[^/\s]*@", text), text
    for _, pod in pod_specs(manifests):
        for container in pod["containers"]:
            for variable in container["env"]:
                if re.search("PASSWORD|SECRET|_KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable


def test_the_settings_are_those_of_the_platform(
    helm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(rendered(helm, EVERYTHING)).items():
        monkeypatch.setenv(name, value)
    found = load_settings()
    assert found.training_months == 6
    assert found.limits.min_auc == 0.7
    assert found.step_resources == {"churn_model": {"limits": {"memory": "4Gi"}}}
    assert found.contract == "/etc/churn/contract/acme.py"
    assert found.lake == "s3://bucket/churn/lake"
    assert found.mlflow_tracking_uri == f"http://{NAME}-mlflow:5000"


def test_every_setting_is_a_value_of_the_chart_or_set_by_it(helm: Path) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = schema["properties"]["settings"]["properties"]
    own = {name.removeprefix("CHURN_").lower() for name in settings(rendered(helm, EVERYTHING))}
    for name in Settings.model_fields:
        assert (name in values) or (name in own) or (name,) in HIDDEN or name == "home", name
    assert not {name for (name, *part) in HIDDEN if not part} & values.keys()
    assert not {"webhook", "smtp_password"} & values["alerts"]["properties"].keys()


def test_a_large_number_stays_a_number(helm: Path) -> None:
    values = merged(SMALL, {"settings": {"simulated": {"customers": 5_000_000}}})
    assert settings(rendered(helm, values))["CHURN_SIMULATED__CUSTOMERS"] == "5000000"


def test_other_settings_restart_only_what_reads_them(helm: Path) -> None:
    def templates(values: Values) -> dict[str, Any]:
        return {
            m["metadata"]["name"]: m["spec"]["template"]
            for m in rendered(helm, values)
            if m["kind"] == "Deployment"
        }

    before, after = templates(SMALL), templates(merged(SMALL, {"settings": {"seed": 7}}))
    assert {name for name in before if before[name] != after[name]} == {f"{NAME}-code"}


def test_a_policy_selects_every_pod(manifests: list[Manifest]) -> None:
    selected = {
        m["spec"]["podSelector"]["matchLabels"]["churn-platform/component"]
        for m in manifests
        if m["kind"] == "NetworkPolicy"
    }
    pods = [m if m["kind"] == "Pod" else m.get("spec", {}).get("template") for m in manifests]
    components = {pod["metadata"]["labels"]["churn-platform/component"] for pod in pods if pod}
    assert components | {"run"} == selected
    run = run_pods(manifests)["pod_template_spec_metadata"]["labels"]
    assert run["churn-platform/component"] == "run"


def test_nobody_reaches_the_code_location_but_webserver_and_daemon(helm: Path) -> None:
    def callers(component: str) -> set[str]:
        policy = named(rendered(helm, RELEASES["trial"]), "NetworkPolicy", f"{NAME}-{component}")
        return {
            peer["podSelector"]["matchLabels"]["churn-platform/component"]
            for rule in policy["spec"]["ingress"]
            for peer in rule["from"]
        }

    assert callers("code-location") == {"webserver", "daemon"}
    assert callers("mlflow") == {"run", "code-location", "test"}
    assert callers("postgresql") == {
        "webserver", "daemon", "code-location", "run", "test", "migrations", "mlflow",
    }  # fmt: skip
    assert callers("run") == callers("daemon") == callers("webserver") == set()


def test_a_second_daemon_is_never_started_beside_the_first(manifests: list[Manifest]) -> None:
    daemon = named(manifests, "Deployment", f"{NAME}-daemon")["spec"]
    assert (daemon["replicas"], daemon["strategy"]) == (1, {"type": "Recreate"})


def test_rendering_twice_gives_the_same(helm: Path) -> None:
    assert rendered(helm, EVERYTHING) == rendered(helm, EVERYTHING)
