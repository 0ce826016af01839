"""An installation of the platform's chart, with what it needs around it, and its UI."""

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from churn_assets_tests.cluster.kubernetes import Namespace, run, secret, wait
from churn_assets_tests.documents import ROOT

CHART = ROOT / "helm/churn-platform"
NAME = "churn-churn-platform"
"""Name of the chart's objects in the release `churn`."""

SETTINGS = {
    "simulated": {"customers": 4000},
    "training_months": 2,
    "bootstrap_resamples": 100,
    "automation": {"interval_seconds": 10},
}
"""A small graph, of the months that are in use."""

MONTHS = 3
"""Months in use: those of the training, and one whose labels are not known yet."""

MINUTES = 60.0
RESOURCE_LABEL = "churn-platform/component"
USER = "anna"


class GraphError(RuntimeError):
    """The webserver has answered with errors, for example because PostgreSQL does not answer."""


@dataclass
class Installation:
    """A release of the platform in a namespace.

    Attributes:
        folder: Folder of this machine that is the storage's volume.
        passwords: Every secret of the installation, by Secret and entry.
    """

    namespace: Namespace
    folder: Path
    passwords: dict[str, dict[str, str]] = field(default_factory=dict)

    def secret(self, name: str, **entries: str) -> None:
        """Creates a Secret, or replaces its entries."""
        self.passwords[name] = entries
        self.namespace.apply(secret(name, entries))

    def upgrade(self, values: Mapping[str, Any], *arguments: str) -> str:
        """Installs or upgrades the release with `values-test.yaml` and these values."""
        given = {"storage.create.storageClassName": "none",
                 "storage.create.volumeName": self.namespace.name, **values}  # fmt: skip
        options = [f"--set-json={name}={json.dumps(value)}" for name, value in given.items()]
        return run(
            "helm", "upgrade", "churn", str(CHART), "--namespace", self.namespace.name, "--install",
            "--values", str(CHART / "values-test.yaml"), *options, "--wait", "--timeout", "5m",
            *arguments,
        )  # fmt: skip

    def helm_test(self) -> str:
        """Runs `helm test` and returns its log."""
        return run("helm", "test", "churn", "--namespace", self.namespace.name, "--logs")

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Pods of a component, the oldest first."""
        found: list[dict[str, Any]] = self.namespace.get(
            "pods", "--selector", f"{RESOURCE_LABEL}={component}"
        )["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def kill(self, component: str) -> None:
        """Deletes the pods of a component without a grace period."""
        self.namespace.kubectl(
            "delete", "pod", "--selector", f"{RESOURCE_LABEL}={component}", "--force",
            "--grace-period=0", "--field-selector=status.phase=Running",
        )  # fmt: skip

    @contextmanager
    def port(self, service: str, port: int) -> Iterator[str]:
        """URL of a Service, by a port-forward."""
        command = ["kubectl", "--namespace", self.namespace.name, "port-forward",
                   f"service/{NAME}-{service}", f":{port}"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                assert forward.stdout
                line = forward.stdout.readline()
                yield f"http://{line.split()[2]}"
            finally:
                forward.kill()

    @contextmanager
    def ui(self) -> Iterator["Graph"]:
        """The GraphQL interface of the webserver."""
        login = USER, self.passwords["churn-ui"][USER]
        with (
            self.port("webserver", 80) as url,
            httpx.Client(base_url=url, auth=login, timeout=60) as client,
        ):
            graph = Graph(client)
            wait(lambda: "'LOADED'" in str(graph.location()), graph.location)
            yield graph

    def report(self, name: str) -> Any:
        """A document of the storage."""
        return json.loads((self.folder / "reports" / f"{name}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Graph:
    """The graph through the GraphQL interface of Dagster's webserver."""

    client: httpx.Client

    def query(self, text: str, **variables: Any) -> Any:
        document = {"query": text, "variables": variables}
        answer = self.client.post("/graphql", json=document).raise_for_status().json()
        if "errors" in answer:
            raise GraphError(answer)
        return answer["data"]

    def runs(self) -> list[dict[str, Any]]:
        """The newest runs, the newest first."""
        found: list[dict[str, Any]] = self.query(
            "{runsOrError(limit: 200) {... on Runs {results {runId status assetSelection {path} "
            "tags {key value} startTime endTime}}}}"
        )["runsOrError"]["results"]
        return found

    def location(self) -> Any:
        """The state of the code location, with the image that runs get."""
        return self.query(
            "{workspaceOrError {... on Workspace {locationEntries {loadStatus "
            "displayMetadata {key value}}}}}"
        )

    def status(self, run_id: str) -> str:
        return str(self.query(
            "query($id: ID!) {runOrError(runId: $id) {... on Run {status}}}", id=run_id
        )["runOrError"]["status"])  # fmt: skip

    def materialised(self) -> dict[str, bool]:
        """Whether each asset was ever materialised."""
        nodes = self.query(
            "{assetNodes {assetKey {path} assetMaterializations(limit: 1) {timestamp}}}"
        )["assetNodes"]
        return {node["assetKey"]["path"][0]: bool(node["assetMaterializations"]) for node in nodes}

    def failure(self, run_id: str) -> str:
        """Texts of the failures of a run."""
        events = self.query(
            "query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {events {"
            "... on RunFailureEvent {message} "
            "... on ExecutionStepFailureEvent {message error {message}}}}}}", id=run_id
        )["logsForRun"]["events"]  # fmt: skip
        return "\n".join(json.dumps(event) for event in events if event)

    def steps(self, run_id: str) -> set[str]:
        """Steps of a run that have started."""
        events = self.query(
            "query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {events {"
            "... on ExecutionStepStartEvent {stepKey}}}}}", id=run_id
        )["logsForRun"]["events"]  # fmt: skip
        return {event["stepKey"] for event in events if event}

    def materialisations(self, run_id: str, asset: str) -> int:
        """How often a run has materialised an asset."""
        events = self.query(
            "query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {events {"
            "... on MaterializationEvent {assetKey {path}}}}}}", id=run_id
        )["logsForRun"]["events"]  # fmt: skip
        return sum(event == {"assetKey": {"path": [asset]}} for event in events)

    def launch(self, *assets: str, tags: Mapping[str, str] | None = None) -> str:
        """Starts a run of assets, as the button of the UI does, and returns its id."""
        parameters = {
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": "churn",
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [asset]} for asset in assets],
            },
            "mode": "default",
            "runConfigData": "{}",
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]
            },
        }
        answer = self.query(
            "mutation($p: ExecutionParams!) {launchPipelineExecution(executionParams: $p) "
            "{__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}",
            p=parameters,
        )["launchPipelineExecution"]
        assert "run" in answer, answer
        return str(answer["run"]["runId"])

    def finished(self, run_id: str, seconds: float = 10 * MINUTES) -> str:
        """Waits for the end of a run and returns its status."""
        ends = {"SUCCESS", "FAILURE", "CANCELED"}
        wait(lambda: self.status(run_id) in ends, lambda: self.status(run_id), seconds)
        return self.status(run_id)

    def settled(self, seconds: float = 20 * MINUTES) -> None:
        """Waits until every asset but the reasons of a retraining exists and nothing is running."""

        def is_settled() -> bool:
            missing = {name for name, found in self.materialised().items() if not found}
            busy = {run["status"] for run in self.runs()} & {"QUEUED", "STARTING", "STARTED"}
            return missing <= {"retraining_reasons"} and not busy

        quiet_since = [time.monotonic()]

        def is_quiet() -> bool:
            # The automation may be about to request what has just become possible.
            if not is_settled():
                quiet_since[0] = time.monotonic()
            return time.monotonic() - quiet_since[0] > 40

        wait(is_quiet, lambda: (self.materialised(), self.runs()[:5]), seconds)


