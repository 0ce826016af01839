"""The folder in which `preparing.py` leaves the trained model, as the peers' processes read it.

Free of pandas, for the peer that answers a constant has none either.
"""

import importlib
import os
from pathlib import Path

from churn_assets.contracts.contract import Contract

VARIABLE = "SERVING_PEERS_FOLDER"
"""Names the folder: servers are started by commands that take no arguments of ours."""

CONTRACT = "contract.json"
DERIVED = "derived"
PIPELINE = "pipeline.joblib"
MLFLOW = "mlflow"


def folder() -> Path:
    return Path(os.environ[VARIABLE])


def read_contract() -> Contract:
    """The contract with its derived features; their module is on the servers' PYTHONPATH."""
    text = (folder() / CONTRACT).read_text(encoding="utf-8")
    return Contract.model_validate_json(text).with_functions(importlib.import_module(DERIVED))
