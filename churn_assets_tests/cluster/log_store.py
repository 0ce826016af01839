"""The store of shipped prediction logs: a volume that all nodes have."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from churn_assets_tests.cluster.kubernetes import Namespace, run, secret
from churn_assets_tests.cluster.pods import start

CLAIM, READER, ID_KEY = "predictions", "log-reader", "churn-id-key"
FILE_SECONDS, INTERVAL = 5, 1
KEY = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class LogStore:
    """A store in a namespace, with a pod that reads it and the key of the pseudonyms."""

    namespace: Namespace

    @property
    def shipping(self) -> dict[str, object]:
        """Values of a release that ships to the store."""
        return {
            "predictionLog.shipping.enabled": True,
            "predictionLog.shipping.url": f"file:///predictions/{self.namespace.name}",
            "predictionLog.shipping.existingClaim": CLAIM,
        }

    @property
    def values(self) -> dict[str, object]:
        """Values of a release that ships every file within a few seconds."""
        return self.shipping | {
            "idKey.existingSecret": ID_KEY,
            "predictionLog.fileSeconds": FILE_SECONDS,
            "predictionLog.shipping.intervalSeconds": INTERVAL,
        }

    def download(self, folder: Path) -> Path:
        """Copies the store to a folder that does not exist yet, and returns it."""
        source = f"{READER}:/data/{self.namespace.name}"
        self.namespace.kubectl("cp", "--retries=3", source, str(folder))
        return folder


@contextmanager
def log_store(namespace: Namespace, folder: str) -> Iterator[LogStore]:
    """Creates a store on a folder of the nodes; its image is that of the release's Deployment."""
    volume = f"churn-{namespace.name}"
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": volume}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "capacity": {"storage": "1Gi"},
                "hostPath": {"path": folder, "type": "Directory"},
            },
        }
    )
    try:
        namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": CLAIM},
                "spec": spec | {"resources": {"requests": {"storage": "1Gi"}}},
            }
        )
        namespace.apply(secret(ID_KEY, {"id.key": KEY}))
        claim = {"persistentVolumeClaim": {"claimName": CLAIM}}
        start(namespace, READER, ["sleep", "infinity"], {"app": READER}, claim)
        yield LogStore(namespace)
    finally:
        run("kubectl", "delete", "persistentvolume", volume, "--wait=false")
