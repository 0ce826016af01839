"""The measured ways to serve the model: their commands and their workloads."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_peers.model_folder import MLFLOW, VARIABLE
from benchmarks.serving_peers.preparing import BATCH, Material, build_bento
from benchmarks.serving_peers.servers import Peer, ServerError, Workload
from churn_assets.adapters.bentos import SOURCE

ROOT = Path(__file__).parents[2]
BATCHED = f"batch of {BATCH:,}"

FASTAPI, MLFLOW_SERVE, BENTO_PANDAS, BENTO_ECHO, OURS = (
    "FastAPI", "MLflow", "BentoML, pandas", "BentoML, echo", "ours",
)  # fmt: skip
FASTAPI_ASYNC, FASTAPI_THREAD = "FastAPI, async def", "FastAPI, def"
FASTAPI_BATCH, MLFLOW_BATCH, OURS_BATCH = (
    f"{name}, {BATCHED}" for name in (FASTAPI, MLFLOW_SERVE, OURS)
)

NO_LIMIT = "1000000000/minute"
"""A rate limit that counts every request and refuses none."""


ReadProbability = Callable[[Any], float]


class Catalogue:
    """Creates the peers from one model; writes their requests into files.

    Args:
        material: The model and its rows.
        scratch: Folder for files, which exists as long as the servers run.
    """

    def __init__(self, material: Material, scratch: Path) -> None:
        self.material, self.scratch = material, scratch
        path = f"{ROOT}:{material.folder}"
        # sklearn's trees synchronise their threads, which gains nothing for a single row.
        one_thread = {"OMP_NUM_THREADS": "1"}
        self.variables = {VARIABLE: str(material.folder), "PYTHONPATH": path} | one_thread
        self.bentoml = self.variables | {"BENTOML_HOME": str(scratch / "bentoml")}

    def fastapi(self) -> Peer:
        singles, batches = self.material.bodies(), self.material.batches()
        app = "benchmarks.serving_peers.fastapi_pandas:create"
        return Peer(
            FASTAPI,
            (sys.executable, "-m", "uvicorn", "--factory", app, "--port", "PORT"),
            self.variables,
            {
                FASTAPI_ASYNC: self._workload("/predict", singles, of_one),
                FASTAPI_THREAD: self._workload("/predict/thread", singles, of_one),
                FASTAPI_BATCH: self._workload("/predict/batch", batches, first_of_list, BATCH),
            },
        )

    def mlflow(self) -> Peer:
        command = ("models", "serve", "--env-manager", "local", "-h", "127.0.0.1", "-p", "PORT")
        model = str(self.material.folder / MLFLOW)
        frames, many = self.material.frames(), self.material.frames_of_many()
        return Peer(
            MLFLOW_SERVE,
            (sys.executable, "-m", "mlflow", *command, "-m", model),
            self.variables,
            {
                MLFLOW_SERVE: self._workload("/invocations", frames, of_mlflow),
                MLFLOW_BATCH: self._workload("/invocations", many, of_mlflow, BATCH),
            },
        )

    def bento_pandas(self) -> Peer:
        workload = self._workload("/predict", self.material.bodies(), of_one)
        service = "benchmarks.serving_peers.bento_pandas:PandasService"
        return Peer(BENTO_PANDAS, bento(service), self.bentoml, {BENTO_PANDAS: workload})

    def bento_echo(self) -> Peer:
        workload = self._workload("/predict", self.material.bodies(), None)
        service = "benchmarks.serving_peers.bento_echo:EchoService"
        return Peer(BENTO_ECHO, bento(service), self.bentoml, {BENTO_ECHO: workload})

    def ours(self) -> Peer:
        """The real bento with everything on: keys, rate limit, metrics, prediction log."""
        home, keys = self.scratch / "bentoml", self.scratch / "keys.json"
        variables = {
            "BENTOML_HOME": str(home),
            "CHURN_API_KEYS_FILE": str(keys),
            "CHURN_API_RATE_LIMIT": NO_LIMIT,
            "CHURN_API_PREDICTION_LOG": str(self.scratch / "monitoring"),
        }
        headers = {"Authorization": f"Bearer {new_key(keys)}"}
        singles, batches = self.material.bodies(), self.material.batches()
        return Peer(
            OURS,
            bento(build_bento(self.material, home)),
            variables,
            {
                OURS: self._workload("/predict", singles, of_one, headers=headers),
                OURS_BATCH: self._workload(
                    "/predict/batch", batches, first_of_batch, BATCH, headers
                ),
            },
        )

    def _workload(
        self,
        path: str,
        bodies: Sequence[str],
        probability: ReadProbability | None,
        rows: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> Workload:
        file = self.scratch / f"requests-{len(list(self.scratch.glob('requests-*')))}.json"
        document = {"path": path, "headers": dict(headers or {}), "bodies": list(bodies)}
        file.write_text(json.dumps(document), encoding="utf-8")
        return Workload(file, rows, probability, float(self.material.expected[0]))


def bento(service: str) -> tuple[str, ...]:
    command = ("serve", service, "--host", "127.0.0.1", "--port", "PORT")
    return (sys.executable, "-m", "bentoml", *command)


def new_key(file: Path, days: int = 1) -> str:
    """Creates a key as a user does: writes its hash into the file and returns the key."""
    command = [
        "new",
        "--role",
        "predict",
        "--days",
        str(days),
        "--id",
        "bench",
        "--file",
        str(file),
    ]
    done = subprocess.run(  # noqa: S603  # its own command, no shell
        [sys.executable, "-m", "churn_service.access.api_keys", *command],
        cwd=SOURCE, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServerError(f"no key was created:\n{done.stderr}")
    return done.stdout.split()[0]


def of_one(response: Any) -> float:
    return float(response["churn_probability"])


def first_of_list(response: Any) -> float:
    return of_one(response[0])


def first_of_batch(response: Any) -> float:
    return of_one(response["predictions"][0])


def of_mlflow(response: Any) -> float:
    return float(response["predictions"][0][1])
