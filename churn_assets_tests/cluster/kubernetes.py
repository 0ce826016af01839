"""kubectl and helm on the cluster that KUBECONFIG names, in one namespace."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from churn_assets_tests.documents import ROOT

CHART = ROOT / "helm/churn-service"
VALUES = CHART / "values-test.yaml"
RELEASE = "churn"
NAME = "churn-churn-service"
"""Name of the chart's objects in the release."""

PODS = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=service"
PATIENCE = 180
"""Seconds to wait for a state of the cluster."""


class CommandError(RuntimeError):
    """A command has failed; the message ends with its output."""


@dataclass(frozen=True)
class Namespace:
    """One namespace of the cluster, with at most one release of the chart."""

    name: str

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return run("kubectl", "--namespace", self.name, *arguments, text=text)

    def apply(self, document: Mapping[str, Any]) -> None:
        # On the server's side: else the whole document becomes an annotation, of 256 KiB at most.
        self.kubectl("apply", "--server-side", "--filename", "-", text=json.dumps(document))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def pods(self) -> list[dict[str, Any]]:
        """The release's pods that are not being deleted."""
        found = self.get("pods", "--selector", PODS)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods() if is_ready(pod)]

    def helm(self, verb: str, *arguments: str) -> str:
        return run("helm", verb, RELEASE, "--namespace", self.name, *arguments)

    def upgrade(self, values: Mapping[str, Any], *arguments: str) -> str:
        """Installs or upgrades the release with the values of `values-test.yaml` and these."""
        return run(*self.upgrade_command(values, *arguments))

    def upgrade_command(self, values: Mapping[str, Any], *arguments: str) -> list[str]:
        changed = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
        return ["helm", "upgrade", RELEASE, str(CHART), "--namespace", self.name, "--install",
                "--values", str(VALUES), *changed, "--wait", "--timeout", f"{PATIENCE}s",
                *arguments]  # fmt: skip

    def settle(self, replicas: int) -> None:
        """Waits until exactly so many pods exist and are ready, and no pod is ending."""

        def is_settled() -> bool:
            pods = self.get("pods", "--selector", PODS)["items"]
            return len(pods) == replicas and len(self.ready_pods()) == replicas

        wait(is_settled, lambda: self.kubectl("get", "pods", "--output", "wide"))

    def drain(self, replicas: int) -> None:
        """Drains a node of the release's pods and waits until they run elsewhere."""
        node = self.pods()[0]["spec"]["nodeName"]
        options = ["--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector={PODS}"]
        try:
            run("kubectl", "drain", node, *options, "--timeout=180s")
            self.settle(replicas)
        finally:
            run("kubectl", "uncordon", node)

    def evict(self, pod: str) -> None:
        """Evicts a pod by the API, as a drain does."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.name},
        }
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        run("kubectl", "create", "--raw", path, "--filename", "-", text=json.dumps(eviction))


def is_ready(pod: Mapping[str, Any]) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", ())
    )


def run(*command: str, text: str | None = None) -> str:
    """Runs a command and returns its output.

    Raises:
        CommandError: It has failed.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if done.returncode:
        raise CommandError(f"{' '.join(command[:6])} ...: {done.stderr or done.stdout}")
    return done.stdout


def wait(
    until: Callable[[], object], what: Callable[[], object], seconds: float = PATIENCE
) -> None:
    """Waits until a condition holds; the error after the deadline shows `what`."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


def secret(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """A Secret's document."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": files}
