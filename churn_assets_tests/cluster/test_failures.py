"""What callers see when a pod runs out of memory, and when a node is lost and comes back."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from churn_assets_tests.cluster.caller import Traffic
from churn_assets_tests.cluster.conftest import REPLICAS, Release, Target
from churn_assets_tests.cluster.kubernetes import NAME, run, wait
from churn_assets_tests.cluster.pods import start

pytestmark = pytest.mark.cluster

Table = Callable[[str, Traffic], None]

LITTLE_MEMORY = "208Mi"
"""Enough for requests with one customer, too little for many large batches at once."""

LARGE = 10_000
SENDERS = 8

SEND_LARGE_BATCHES = f"""
import concurrent.futures, http.client, sys
address, key = sys.argv[1:]
body = sys.stdin.buffer.read()

def send(_):
    connection = http.client.HTTPConnection(address, 3000, timeout=60)
    headers = {{"X-API-Key": key, "Content-Type": "application/json"}}
    connection.request("POST", "/predict/batch", body, headers)
    return connection.getresponse().status

with concurrent.futures.ThreadPoolExecutor({SENDERS}) as pool:
    for future in [pool.submit(send, n) for n in range({SENDERS})]:
        try:
            print(future.result())
        except (OSError, http.client.HTTPException) as error:
            print(repr(error))
"""

OUT_OF_MEMORY_SECONDS = 30.0
NODE_LOST_SECONDS = 90.0
"""Longest time for which callers may lose requests."""


def restarts(pod: dict[str, Any]) -> int:
    [status] = pod["status"]["containerStatuses"]
    return int(status["restartCount"])


def test_while_a_pod_runs_out_of_memory(release: Release, table: Table) -> None:
    namespace, caller = release.namespace, release.caller
    namespace.upgrade(release.values | {"resources.limits.memory": LITTLE_MEMORY})
    namespace.settle(REPLICAS)
    start(namespace, "sender", ["sleep", "3600"], {"churn-client": "true"})
    customers = [customer for customer, _ in caller.expected]
    body = json.dumps({"customers": (customers * (LARGE // len(customers) + 1))[:LARGE]})
    victim, *_ = namespace.pods()
    send = ["exec", "--stdin", "sender", "--", "python3", "-c", SEND_LARGE_BATCHES]

    def has_restarted() -> bool:
        pod = namespace.get("pod", victim["metadata"]["name"])
        return restarts(pod) > 0

    with caller.calling() as traffic:
        namespace.kubectl(*send, victim["status"]["podIP"], caller.key, text=body)
        wait(has_restarted, lambda: namespace.get("pod", victim["metadata"]["name"])["status"])
        namespace.settle(REPLICAS)
    table("a pod out of memory", traffic)
    assert not traffic.wrong
    assert traffic.outage < OUT_OF_MEMORY_SECONDS, traffic.lost
    [status] = namespace.get("pod", victim["metadata"]["name"])["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["reason"] in ("OOMKilled", "Error")


@dataclass(frozen=True)
class Node:
    """A node that the test may cut off, by two shell commands."""

    name: str
    down: str
    up: str


def shell(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


@pytest.fixture
def node(target: Target) -> Iterator[Node]:
    if not all(target.node):
        pytest.skip("CHURN_CLUSTER_NODE, CHURN_CLUSTER_NODE_DOWN or CHURN_CLUSTER_NODE_UP not set")
    node = Node(*target.node)
    yield node
    shell(node.up)
    run("kubectl", "wait", f"node/{node.name}", "--for=condition=Ready", "--timeout=180s")


def test_while_a_node_is_lost_and_comes_back(release: Release, node: Node, table: Table) -> None:
    namespace = release.namespace
    on_node = [pod for pod in namespace.pods() if pod["spec"]["nodeName"] == node.name]
    assert on_node, "the chart spreads its pods over the nodes"

    def no_endpoint() -> bool:
        return len(namespace.ready_pods()) == REPLICAS - len(on_node)

    with release.caller.calling() as traffic:
        shell(node.down)
        wait(no_endpoint, lambda: namespace.get("pods"))
    table("a node is lost", traffic)
    assert not traffic.wrong
    assert traffic.outage < NODE_LOST_SECONDS, traffic.lost
    with release.caller.calling() as traffic:
        shell(node.up)
        namespace.settle(REPLICAS)
        namespace.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=180s")
    table("the node comes back", traffic)
    assert not traffic.wrong
    assert not traffic.lost
