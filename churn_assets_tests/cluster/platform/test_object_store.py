"""Lake, reports, archives and artifacts in an S3-compatible store, and no volume."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from churn_assets_tests.cluster.conftest import Target
from churn_assets_tests.cluster.kubernetes import Namespace
from churn_assets_tests.cluster.platform.installation import Installation, installed

pytestmark = pytest.mark.cluster

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
TRAINING = ("training_set", "churn_model", "evaluation_report")


@pytest.fixture(scope="module")
def platform(namespace: Namespace, target: Target) -> Iterator[Installation]:
    """An installation on the store of CHURN_CLUSTER_S3, which pods reach at AWS_ENDPOINT_URL."""
    url, endpoint = os.environ.get("CHURN_CLUSTER_S3"), os.environ.get("AWS_ENDPOINT_URL", "")
    if not url or not target.volume:
        pytest.skip("CHURN_CLUSTER_S3 or CHURN_CLUSTER_VOLUME is not set")
    store, address = {name: os.environ[name] for name in CREDENTIALS}, urlsplit(endpoint)
    with installed(
        namespace,
        target.volume,
        {
            "storage.create.enabled": False,
            "storage.url": f"{url}/{namespace.name}",
            "storage.existingSecret": "churn-store",
            "storage.env": {
                "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
            },
            "networkPolicy.extraEgress": [
                {
                    "to": [{"ipBlock": {"cidr": f"{address.hostname}/32"}}],
                    "ports": [{"port": address.port}],
                }
            ],
        },
        {"churn-store": store},
    ) as found:  # fmt: skip
        yield found


def test_the_whole_graph(platform: Installation) -> None:
    with platform.ui() as graph:
        graph.settled()
        assert {run["status"] for run in graph.runs()} == {"SUCCESS"}


def test_commits_at_once(platform: Installation) -> None:
    """`helm test` appends to one table by several writers; then two runs write at once."""
    told = platform.helm_test()
    assert "8 concurrent commits in s3://" in told
    with platform.ui() as graph:
        runs = [graph.launch(*TRAINING) for _ in range(2)]
        assert [graph.finished(run) for run in runs] == ["SUCCESS", "SUCCESS"]


def test_a_wrong_key_of_the_store_is_named(platform: Installation) -> None:
    platform.secret("churn-store", **dict.fromkeys(CREDENTIALS, "a wrong key"))
    with platform.ui() as graph:
        run = graph.launch("training_set")
        assert graph.finished(run) == "FAILURE"
        assert "InvalidAccessKeyId" in graph.failure(run)
