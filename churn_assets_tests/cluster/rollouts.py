"""Argo Rollouts' objects of a release, and the values with which the tests use them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from churn_assets_tests.cluster.caller import Traffic
from churn_assets_tests.cluster.conftest import REPLICAS, Release
from churn_assets_tests.cluster.kubernetes import NAME, Namespace, run, wait

Table = Callable[[str, Traffic], None]

WEIGHTS = (5, 25, 50, 100)

STEPS = [{"weight": weight, "pauseSeconds": None} for weight in WEIGHTS]
CANARY: dict[str, object] = {
    "strategy.type": "canary",
    "strategy.canary.trafficRouting.provider": "traefik",
    "strategy.canary.steps": STEPS,
    "strategy.scaleDownDelaySeconds": 10,
    "strategy.abortScaleDownDelaySeconds": 10,
}


BOTH = {"strategy.keepDeployment": True}


def version(name: str) -> dict[str, object]:
    """A pod template of another hash, with the same model."""
    return {"podAnnotations": {"version": name}}


def rollouts(namespace: Namespace, verb: str, *options: str) -> None:
    run("kubectl-argo-rollouts", "--namespace", namespace.name, verb, NAME, *options)


def status(namespace: Namespace) -> dict[str, Any]:
    """Status of the Rollout; that of an older generation counts as none."""
    rollout = namespace.get("rollout", NAME)
    found: dict[str, Any] = rollout.get("status", {})
    seen = str(rollout["metadata"]["generation"]) == found.get("observedGeneration")
    return found if seen else {}


def wait_phase(namespace: Namespace, phase: str, step: int | None = None) -> None:
    """Waits for a phase of the Rollout, and for the index of a step."""

    def reached() -> bool:
        now = status(namespace)
        return now.get("phase") == phase and step in (None, now.get("currentStepIndex"))

    wait(reached, lambda: (phase, step, status(namespace)))


def pods_of(namespace: Namespace, template_hash: str) -> list[str]:
    label = "rollouts-pod-template-hash"
    pods = namespace.pods()
    return [
        p["metadata"]["name"] for p in pods if p["metadata"]["labels"].get(label) == template_hash
    ]


@contextmanager
def nothing_lost(release: Release, table: Table, what: str) -> Iterator[None]:
    with release.caller.calling() as traffic:
        yield
    table(what, traffic)
    assert not traffic.lost, traffic.lost
    assert not traffic.wrong


def to_rollout(release: Release, values: Mapping[str, object]) -> None:
    """Changes a release with a Deployment to one with a Rollout, by the two upgrades."""
    release.namespace.upgrade({**values, **BOTH})
    wait_phase(release.namespace, "Healthy")
    release.namespace.settle(2 * REPLICAS)
    release.namespace.upgrade(values)
    release.namespace.settle(REPLICAS)
