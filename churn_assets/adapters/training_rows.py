"""The rows that a registered model was trained, calibrated and tested on."""

import pandas as pd

from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import typed

TABLE = "training_set"


def training_set_of(model: ModelRecord, lake: Lake, contract: Contract) -> pd.DataFrame:
    """Reads the version of the training set that a model was made from, in the contract's types.

    A later version may have other test rows, on which the model was trained.
    """
    rows = lake.read(TABLE, version=model.table_versions[TABLE])
    return typed(rows, contract)
