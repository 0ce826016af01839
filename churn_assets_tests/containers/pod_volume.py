"""The volume of a pod, with the files and locks of the service's own writer, and a store."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from churn_service.observability.last_prediction import SUFFIX, LastPrediction
from churn_service.observability.line_files import LineFiles
from prediction_log_shipper.settings import Settings, load_settings
from prediction_log_shipper.shipper import Shipper
from prediction_log_shipper.store import Store
from prediction_log_shipper.volume import RUNNING


class Writer:
    """A process of the service, as its log's files show it."""

    def __init__(self, folder: Path, prefix: str, *, file_bytes: int = 10**9) -> None:
        self.files = LineFiles(folder, file_bytes, 10_000, 0.0)
        path = self.files.process_path
        self.last = LastPrediction(path.with_name(path.name + SUFFIX))
        self.prefix, self.number = prefix, 0

    def write(self, count: int = 1, *, lost: int = 0) -> None:
        """Writes lines; `lost` more are predicted, and the process is killed before it writes."""
        for _ in range(count):
            line = {"prediction_id": self.next_id(), "text": "x" * 20}
            assert self.files.append([json.dumps(line).encode() + b"\n"]) == 0
        for _ in range(lost):
            self.next_id()
        self.last.open()

    def next_id(self) -> str:
        found = f"{self.prefix}-{self.number:08x}"
        self.last.put(found, 1_772_366_400.25)
        self.number += 1
        return found

    def end(self) -> None:
        """Releases the locks, as the kernel does at any end of a process."""
        self.files._unlock()
        self.last.close()


class PodVolume:
    """A pod of the service with its volume, and the folder of its store."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.log, self.store, self.info = folder / "log", folder / "store", folder / "info"
        self.info.mkdir(parents=True)
        self.log.mkdir()
        (self.info / "pod").write_text("churn-abc-1")
        (self.info / "release").write_text("churn")
        self.variables = {
            "CHURN_SHIP_FOLDER": str(self.log),
            "CHURN_SHIP_URL": self.store.as_uri(),
            "CHURN_SHIP_POD_INFO": str(self.info),
            "CHURN_SHIP_INTERVAL": "0.1",
            **{f"CHURN_SHIP_{name.upper()}": str(value) for name, value in settings.items()},
        }

    @property
    def settings(self) -> Settings:
        return load_settings(self.variables)

    def writer(self, prefix: str = "a" * 16, contract: str = "telecom", **options: Any) -> Writer:
        return Writer(self.log / contract, prefix, **options)

    def shipper(self) -> Shipper:
        """A shipper that has just started."""
        return Shipper(self.settings, Store(self.settings.url))

    def waiting(self) -> list[str]:
        """Names of the files that are on the volume."""
        return sorted(path.name for path in self.log.glob("*/*"))

    def stored(self) -> list[Path]:
        """Files in the store, without the last predictions of processes that run."""
        files = [path for path in self.store.rglob("*") if path.is_file()]
        return sorted(path for path in files if not path.name.endswith(RUNNING))

    def stored_ids(self) -> Counter[str]:
        """Prediction ids of the lines in the store, and how often each is there."""
        files = self.store.rglob("*.jsonl")
        lines = [line for path in files for line in path.read_bytes().splitlines()]
        return Counter(json.loads(line)["prediction_id"] for line in lines)

    def counts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.log / "shipper.json").read_text())
        return found


def environment(variables: dict[str, str], root: Path) -> dict[str, str]:
    """Environment of the command in a process of its own."""
    return os.environ | variables | {"PYTHONPATH": str(root / "containers")}
