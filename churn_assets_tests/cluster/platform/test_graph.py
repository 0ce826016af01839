"""The daemon materialises the whole graph in pods, with the results of one machine."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from churn_assets.adapters.lake import Lake
from churn_assets_tests.cluster.kubernetes import CommandError, wait
from churn_assets_tests.cluster.platform.installation import (
    MINUTES,
    MONTHS,
    NAME,
    SETTINGS,
    Installation,
)
from churn_assets_tests.documents import ROOT

pytestmark = pytest.mark.cluster

VALUES: dict[str, Any] = {}
LITTLE = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "150Mi"}}
ENOUGH = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
STEP_PODS = SETTINGS | {"executor": "k8s", "step_resources": {"churn_model": ENOUGH}}
TABLES = ("validated_features", "training_set", "customer_scores")


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Home of the same graph on this machine, materialised by its own daemon."""
    home = tmp_path_factory.mktemp("home")
    variables = {"CHURN_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    for name, value in SETTINGS.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, inner in parts:
            variables["__".join(filter(None, (f"CHURN_{name}", part))).upper()] = str(inner)
    others = {name: text for name, text in os.environ.items() if not name.startswith("CHURN_")}
    environment = others | variables | {"BENTOML_HOME": str(home / "bentoml")}
    make_home = [sys.executable, "-m", "churn_assets.home"]
    subprocess.run(make_home, cwd=ROOT, env=environment, check=True)
    command = [sys.executable, "-m", "churn_assets.daemon", "--workspace", "workspace.yaml"]
    with (home / "daemon.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait(lambda: is_complete(home), lambda: log.name, 15 * MINUTES)
            yield home
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def is_complete(home: Path) -> bool:
    scored = len(Lake(str(home / "lake")).months("customer_scores")) == MONTHS
    return scored and (home / "reports/churn_bento.json").is_file()


def results(home: Path) -> dict[str, Any]:
    """What the graph has computed, without ids and times."""
    lake = Lake(str(home / "lake"))
    report = json.loads((home / "reports/evaluation_report.json").read_text(encoding="utf-8"))
    return {"report": _timeless(report)} | {name: _rows(lake.read(name)) for name in TABLES}


def _timeless(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _timeless(value)
            for key, value in node.items()
            if not re.search("_at$|run_id|table_versions|version$", key)
        }
    return [_timeless(value) for value in node] if isinstance(node, list) else node


def _rows(frame: pd.DataFrame) -> str:
    kept = frame.drop(columns=[name for name in frame if re.search("_at$|run_id", name)])
    return kept.sort_values(list(kept)).to_csv(index=False, float_format="%.17g")


def test_the_daemon_materialises_every_asset_a_pod_a_run(platform: Installation) -> None:
    with platform.ui() as graph:
        graph.settled()
        succeeded = [run["runId"] for run in graph.runs() if run["status"] == "SUCCESS"]
        assert {run["status"] for run in graph.runs()} == {"SUCCESS"}
    jobs = {job["metadata"]["name"] for job in platform.namespace.get("jobs")["items"]}
    assert {f"dagster-run-{run}" for run in succeeded} <= jobs


def test_the_results_are_those_of_one_machine(platform: Installation, one_machine: Path) -> None:
    assert results(platform.folder) == results(one_machine)


def test_a_pod_a_step_gives_the_same_results(platform: Installation, one_machine: Path) -> None:
    platform.upgrade({"settings": STEP_PODS})
    with platform.ui() as graph:
        assets = ["training_set", "churn_model", "evaluation_report"]
        run = graph.launch(*assets)
        assert graph.finished(run) == "SUCCESS", graph.failure(run)
    steps = [
        job for job in platform.namespace.get("jobs")["items"]
        if job["metadata"]["labels"].get("dagster/run-id") == run
        and "dagster/op" in job["metadata"]["labels"]
    ]  # fmt: skip
    assert {job["metadata"]["labels"]["dagster/op"] for job in steps} == set(assets)
    limits = {
        job["metadata"]["labels"]["dagster/op"]:
            job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for job in steps
    }  # fmt: skip
    assert limits == dict.fromkeys(assets, "3Gi") | {"churn_model": "2Gi"}
    assert results(platform.folder) == results(one_machine)


def test_a_step_without_enough_memory_says_so(platform: Installation) -> None:
    platform.upgrade({"settings": STEP_PODS | {"step_resources": {"churn_model": LITTLE}}})
    with platform.ui() as graph:
        run = graph.launch("churn_model")
        assert graph.finished(run) == "FAILURE"
        told = graph.failure(run)
    assert "OOMKilled: more memory than 150Mi" in told
    assert "raise settings.step_resources.churn_model.limits.memory" in told


def test_a_run_without_enough_memory_says_so(platform: Installation) -> None:
    platform.upgrade(
        {
            "settings": SETTINGS,
            "runs.resources": LITTLE,
            "runs.retries": 0,
            "runs.startTimeoutSeconds": 30,
        }
    )
    with platform.ui() as graph:
        run = graph.launch("training_set")
        assert graph.finished(run) == "FAILURE"
        told = graph.failure(run)
    assert "OOMKilled: more memory than 150Mi; raise runs.resources.limits.memory" in told


def test_an_image_that_cannot_be_pulled_is_named(platform: Installation) -> None:
    platform.upgrade({"settings": SETTINGS, "runs.startTimeoutSeconds": 30, "runs.retries": 0})
    image = "localhost/churn-platform:absent"
    location = f"deployment/{NAME}-code"
    platform.namespace.kubectl("set", "env", location, f"DAGSTER_CURRENT_IMAGE={image}")
    with platform.ui() as graph:
        wait(lambda: image in str(graph.location()), graph.location)
        run = graph.launch("training_set")
        assert graph.finished(run) == "FAILURE"
        assert image in graph.failure(run)


def test_a_quota_that_refuses_a_pod_is_named(platform: Installation) -> None:
    platform.upgrade({"settings": SETTINGS, "runs.startTimeoutSeconds": 30, "runs.retries": 0})
    used = len(platform.namespace.get("pods", "--field-selector=status.phase=Running")["items"])
    platform.namespace.kubectl("create", "quota", "pods", f"--hard=pods={used}")
    try:
        with platform.ui() as graph:
            run = graph.launch("training_set")
            assert graph.finished(run) == "FAILURE"
            assert "exceeded quota: pods" in graph.failure(run)
    finally:
        platform.namespace.kubectl("delete", "quota", "pods")


def test_a_contract_that_does_not_load_stops_nothing(platform: Installation) -> None:
    platform.namespace.kubectl("delete", "deployment", f"{NAME}-code")
    platform.upgrade({"settings": SETTINGS})
    contract = {"name": "acme", "file": "class Acme(CustomerContract):\n    pass\n"}
    with pytest.raises(CommandError):
        platform.upgrade({"settings": SETTINGS, "contract": contract}, "--timeout", "150s")
    [*_, new] = platform.pods("code-location")
    log = platform.namespace.kubectl("logs", new["metadata"]["name"], "--tail=50")
    assert "name 'CustomerContract' is not defined" in log
    with platform.ui() as graph:
        run = graph.launch("training_set")
        assert graph.finished(run) == "SUCCESS", graph.failure(run)
