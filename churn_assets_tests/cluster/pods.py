"""Pods beside the release, such as clients that try what they can reach."""

from collections.abc import Mapping
from typing import Any

from churn_assets_tests.cluster.kubernetes import Namespace

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

CONNECTS = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
except OSError as error:
    print("refused:", error)
else:
    print("connected")
"""


def image_of(namespace: Namespace) -> str:
    """Image of the release, which has Python."""
    [deployment, *_] = namespace.get("deployments")["items"]
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def start(
    namespace: Namespace,
    name: str,
    command: list[str],
    labels: Mapping[str, str],
    volume: Mapping[str, Any] | None = None,
) -> None:
    """Starts a pod of the standard `restricted` and waits until it runs.

    Args:
        volume: Source of a volume that is mounted at /data, to be read.
    """
    container: dict[str, Any] = {
        "name": "main",
        "image": image_of(namespace),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": RESTRICTED,
    }
    volumes = []
    if volume:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data", "readOnly": True}]
        volumes.append({"name": "data", **volume})
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": spec,
        }
    )
    namespace.kubectl("wait", "pod", name, "--for=condition=Ready", "--timeout=60s")


def reaches(namespace: Namespace, pod: str, host: str, port: int) -> bool:
    """Whether a TCP connection from a pod is accepted within three seconds."""
    answer = namespace.kubectl("exec", pod, "--", "python3", "-c", CONNECTS, host, str(port))
    return answer.startswith("connected")
