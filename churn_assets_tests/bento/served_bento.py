"""The session's bento behind `bentoml serve`, with a client and the service's logs."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from churn_assets.adapters.bentos import BentoStore, BuiltBento, serving

JSON = {"Content-Type": "application/json"}

Found = TypeVar("Found")


@dataclass(frozen=True)
class ServedBento:
    """A running server.

    Attributes:
        url: Base URL of the service.
        log: File with everything that the server's processes write to stdout and stderr.
        predictions: Folder of the prediction log.
        client: HTTP client that keeps one connection to the service.
    """

    url: str
    log: Path
    predictions: Path
    client: httpx.Client

    def log_lines(self) -> list[dict[str, Any]]:
        """The complete JSON lines of the log so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = (line for line in lines if line.startswith("{") and line.endswith("}\n"))
        return [json.loads(line) for line in whole]

    def request_line(self, request_id: str) -> dict[str, Any]:
        """Waits for the request log's line of one request."""
        return eventually(
            lambda: next((x for x in self.log_lines() if x.get("request_id") == request_id), None)
        )

    def prediction_lines(self, ids: set[str]) -> dict[str, dict[str, Any]]:
        """Waits for the prediction log's lines of these predictions."""

        def found() -> dict[str, dict[str, Any]] | None:
            files = self.predictions.rglob("*.jsonl")
            lines = [line for file in files for line in file.read_text("utf-8").splitlines(True)]
            read = [json.loads(line) for line in lines if line.endswith("\n")]
            ours = {line["prediction_id"]: line for line in read if line["prediction_id"] in ids}
            return ours if len(ours) == len(ids) else None

        return eventually(found)


@contextmanager
def served_bento(
    built: BuiltBento, store: BentoStore, folder: Path, settings: Mapping[str, str] = {}
) -> Iterator[ServedBento]:
    """Serves the bento with its prediction log in `folder`."""
    logged = {"CHURN_API_PREDICTION_LOG": str(folder)}
    before = set(psutil.Process().children())
    with serving(str(built.archive), store.home, settings=logged | dict(settings)) as url:
        [process] = set(psutil.Process().children()) - before
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            yield ServedBento(url, Path(process.cwd(), "log"), folder, client)


def eventually(find: Callable[[], Found | None], seconds: float = 10.0) -> Found:
    """Calls `find` until it returns something: other processes write the logs."""
    deadline = time.monotonic() + seconds
    while (found := find()) is None:
        assert time.monotonic() < deadline, "nothing was found in time"
        time.sleep(0.02)
    return found