@contextmanager
def installed(
    namespace: Namespace,
    volume: str,
    values: Mapping[str, Any],
    secrets_besides: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Installation]:
    """Installs the platform in a namespace, on a folder that all nodes share.

    Args:
        secrets_besides: Entries of further Secrets, by name.
    """
    folder = Path(volume, namespace.name)
    database = Path(volume, f"{namespace.name}-postgresql")
    volumes = {namespace.name: (folder, "ReadWriteMany", "none"),
               database.name: (database, "ReadWriteOnce", "none-postgresql")}  # fmt: skip
    for name, (path, mode, storage_class) in volumes.items():
        path.mkdir()
        path.chmod(0o777)
        namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "accessModes": [mode],
                    "capacity": {"storage": "5Gi"},
                    "storageClassName": storage_class,
                    "hostPath": {"path": str(path), "type": "Directory"},
                },
            }
        )
    try:
        installation = Installation(namespace, folder)
        installation.secret(
            "churn-postgresql", **{"username": "churn_a", "password": password(),
                                   "postgres-password": password()}
        )  # fmt: skip
        installation.secret(
            "churn-mlflow", **{"username": "platform-a", "password": password(),
                               "flask-secret-key": password()}
        )  # fmt: skip
        installation.secret("churn-ui", **{USER: password()})
        for name, entries in (secrets_besides or {}).items():
            installation.secret(name, **entries)
        installation.upgrade({"settings": SETTINGS} | dict(values))
        yield installation
    finally:
        run("kubectl", "delete", "persistentvolume", *volumes, "--wait=false")


def password() -> str:
    """Returns a new password."""
    return secrets.token_hex(16)


def decoded(document: Mapping[str, Any]) -> dict[str, str]:
    """Returns the entries of a Secret."""
    return {name: base64.b64decode(text).decode() for name, text in document["data"].items()}
