"""What shipping the prediction log costs a pod of the chart, in requests a second.

    python -m benchmarks.cluster.shipping [--seconds 15] [--rounds 6]

Needs the environment of `make test-cluster`, see docs/deployment.md. Two pods of one node take
turns; they differ only in the sidecar, which looks for files at the chart's own interval. A file
has 8 MiB, which some seconds of load write. See `benchmarks/README.md`.
"""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cluster.pod import Target, measure, release, values_of, write_requests
from benchmarks.serving_peers.catalogue import new_key
from churn_assets_tests.cluster.kubernetes import Namespace
from churn_assets_tests.cluster.log_store import log_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    with TemporaryDirectory(prefix="churn-shipping-") as folder:
        keys = Path(folder, "keys.json")
        files = write_requests(Path(folder), new_key(keys))
        with (
            release(keys) as (other, url),
            release(keys) as (namespace, shipping_url),
            log_store(namespace, os.environ["CHURN_CLUSTER_VOLUME"]) as store,
        ):
            # On one node: requests to another one take another way.
            here = {"nodeSelector": {"kubernetes.io/hostname": node_of(other)}}
            namespace.upgrade(values_of(keys) | store.shipping | here)
            namespace.settle(1)
            targets = Target("shipping", shipping_url, *files), Target("alone", url, *files)
            speed = measure(targets, options.rounds, options.seconds)
    print(f"\n{speed.T.to_string(header=False)}")


def node_of(namespace: Namespace) -> str:
    """Name of the node of the release's only pod."""
    [pod] = namespace.pods()
    return str(pod["spec"]["nodeName"])


if __name__ == "__main__":
    main()
