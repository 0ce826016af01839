"""BentoML with the same pandas code and its own defaults."""

import bentoml
from pydantic import BaseModel

from benchmarks.serving_peers.model_folder import read_contract
from benchmarks.serving_peers.pandas_model import PandasModel
from churn_assets.contracts.request import request_model

# BentoML reads the schema from the class below, so the contract must be known at import.
CONTRACT = read_contract()


class Customer(bentoml.IODescriptor, request_model(CONTRACT)):  # type: ignore[misc]
    """One customer, as the contract describes them."""


class Prediction(BaseModel):
    """The response of the tutorial."""

    customer_id: str
    churn_probability: float


@bentoml.service
class PandasService:
    """Predicts with the sklearn pipeline."""

    def __init__(self) -> None:
        self.model = PandasModel(CONTRACT)

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    async def predict(self, customer: Customer, /) -> Prediction:
        (probability,) = self.model.probabilities([customer])
        customer_id = getattr(customer, CONTRACT.id.name)
        return Prediction(customer_id=customer_id, churn_probability=probability)
