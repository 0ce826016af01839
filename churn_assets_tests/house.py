"""A home that the demo's own command filled, for the tests of what it leaves behind."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from churn_assets.adapters.records import ModelRecord
from churn_assets.settings import Settings
from churn_assets_tests.defs.graph import Graph
from churn_assets_tests.documents import ROOT

OPERATOR = {"customers": 6_000}


@dataclass
class House(Graph):
    """A graph over the home that the demo filled, with the demo's own instance."""

    dagster_home: Path

    @property
    def instance(self) -> dg.DagsterInstance:  # type: ignore[override]
        return dg.DagsterInstance.from_config(str(self.dagster_home))

    def record(self) -> ModelRecord:
        path = self.platform.home / "reports/churn_model.json"
        return ModelRecord.model_validate_json(path.read_text())


def house(home: Path, **settings: object) -> House:
    return House(
        Settings(home=home, simulated=OPERATOR, bootstrap_resamples=100, **settings),  # type: ignore[arg-type]
        dagster_home=home / "dagster",
    )


def demo(home: Path, **settings: str) -> str:
    environment = (
        os.environ
        | {
            "CHURN_HOME": str(home),
            "DAGSTER_HOME": str(home / "dagster"),
            "CHURN_SIMULATED__CUSTOMERS": str(OPERATOR["customers"]),
            "CHURN_BOOTSTRAP_RESAMPLES": "100",
        }
        | settings
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "churn_assets.demo"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + (home / "demo.log").read_text()
    return done.stdout
