"""A release of the chart on a real cluster, in a namespace of its own."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from churn_service.access.api_keys import Key, KeyFile, new_key

from churn_assets.adapters.serving import predictions, serving
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.features import requests
from churn_assets.core.data.validation import validate
from churn_assets.core.simulation.simulator import Simulator
from churn_assets_tests.cluster.caller import Caller, Traffic
from churn_assets_tests.cluster.kubernetes import NAME, Namespace, run, secret, wait
from churn_assets_tests.cluster.log_store import LogStore, log_store

MONTH = "2025-06"
CUSTOMERS = 500
HOST = "churn.example.com"
KEYS = "churn-keys"
REPLICAS, MOST_PODS = 2, 4

GATEWAY_PORT = int(os.environ.get("CHURN_CLUSTER_GATEWAY_PORT", "8000"))

TABLE = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class Target:
    """Where the tests run, from the environment.

    Attributes:
        archive: Archive of the bento that the service's image holds.
        gateway_class: GatewayClass of the cluster's gateway.
        gateway_url: Address under which the gateway is reached from here.
        node: Node that may be cut off, with neither the gateway nor the control plane on it, and
            the shell commands that cut it off and bring it back; "" where none may be.
        volume: Folder that all nodes share, in which everybody may write; "" where there is none.
        prometheus: Address of a Prometheus that the controller of Argo Rollouts reaches; "" where
            there is none.
    """

    archive: Path = field(default_factory=lambda: Path(_variable("CHURN_CLUSTER_ARCHIVE")))
    gateway_class: str = field(default_factory=lambda: _variable("CHURN_CLUSTER_GATEWAY_CLASS"))
    gateway_url: str = field(default_factory=lambda: _variable("CHURN_CLUSTER_GATEWAY_URL"))
    node: tuple[str, str, str] = field(
        default_factory=lambda: (
            os.environ.get("CHURN_CLUSTER_NODE", ""),
            os.environ.get("CHURN_CLUSTER_NODE_DOWN", ""),
            os.environ.get("CHURN_CLUSTER_NODE_UP", ""),
        )
    )
    volume: str = field(default_factory=lambda: os.environ.get("CHURN_CLUSTER_VOLUME", ""))
    prometheus: str = field(default_factory=lambda: os.environ.get("CHURN_CLUSTER_PROMETHEUS", ""))


def _variable(name: str) -> str:
    if not (text := os.environ.get(name)):
        pytest.fail(f"{name} is not set: see `make test-cluster` in docs/deployment.md")
    return text


@pytest.fixture(scope="session")
def target() -> Target:
    _variable("KUBECONFIG")
    return Target()


@pytest.fixture(scope="session")
def expected(
    target: Target, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[dict[str, object], float]]:
    """Customers, with the probabilities of the same bento outside Kubernetes."""
    contract = load_contract("telecom")
    snapshot = SimulatedSource(contract, Simulator(customers=CUSTOMERS)).snapshot(MONTH)
    customers = requests(validate(snapshot, contract, MONTH).accepted, contract)
    with serving(str(target.archive), tmp_path_factory.mktemp("bentoml")) as url:
        return list(zip(customers, map(float, predictions(url, customers)), strict=True))


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """A namespace in which only pods of the standard `restricted` are admitted."""
    name = f"churn-test-{secrets.token_hex(4)}"
    run("kubectl", "create", "namespace", name)
    try:
        run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield Namespace(name)
    finally:
        run("kubectl", "delete", "namespace", name)


def api_key(name: str) -> tuple[str, Key]:
    """A new key of the role `predict` and its entry in a key file."""
    return new_key("predict", datetime.now(UTC) + timedelta(days=1), name)


def keys_secret(*keys: Key) -> dict[str, object]:
    """The Secret of these API keys."""
    return secret(KEYS, {"keys.json": KeyFile(keys=keys).model_dump_json()})


@dataclass
class Release:
    """An installed release behind a gateway.

    Attributes:
        entry: The key file's entry of the caller's key.
        values: Values of the chart beside those of `values-test.yaml`.
    """

    namespace: Namespace
    caller: Caller
    entry: Key
    values: dict[str, object]


@pytest.fixture(scope="module")
def release(
    namespace: Namespace, target: Target, expected: list[tuple[dict[str, object], float]]
) -> Release:
    token, entry = api_key("first")
    namespace.apply(keys_secret(entry))
    namespace.apply(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "gateway"},
            "spec": {
                "gatewayClassName": target.gateway_class,
                "listeners": [{"name": "http", "port": GATEWAY_PORT, "protocol": "HTTP"}],
            },
        }
    )
    host = f"{namespace.name}.{HOST}"
    values: dict[str, object] = {
        "auth.existingSecret": KEYS,
        "replicaCount": REPLICAS,
        "httpRoute.enabled": True,
        "httpRoute.parentRefs": [{"name": "gateway"}],
        "httpRoute.hostnames": [host],
    }
    namespace.upgrade(values)
    caller = Caller(target.gateway_url, host, token, expected)
    wait(lambda: caller.status(token) == httpx.codes.OK, lambda: namespace.get("httproute"))
    return Release(namespace, caller, entry, values)


def scale_up_and_down(namespace: Namespace, values: Mapping[str, object]) -> None:
    """Lets the autoscaler add pods under traffic, and then remove them."""
    scaled = {
        "autoscaling.enabled": True,
        "autoscaling.minReplicas": REPLICAS,
        "autoscaling.maxReplicas": MOST_PODS,
        "autoscaling.targetCPUUtilizationPercentage": 10,
        "autoscaling.behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    namespace.upgrade({**values, **scaled})
    namespace.settle(MOST_PODS)
    to_fewest = f'{{"spec":{{"maxReplicas":{REPLICAS}}}}}'
    namespace.kubectl("patch", "hpa", NAME, "--patch", to_fewest)
    namespace.settle(REPLICAS)


@pytest.fixture(scope="module")
def logs(release: Release, target: Target) -> Iterator[LogStore]:
    if not target.volume:
        pytest.skip("CHURN_CLUSTER_VOLUME is not set: no folder that all nodes share")
    with log_store(release.namespace, target.volume) as found:
        yield found


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Callable[[str, Traffic], None]:
    """Adds a line to the table that is printed at the end."""

    def add(what: str, traffic: Traffic) -> None:
        line = (
            f"{what:32} {traffic.requests:8,} {traffic.lost.total():5} {traffic.outage:6.1f} "
            f"{traffic.wrong:6} "
            f"{traffic.milliseconds(0.5):7.1f} {traffic.milliseconds(0.99):7.1f} "
            f"{traffic.milliseconds(1):8.1f}"
        )
        request.config.stash.setdefault(TABLE, []).append(line)

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints what the callers saw."""
    if lines := config.stash.get(TABLE, []):
        terminalreporter.section("requests through the gateway; times in ms")
        heads = f"{'during':32} {'requests':>8} {'lost':>5} {'for s':>6} {'wrong':>6} "
        terminalreporter.write_line(f"{heads}{'p50':>7} {'p99':>7} {'max':>8}")
        for line in lines:
            terminalreporter.write_line(line)
