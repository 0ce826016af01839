"""BentoML that parses a customer and returns a constant: the ceiling of `@bentoml.api`.

It is tuned like the service: no access log, the route excluded from tracing, `async def`, and
imported objects frozen for the garbage collector.
"""

import gc

import bentoml
from pydantic import BaseModel

from benchmarks.serving_peers.model_folder import read_contract
from churn_assets.contracts.request import request_model

# BentoML reads the schema from the class below, so the contract must be known at import.
CONTRACT = read_contract()


class Customer(bentoml.IODescriptor, request_model(CONTRACT)):  # type: ignore[misc]
    """One customer, as the contract describes them."""


class Prediction(BaseModel):
    """The fields of the service's response."""

    customer_id: str
    churn_probability: float
    will_churn: bool
    risk_category: str
    model_version: str
    prediction_id: str
    degraded: bool


@bentoml.service(
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": "predict"},
)
class EchoService:
    """Returns the same prediction for every customer."""

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    async def predict(self, customer: Customer, /) -> Prediction:
        return CONSTANT

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def freeze(self) -> None:
        gc.collect()
        gc.freeze()


CONSTANT = Prediction(
    customer_id="C-1",
    churn_probability=0.25,
    will_churn=True,
    risk_category="high",
    model_version="1",
    prediction_id="0" * 32,
    degraded=False,
)
