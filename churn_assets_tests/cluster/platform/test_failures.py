"""What is killed in the middle of a training or a promotion is begun again, and ends well, once."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from churn_assets_tests.cluster.conftest import Target
from churn_assets_tests.cluster.kubernetes import run as run_command
from churn_assets_tests.cluster.kubernetes import wait
from churn_assets_tests.cluster.platform.installation import (
    MINUTES,
    Graph,
    GraphError,
    Installation,
)

pytestmark = pytest.mark.cluster

VALUES: dict[str, Any] = {
    "postgresql.trial.storageClassName": "none-postgresql",
    "runs.pollIntervalSeconds": 5,
    "runs.startTimeoutSeconds": 120,
    "runs.unreachableSeconds": 20,
}
PROMOTED = "promoted_model"
TRAINING = ("training_set", "churn_model", "evaluation_report", PROMOTED, "churn_bento")
KILLED = ("daemon", "code-location", "postgresql", "mlflow", "run")
BUSY = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}


@pytest.fixture(scope="module")
def settled(platform: Installation) -> Installation:
    with platform.ui() as graph:
        graph.settled()
    return platform


def started(graph: Graph, asset: str) -> str:
    """Starts a training, and waits until the step of the asset works."""
    run = graph.launch(*TRAINING)
    wait(lambda: asset in graph.steps(run), lambda: graph.steps(run), 10 * MINUTES)
    return run


def attempts(settled: Installation, run: str) -> tuple[list[dict[str, Any]], int]:
    """Waits until the run or one of its retries has succeeded and nothing is running.

    Returns:
        The run and its retries, the newest first; how often they have materialised the promotion.
    """
    found: list[dict[str, Any]] = []
    promotions: list[int] = []

    def have_succeeded() -> bool:
        try:
            with settled.ui() as graph:
                runs = graph.runs()
                root = {"key": "dagster/root_run_id", "value": run}
                found[:] = [one for one in runs if one["runId"] == run or root in one["tags"]]
                promotions[:] = [graph.materialisations(one["runId"], PROMOTED) for one in found]
        except (httpx.HTTPError, GraphError):
            return False  # the webserver still has sessions of before with PostgreSQL
        busy = {one["status"] for one in runs} & BUSY
        return not busy and found[0]["status"] == "SUCCESS"

    wait(have_succeeded, lambda: found, 15 * MINUTES)
    return found, sum(promotions)


def movements(settled: Installation) -> list[str]:
    """The entries of the audit log, after its chain was verified."""
    for command in ("verify", "list"):
        done = subprocess.run(
            [sys.executable, "-m", "churn_assets.audit", command],
            env={"PATH": "", "CHURN_HOME": str(settled.folder)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def ended_well(settled: Installation, run: str, before: list[str]) -> str:
    """Waits for the end of a training and its retries; returns what happened."""
    tried, made = attempts(settled, run)
    after = movements(settled)
    assert after[: len(before)] == before
    assert len(after) - len(before) <= 1, "a challenger is promoted once"
    assert made == 1
    seconds = tried[0]["endTime"] - tried[-1]["startTime"]
    return f"{len(tried)} attempt(s), {len(after) - len(before)} movement(s), {seconds:.0f} s"


@pytest.mark.parametrize("asset", ["churn_model", "promoted_model"])
@pytest.mark.parametrize("component", KILLED)
def test_a_killed_component(
    settled: Installation, component: str, asset: str, happenings: Callable[[str], None]
) -> None:
    before = movements(settled)
    with settled.ui() as graph:
        run = started(graph, asset)
        settled.kill(component)
    happened = ended_well(settled, run, before)
    happenings(f"{component} killed in {asset}: {happened}")


@pytest.mark.parametrize("asset", ["churn_model", "promoted_model"])
def test_a_lost_node(
    settled: Installation, target: Target, asset: str, happenings: Callable[[str], None]
) -> None:
    node, down, up = target.node
    if not node:
        pytest.skip("CHURN_CLUSTER_NODE is not set: no node may be cut off")
    before = movements(settled)
    others = {one["metadata"]["name"] for one in settled.namespace.get("nodes")["items"]} - {node}
    run_command("kubectl", "cordon", *others)
    try:
        with settled.ui() as graph:
            run = started(graph, asset)
    finally:
        run_command("kubectl", "uncordon", *others)
    [pod] = [one for one in settled.pods("run") if run in one["metadata"]["name"]]
    assert pod["spec"]["nodeName"] == node
    subprocess.run(down, shell=True, check=True)
    try:
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        state = lambda: settled.namespace.kubectl("get", "node", node, "--output", ready)  # noqa: E731
        wait(lambda: state() != "True", state)
    finally:
        subprocess.run(up, shell=True, check=True)
    happened = ended_well(settled, run, before)
    happenings(f"{node} cut off, with the run on it, in {asset}: {happened}")
