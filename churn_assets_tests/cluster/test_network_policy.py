"""What may reach the service, and what the service may reach, tried from inside of pods."""

from collections.abc import Iterator

import pytest

from churn_assets_tests.cluster.conftest import Release
from churn_assets_tests.cluster.kubernetes import NAME, Namespace
from churn_assets_tests.cluster.pods import reaches, start

pytestmark = pytest.mark.cluster

CLIENT = {"churn-client": "true"}
SLEEP = ["sleep", "3600"]


@pytest.fixture(scope="module")
def clients(release: Release) -> Iterator[Namespace]:
    namespace = release.namespace
    start(namespace, "allowed", SLEEP, CLIENT)
    start(namespace, "stranger", SLEEP, {})
    yield namespace
    namespace.kubectl("delete", "pod", "allowed", "stranger")


def address(namespace: Namespace) -> str:
    return str(namespace.get("service", NAME)["spec"]["clusterIP"])


def test_only_a_pod_with_the_label_reaches_the_service(clients: Namespace) -> None:
    assert reaches(clients, "allowed", address(clients), 80)
    assert not reaches(clients, "stranger", address(clients), 80)


def test_only_the_port_of_the_service_is_reached(clients: Namespace) -> None:
    ip = clients.pods()[0]["status"]["podIP"]
    assert reaches(clients, "allowed", ip, 3000)
    assert not reaches(clients, "allowed", ip, 3001)


def test_the_service_reaches_names_and_nothing_else(clients: Namespace) -> None:
    [pod, *_] = clients.ready_pods()
    resolves = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    api = clients.kubectl("exec", pod, "--", "python3", "-c", resolves).strip()
    assert not reaches(clients, pod, api, 443)
    stranger = clients.get("pod", "stranger")["status"]["podIP"]
    assert not reaches(clients, pod, stranger, 80)
    assert not reaches(clients, pod, "192.0.2.1", 443)


def test_no_pod_has_a_token_of_the_cluster(clients: Namespace) -> None:
    for pod in clients.ready_pods():
        found = clients.kubectl("exec", pod, "--", "ls", "/var/run")
        assert "secrets" not in found
