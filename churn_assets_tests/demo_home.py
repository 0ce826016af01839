"""A home that the command of the demo fills, for tests of its content."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.records import ModelRecord
from churn_assets.settings import Settings, latest_closed_month
from churn_assets_tests.defs.graph import Graph
from churn_assets_tests.documents import ROOT

LATEST = pd.Period(latest_closed_month(), freq="M")
MONTHS = [str(LATEST - back) for back in range(7, -1, -1)]
*_, BEFORE, SHOCKED, LAST = MONTHS
"""Last month before the price shock, and the two months with it."""

SETTINGS = {
    "simulated": {"customers": 6_000, "scenario": "price_shock", "scenario_month": SHOCKED},
    "first_month": MONTHS[0],
    "bootstrap_resamples": 100,
    # So few customers do not separate two models, nor a model from the baseline.
    "promotion": {"auc_margin": 0.1, "profit_margin": 0.5},
    "limits": {"min_gain_over_baseline": -0.1},
}


@dataclass
class DemoHome(Graph):
    """A graph over the home that the demo filled, with the demo's own instance."""

    dagster_home: Path

    @property
    def instance(self) -> dg.DagsterInstance:  # type: ignore[override]
        return dg.DagsterInstance.from_config(str(self.dagster_home))

    def record(self) -> ModelRecord:
        path = self.platform.home / "reports/churn_model.json"
        return ModelRecord.model_validate_json(path.read_text())


def demo_home(home: Path, **settings: object) -> DemoHome:
    return DemoHome(
        Settings(home=home, **SETTINGS | settings),  # type: ignore[arg-type]
        dagster_home=home / "dagster",
    )


def run_demo(home: Path, **settings: str) -> str:
    """Runs the demo over a home and returns its output."""
    environment = (
        os.environ
        | {"CHURN_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        | dict(_variables(SETTINGS, "CHURN_"))
        | settings
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "churn_assets.demo"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + (home / "demo.log").read_text()
    return done.stdout


def _variables(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", str(value)
