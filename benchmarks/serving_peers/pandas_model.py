"""Scoring of a pandas frame by the sklearn pipeline, as in the tutorials of all servers."""

from collections.abc import Sequence

import joblib  # type: ignore[import-untyped]
import pandas as pd
from pydantic import BaseModel

from benchmarks.serving_peers.model_folder import PIPELINE, folder
from churn_assets.contracts.contract import Contract
from churn_assets.core.data.features import derive_features, model_frame


class PandasModel:
    """The calibrated pipeline of the training, from a joblib file as in tutorials.

    `preparing.py` has just written the file, so it can be trusted. skops, which the project uses,
    would take longer to load, and the start of the peers is measured.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.pipeline = joblib.load(folder() / PIPELINE)

    def probabilities(self, customers: Sequence[BaseModel]) -> list[float]:
        frame = pd.DataFrame([customer.model_dump() for customer in customers])
        inputs = model_frame(derive_features(frame, self.contract), self.contract)
        probabilities: list[float] = self.pipeline.predict_proba(inputs)[:, 1].tolist()
        return probabilities
