"""The folder with the trained model, which `preparing.py` writes and the peers' processes read.

This module does not import pandas, because the peer that returns a constant does not either.
"""

import importlib
import os
from pathlib import Path

from churn_assets.contracts.contract import Contract

VARIABLE = "SERVING_PEERS_FOLDER"
"""Variable with the folder: the commands that start the servers take no such argument."""

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
