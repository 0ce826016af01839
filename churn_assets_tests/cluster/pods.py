"""Pods beside the release: a store of archives, and clients that try what they can reach."""

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from churn_assets_tests.cluster.kubernetes import NAME, Namespace

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
    deployment = namespace.get("deployment", NAME)
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def start(
    namespace: Namespace,
    name: str,
    command: list[str],
    labels: Mapping[str, str],
    config_map: str | None = None,
) -> None:
    """Starts a pod of the standard `restricted` and waits until it runs.

    Args:
        config_map: ConfigMap that is mounted at /data.
    """
    container: dict[str, Any] = {
        "name": "main",
        "image": image_of(namespace),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": RESTRICTED,
    }
    volumes = []
    if config_map:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data", "readOnly": True}]
        volumes.append({"name": "data", "configMap": {"name": config_map}})
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


def start_store(namespace: Namespace, archives: Mapping[str, bytes]) -> str:
    """Serves archives by HTTP from a pod; returns the address of their folder.

    The archives lie in a ConfigMap, so together they must be smaller than 1 MiB.
    """
    content = {name: base64.b64encode(data).decode() for name, data in archives.items()}
    metadata = {"name": "archives"}
    namespace.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": content}
    )
    command = ["python3", "-m", "http.server", "8000", "--directory", "/data"]
    start(namespace, "store", command, {"app": "store"}, "archives")
    return f"http://{namespace.get('pod', 'store')['status']['podIP']}:8000"


def with_wrong_golden_rows(archive: Path) -> bytes:
    """An archive whose scorers give other probabilities than its golden rows say."""
    changed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=changed, mode="w:xz") as new:
        for member in old:
            content = file.read() if (file := old.extractfile(member)) else b""
            if member.name.endswith("/golden.json"):
                golden = json.loads(content)
                golden |= {name: [0.5] * len(golden[name]) for name in ("main", "fallback")}
                content = json.dumps(golden).encode()
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return changed.getvalue()


def truncated(archive: Path) -> bytes:
    """The first half of an archive."""
    data = archive.read_bytes()
    return data[: len(data) // 2]
