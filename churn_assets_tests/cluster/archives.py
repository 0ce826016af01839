"""Archives of bentos, good and bad ones, and a pod that serves them."""

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from churn_assets_tests.cluster.kubernetes import Namespace
from churn_assets_tests.cluster.pods import start

FAULTS = {
    "wrong": """
from itertools import count
from churn_service.inference.served_model import ServedModel

score_one, numbers = ServedModel.score_one, count()

def wrong(self, row):
    probability, degraded = score_one(self, row)
    if next(numbers) % 10 == 0:
        probability += 0.05 if probability < 0.5 else -0.05
    return probability, degraded

ServedModel.score_one = wrong
""",
    "errors": """
from itertools import count
from churn_service.inference.served_model import ServedModel

score_one, numbers = ServedModel.score_one, count()

def fails(self, row):
    if next(numbers) % 20 == 0:
        raise RuntimeError("one in twenty")
    return score_one(self, row)

ServedModel.score_one = fails
""",
    "slow": """
from churn_service.http.request import Request

body = Request.body

async def slow(self, *arguments):
    await asyncio.sleep(1)
    return await body(self, *arguments)

Request.body = slow
""",
    "crash": """
import os
from itertools import count
from churn_service.inference.served_model import ServedModel

score_one, numbers = ServedModel.score_one, count()

def ends(self, row):
    if next(numbers) == 100:
        os._exit(1)
    return score_one(self, row)

ServedModel.score_one = ends
""",
}
"""Code at the end of the service's module, by fault."""

DEGRADED = "degraded"


@dataclass(frozen=True)
class Store:
    """Archives that a pod of the namespace serves by HTTP."""

    url: str
    sha256: Mapping[str, str]

    def values(self, name: str) -> dict[str, object]:
        """Values of a release that fetches an archive."""
        return {
            "image.repository": "churn-runtime",
            "model.source": "archive",
            "model.archive.url": f"{self.url}/{name}",
            "model.archive.sha256": self.sha256.get(name, ""),
            "model.archive.contract": "telecom",
            "networkPolicy.modelStore": [
                {
                    "to": [{"podSelector": {"matchLabels": {"app": "store"}}}],
                    "ports": [{"port": 8000}],
                }
            ],
        }


def start_store(namespace: Namespace, archives: Mapping[str, bytes]) -> Store:
    """Serves archives from a pod, whose image is that of the release's Deployment.

    The archives lie in a ConfigMap, so together they must be smaller than 1 MiB.
    """
    content = {name: base64.b64encode(data).decode() for name, data in archives.items()}
    metadata = {"name": "archives"}
    namespace.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": content}
    )
    command = ["python3", "-m", "http.server", "8000", "--directory", "/data"]
    start(namespace, "store", command, {"app": "store"}, {"configMap": {"name": "archives"}})
    address = namespace.get("pod", "store")["status"]["podIP"]
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in archives.items()}
    return Store(f"http://{address}:8000", sums)


def truncated(archive: Path) -> bytes:
    """The first half of an archive."""
    data = archive.read_bytes()
    return data[: len(data) // 2]


def with_wrong_golden_rows(archive: Path) -> bytes:
    """An archive whose scorers give other probabilities than its golden rows say."""
    return _changed(archive, {"golden.json": _wrong("main", "fallback")})


def faulty(archive: Path, fault: str) -> bytes:
    """An archive with one of the `FAULTS`, or a main scorer that does not pass its golden rows.

    Its answers have the fault as the version of their model.
    """
    version = {"card.json": lambda text: json.dumps(json.loads(text) | {"version": fault})}
    if fault == DEGRADED:
        return _changed(archive, version | {"golden.json": _wrong("main")})
    return _changed(archive, version | {"service.py": lambda text: text + FAULTS[fault]})


def _wrong(*scorers: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        golden = json.loads(text)
        return json.dumps(golden | {name: [0.5] * len(golden[name]) for name in scorers})

    return change


def _changed(archive: Path, changes: Mapping[str, Callable[[str], str]]) -> bytes:
    """An archive in which the files of these names have another text."""
    changed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=changed, mode="w:xz") as new:
        for member in old:
            content = file.read() if (file := old.extractfile(member)) else b""
            if change := changes.get(Path(member.name).name):
                content = change(content.decode()).encode()
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return changed.getvalue()
