"""A pod of the chart, compared with the same bento outside Kubernetes: speed and memory.

    python -m benchmarks.cluster.pod [--seconds 5] [--rounds 5]

Needs the environment of `make test-cluster`, see docs/deployment.md. Both have one worker, a key,
the metrics and the prediction log, and take turns on this machine; the pod is reached by a
NodePort, without the gateway. See `benchmarks/README.md`.
"""

import argparse
import json
import os
import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pandas as pd
import psutil

from benchmarks.client import run_apart
from benchmarks.serving_peers.catalogue import NO_LIMIT, new_key
from churn_assets.adapters.serving import serving
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.features import requests
from churn_assets.core.data.validation import validate
from churn_assets.core.simulation.simulator import Simulator
from churn_assets_tests.cluster.kubernetes import NAME, Namespace, run

CONNECTIONS = (1, 8, 32)
LARGE = 10_000
"""Customers of a batch, the most that the service takes."""

LARGE_CONNECTIONS = 4
MONTH = "2025-06"
POD, OUTSIDE = "pod", "outside"

METRICS_SECONDS = 45
"""Time after which the cluster's metrics show the memory of now."""


@dataclass(frozen=True)
class Target:
    """One of the two services.

    Attributes:
        url: Base URL.
        requests: Files with the requests of one customer and of large batches.
    """

    name: str
    url: str
    single: Path
    large: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    archive = Path(os.environ["CHURN_CLUSTER_ARCHIVE"])
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    with TemporaryDirectory(prefix="churn-pod-") as folder:
        scratch = Path(folder)
        keys = scratch / "keys.json"
        key = new_key(keys)
        single, large = write_requests(scratch, key)
        settings = {"CHURN_API_KEYS_FILE": str(keys), "CHURN_API_RATE_LIMIT": NO_LIMIT}
        with (
            release(keys) as (namespace, pod_url),
            serving(str(archive), scratch / "home", settings=settings) as url,
        ):
            outside = psutil.Process().children(recursive=True)
            targets = Target(POD, pod_url, single, large), Target(OUTSIDE, url, single, large)
            memory = {"at rest": memory_of(namespace, outside)}
            speed = measure(targets, options.rounds, options.seconds)
            memory["after requests for one customer"] = memory_of(namespace, outside)
            for target in targets:
                load(target.url, large, LARGE_CONNECTIONS, 4 * options.seconds)
            what = f"after {LARGE_CONNECTIONS} callers with {LARGE:,} customers each"
            memory[what] = memory_of(namespace, outside)
    print(f"\n{speed.to_string(index=False)}\n")
    print(pd.DataFrame(memory, index=[f"{POD} MiB", f"{OUTSIDE} MiB"]).T.round().to_string())


def write_requests(scratch: Path, key: str) -> tuple[Path, Path]:
    """Writes the requests of one customer, and one of a large batch."""
    contract = load_contract("telecom")
    snapshot = SimulatedSource(contract, Simulator(customers=2 * LARGE)).snapshot(MONTH)
    customers = requests(validate(snapshot, contract, MONTH).accepted[:LARGE], contract)
    headers = {"Authorization": f"Bearer {key}"}
    documents = {
        "single": {"path": "/predict", "bodies": [json.dumps(one) for one in customers[:500]]},
        "large": {"path": "/predict/batch", "bodies": [json.dumps({"customers": customers})]},
    }
    files = []
    for name, document in documents.items():
        files.append(scratch / f"{name}.json")
        files[-1].write_text(json.dumps(document | {"headers": headers}), encoding="utf-8")
    return files[0], files[1]


def values_of(keys: Path) -> dict[str, object]:
    """Values of a release with one pod that nothing limits."""
    return {
        "auth": json.loads(keys.read_text(encoding="utf-8")),
        "replicaCount": 1,
        "service.type": "NodePort",
        "networkPolicy.enabled": False,
        "config.rateLimit": NO_LIMIT,
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "2Gi"}},
    }


@contextmanager
def release(keys: Path) -> Iterator[tuple[Namespace, str]]:
    """Installs the chart with one pod in a namespace of its own; the URL leads to the pod."""
    namespace = Namespace(f"churn-bench-{secrets.token_hex(4)}")
    run("kubectl", "create", "namespace", namespace.name)
    try:
        namespace.upgrade(values_of(keys))
        [node] = {pod["status"]["hostIP"] for pod in namespace.pods()}
        [port] = namespace.get("service", NAME)["spec"]["ports"]
        url = f"http://{node}:{port['nodePort']}"
        httpx.get(f"{url}/readyz").raise_for_status()
        yield namespace, url
    finally:
        run("kubectl", "delete", "namespace", namespace.name)


def measure(targets: tuple[Target, Target], rounds: int, seconds: float) -> pd.DataFrame:
    """Puts two services under load by turns; medians over the rounds, and ratios of the turns."""
    cells = defaultdict(list)
    for turn in range(rounds):
        for connections in CONNECTIONS:
            # Also the order by turns: the first one may find the machine in another state.
            for target in targets if turn % 2 else reversed(targets):
                found = load(target.url, target.single, connections, seconds)
                cells[target.name, connections].append(found)
    names = tuple(target.name for target in targets)
    return pd.DataFrame([_row(cells, names, connections) for connections in CONNECTIONS])


def _row(
    cells: dict[tuple[str, int], list[dict[str, float]]], names: Sequence[str], connections: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"connections": connections}
    for quantity, scale in (("rate", 1.0), ("p99", 1_000.0)):
        values = {
            name: [scale * cell[quantity] for cell in cells[name, connections]] for name in names
        }
        row |= {f"{quantity}, {name}": round(statistics.median(values[name]), 1) for name in names}
        ratios = [one / other for one, other in zip(*values.values(), strict=True)]
        row[f"{quantity}, ratio"] = round(statistics.median(ratios), 3)
        row[f"{quantity}, ratios"] = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return row


def load(url: str, requests_file: Path, connections: int, seconds: float) -> dict[str, float]:
    """Puts a service under load by a client in a process of its own."""
    address = httpx.URL(url)
    assert address.port
    return run_apart(
        address.host, address.port, requests_file, connections=connections, seconds=seconds
    )


def memory_of(namespace: Namespace, outside: Sequence[psutil.Process]) -> tuple[float, float]:
    """MiB of the pod's working set, and the proportional set size of the processes outside."""
    time.sleep(METRICS_SECONDS)
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace.name}/pods"
    [pod] = json.loads(run("kubectl", "get", "--raw", path))["items"]
    [container] = pod["containers"]
    own = float(container["usage"]["memory"].removesuffix("Ki")) / 2**10
    return own, sum(process.memory_full_info().pss for process in outside) / 2**20


if __name__ == "__main__":
    main()
