"""Processes with metrics of their own, and what Prometheus scrapes from all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from churn_assets.contracts.card import Estimate, ModelCard, ScoreDistribution

ROOT = Path(__file__).parents[2]

PREDICT, PREDICT_BATCH = "/predict", "/predict/batch"

CARD = ModelCard(
    name="churn_telecom",
    version="7",
    chosen="boosting",
    contract_name="telecom",
    contract_version="1.2.0",
    contract_fingerprint="0123456789ab",
    threshold=0.4,
    built_at=datetime(2026, 7, 1, tzinfo=UTC),
    mlflow_run_id="run",
    dagster_run_id="",
    table_versions={},
    test_months=("2026-05",),
    test_rows=100,
    metrics={"accuracy": Estimate(value=0.875)},
    scores=ScoreDistribution(edges=(0.1, 0.2, 0.4), shares=(0.4, 0.3, 0.2, 0.1)),
)

WORKER = """
import asyncio, json, sys
import numpy as np
from churn_assets.contracts.card import ModelCard
from churn_service.observability.metrics import Metrics

card = ModelCard.model_validate_json(sys.argv[1])
assert "prometheus_client" not in sys.modules, "imported before PROMETHEUS_MULTIPROC_DIR is read"
metrics = Metrics(card)

def call(name, args, options):
    if name == "predicted_batch":
        endpoint, probabilities = args
        risks = [card.risk_category(p) for p in probabilities]
        return metrics.predicted_batch(endpoint, np.array(probabilities), risks, **options)
    if name == "predicted":
        risk = card.risk_category(args[1])
        return metrics.predicted(*args, risk, risk == "high", **options)
    return getattr(metrics, name)(*args, **options)

async def serve():
    loop = asyncio.get_running_loop()
    print(json.dumps(None), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        results = [call(*one) for one in json.loads(line)]
        print(json.dumps(results[-1]), flush=True)

asyncio.run(serve())
"""


INHERIT = """
import os
from pathlib import Path
for file in list(Path().glob("*.db")):
    file.rename(file.name.rpartition("_")[0] + f"_{os.getpid()}.db")
"""
"""Renames the files of a dead process to those of this process."""


class MetricsProcess:
    """A process with metrics of its own, like each worker that BentoML starts."""

    def __init__(self, folder: Path, card: ModelCard = CARD, before: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", before + WORKER, card.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ
            | {
                "PROMETHEUS_MULTIPROC_DIR": str(folder),
                "PYTHONPATH": os.pathsep.join((str(ROOT / "bento"), str(ROOT))),
            },
        )
        self._result()

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Calls a method of the process's `Metrics` and returns its result."""
        return self.calls((name, args, options))

    def calls(self, *calls: tuple[str, tuple[Any, ...], dict[str, Any]]) -> Any:
        """Makes calls in a row, during which the event loop runs nothing else."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(calls) + "\n")
        self.process.stdin.flush()
        return self._result()

    def predict(self, *probabilities: float, seconds: float = 0.0002, **options: Any) -> None:
        options = {"degraded": False, "seconds": seconds, **options}
        self.calls(*(("predicted", (PREDICT, p), options) for p in probabilities))

    def predict_batch(self, probabilities: list[float], **options: Any) -> None:
        options = {"degraded": False, "seconds": 0.01, "unknown": {}, **options}
        self.call("predicted_batch", PREDICT_BATCH, probabilities, **options)

    def _result(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait()}"
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with self.process.stdin, self.process.stdout:
            self.process.kill()
        self.process.wait()


@contextmanager
def metrics_processes(
    folder: Path, number: int, card: ModelCard = CARD
) -> Iterator[list[MetricsProcess]]:
    """Starts processes that share the folder of their metrics."""
    started: list[MetricsProcess] = []
    try:
        while len(started) < number:
            started.append(MetricsProcess(folder, card))
        yield started
    finally:
        for process in started:
            process.close()


def collected(folder: Path) -> str:
    """The metrics text that BentoML generates from the files of all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return generate_latest(registry).decode()


def scrape(folder: Path, process: MetricsProcess) -> str:
    """The response to Prometheus when its request reaches this process."""
    process.call("before_scrape")
    return str(process.call("render", collected(folder)))


Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(text: str) -> Values:
    """Every sample of a metrics text, by its name and labels."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"the text has {key} twice"
            found[key] = sample.value
    return found


def value(text: Values, name: str, /, **labels: str) -> float:
    return text[name, frozenset(labels.items())]
