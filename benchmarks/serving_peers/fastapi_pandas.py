"""FastAPI with a pandas row into the pipeline; served by uvicorn with its defaults.

uvicorn --factory benchmarks.serving_peers.fastapi_pandas:create
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_peers.model_folder import read_contract
from benchmarks.serving_peers.pandas_model import PandasModel
from churn_assets.contracts.request import request_model


class Prediction(BaseModel):
    """The response of the tutorial."""

    customer_id: str
    churn_probability: float


def create() -> FastAPI:
    contract = read_contract()
    model, customer_id = PandasModel(contract), contract.id.name
    customer: Any = request_model(contract)
    app = FastAPI()

    class Batch(BaseModel):
        customers: list[customer]

    @app.post("/predict")
    async def predict(body: customer) -> Prediction:
        (probability,) = model.probabilities([body])
        return Prediction(customer_id=getattr(body, customer_id), churn_probability=probability)

    @app.post("/predict/thread")
    def predict_in_thread(body: customer) -> Prediction:
        (probability,) = model.probabilities([body])
        return Prediction(customer_id=getattr(body, customer_id), churn_probability=probability)

    @app.post("/predict/batch")
    async def predict_batch(body: Batch) -> list[Prediction]:
        """Scores all rows in one frame, as few tutorials do."""
        probabilities = model.probabilities(body.customers)
        return [
            Prediction(customer_id=getattr(one, customer_id), churn_probability=probability)
            for one, probability in zip(body.customers, probabilities, strict=True)
        ]

    return app
