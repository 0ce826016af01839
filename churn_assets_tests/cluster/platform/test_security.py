"""Who may do what in an installation, and that no secret is told."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from churn_assets_tests.cluster.kubernetes import CommandError, wait
from churn_assets_tests.cluster.platform.installation import NAME, SETTINGS, Installation
from churn_assets_tests.cluster.pods import reaches, start

pytestmark = pytest.mark.cluster

VALUES: dict[str, Any] = {"settings": SETTINGS | {"automation": {"interval_seconds": 3600}}}
DATABASES = ("dagster", "mlflow", "mlflow_auth")
ASK = """
import kubernetes as k, sys
k.config.load_incluster_config()
core, batch, apps = k.client.CoreV1Api(), k.client.BatchV1Api(), k.client.AppsV1Api()
try:
    {call}
    print("allowed")
except k.client.ApiException as error:
    print(error.status)
"""
FORBIDDEN = (
    "core.list_namespaced_secret('{namespace}')",
    "core.read_namespaced_secret('churn-postgresql', '{namespace}')",
    "core.list_namespaced_config_map('{namespace}')",
    "core.create_namespaced_pod('{namespace}', {{}})",
    "core.list_namespaced_pod('default')",
    "core.list_node()",
    "batch.list_namespaced_job('default')",
    "batch.list_job_for_all_namespaces()",
    "apps.list_namespaced_deployment('{namespace}')",
)


def test_the_launcher_may_handle_jobs_of_its_namespace_alone(platform: Installation) -> None:
    def asked(call: str) -> str:
        namespace = platform.namespace.name
        program = ASK.format(call=call.format(namespace=namespace))
        pod = f"deployment/{NAME}-daemon"
        return platform.namespace.kubectl("exec", pod, "--", "python3", "-c", program).strip()

    assert asked("batch.list_namespaced_job('{namespace}')") == "allowed"
    assert {call: asked(call) for call in FORBIDDEN} == dict.fromkeys(FORBIDDEN, "403")


@pytest.mark.parametrize("component", ["code", "mlflow"])
def test_the_others_have_no_token(platform: Installation, component: str) -> None:
    found = platform.namespace.kubectl(
        "exec", f"deployment/{NAME}-{component}", "--", "ls", "/var/run"
    )
    assert "secrets" not in found


def test_ui_and_mlflow_refuse_who_has_no_password(platform: Installation) -> None:
    with platform.port("webserver", 80) as url:
        assert httpx.get(url).status_code == 401
        assert httpx.post(f"{url}/graphql", json={"query": "{version}"}).status_code == 401
        assert httpx.get(url, auth=("anna", "wrong")).status_code == 401
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    with platform.port("mlflow", 5000) as url:
        assert httpx.get(f"{url}{path}").status_code == 401
        assert httpx.get(f"{url}{path}", auth=("platform-a", "wrong")).status_code == 401
        account = platform.passwords["churn-mlflow"]
        login = account["username"], account["password"]
        assert httpx.get(f"{url}{path}", auth=login).status_code == 200
    program = (
        "import urllib.request as r, urllib.error\n"
        f"try: r.urlopen('http://{NAME}-mlflow:5000{path}')\n"
        "except urllib.error.HTTPError as error: print(error.code)"
    )
    inside = platform.namespace.kubectl(
        "exec", f"deployment/{NAME}-code", "--", "python3", "-c", program
    )
    assert inside.strip() == "401"


def test_a_stranger_reaches_nothing(platform: Installation) -> None:
    namespace = platform.namespace
    start(namespace, "stranger", ["sleep", "3600"], {})
    for component, port in (
        ("webserver", 3000), ("code-location", 4000), ("mlflow", 5000), ("postgresql", 5432),
    ):  # fmt: skip
        [pod] = platform.pods(component)
        assert not reaches(namespace, "stranger", pod["status"]["podIP"], port), component
    namespace.kubectl("delete", "pod", "stranger", "--now")


def told(platform: Installation) -> Iterator[tuple[str, str]]:
    """Everything that the installation tells, by where it does."""
    namespace = platform.namespace
    for kind in ("pods", "jobs", "configmaps", "events", "deployments", "statefulsets"):
        yield kind, namespace.kubectl("get", kind, "--output", "json")
    for pod in namespace.get("pods")["items"]:
        name = pod["metadata"]["name"]
        if pod["status"]["phase"] != "Pending":
            yield f"log of {name}", namespace.kubectl("logs", name)
    for database in DATABASES:
        yield database, namespace.kubectl(
            "exec", f"{NAME}-postgresql-0", "--",
            "pg_dump", "--username=postgres", "--host=/var/run/postgresql", database,
        )  # fmt: skip
    for file in platform.folder.rglob("*"):
        if file.is_file() and file.suffix in {".json", ".html", ".out", ".err", ".yaml", ".txt"}:
            yield f"file {file.name}", file.read_text(encoding="utf-8", errors="replace")


def leaks(platform: Installation) -> set[tuple[str, str]]:
    """Where a secret is told, and which, as it is or in base64."""
    found = set()
    for place, text in told(platform):
        for name, entries in platform.passwords.items():
            for entry, value in entries.items():
                encoded = base64.b64encode(value.encode()).decode()
                if entry != "username" and (value in text or encoded in text):
                    found.add((place, f"{name}/{entry}"))
    return found


def test_no_secret_is_told_and_the_search_finds_a_planted_one(platform: Installation) -> None:
    with platform.ui() as graph:
        run = graph.launch("training_set")
        graph.finished(run)
        assert leaks(platform) == set()
        password = platform.passwords["churn-postgresql"]["password"]
        planted = graph.launch("training_set", tags={"note": password})
        graph.finished(planted)
    assert ("dagster", "churn-postgresql/password") in leaks(platform)


def test_a_missing_secret_is_named(platform: Installation) -> None:
    absent = {"name": "absent", "entries": ["CHURN_ALERTS__WEBHOOK"]}
    with pytest.raises(CommandError):
        platform.upgrade({**VALUES, "settingsSecret": absent}, "--timeout", "150s", "--atomic")
    assert 'secret "absent" not found' in platform.namespace.kubectl("get", "events")
    with platform.ui() as graph:
        assert "LOADED" in str(graph.location()), "the old code location serves on"


def test_a_wrong_password_of_postgresql_is_named(platform: Installation) -> None:
    right = platform.passwords["churn-postgresql"]
    platform.secret("churn-postgresql", **right | {"password": "a wrong password"})
    location = f"deployment/{NAME}-code"
    try:
        platform.namespace.kubectl("rollout", "restart", location)
        name = platform.pods("code-location")[-1]["metadata"]["name"]
        refused = 'password authentication failed for user "churn_a"'
        wait(lambda: refused in platform.namespace.kubectl("logs", name), lambda: name)
        with platform.ui() as graph:
            assert "LOADED" in str(graph.location()), "the old code location serves on"
    finally:
        platform.secret("churn-postgresql", **right)
        platform.namespace.kubectl("rollout", "restart", location)
        platform.namespace.kubectl("rollout", "status", location, "--timeout=180s")


def test_a_wrong_password_of_mlflow_is_named(platform: Installation) -> None:
    right = platform.passwords["churn-mlflow"]
    platform.secret("churn-mlflow", **right | {"password": "a wrong password"})
    try:
        with platform.ui() as graph:
            run = graph.launch("churn_model")
            assert graph.finished(run) == "FAILURE"
            assert "authenticated" in graph.failure(run)
    finally:
        platform.secret("churn-mlflow", **right)
