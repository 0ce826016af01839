"""The churn service: `POST /predict` says how likely one customer is to leave.

It runs inside a bento, beside the contract it was built for (`contract.json`), the contract's
derived features (`derived.py`) and the modules of `churn_assets` that it imports; see
`churn_assets/adapters/bentos.py`. Neither pandas nor sklearn is loaded.
"""

from pathlib import Path

import bentoml
import derived
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.scorer import Scorer


class Arguments(BaseModel):
    """What the bento was built with; BentoML keeps it inside the bento."""

    model_tag: str
    """Exact tag of the model. A `latest` would be looked up again at every start."""


# BentoML reads the schemas off the class below, so the contract must be known at import.
ARGUMENTS = bentoml.use_arguments(Arguments)
CONTRACT = Contract.model_validate_json(
    Path(__file__).with_name("contract.json").read_text(encoding="utf-8")
).with_functions(derived)
BREAK_EVEN = CONTRACT.economics.break_even_probability


class Customer(bentoml.IODescriptor, request_model(CONTRACT)):
    """One customer, as the contract describes them."""


class Prediction(bentoml.IODescriptor):
    """What the model says of one customer."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer_id": "C-1",
                "churn_probability": 0.27,
                "will_churn": BREAK_EVEN <= 0.27,
                "model_version": "1",
            }
        }
    )

    customer_id: str = Field(description=CONTRACT.id.description)
    churn_probability: float = Field(
        ge=0, le=1, description=f"Probability of: {CONTRACT.label.description}"
    )
    will_churn: bool = Field(
        description=f"The probability is at least {BREAK_EVEN:.4g}, from where an offer pays"
    )
    model_version: str = Field(description="Version of the model that answered")


# BentoML shows the documentation at "/"; people look for it at "/docs".
DOCS = Starlette(routes=[Route("/docs", lambda _: RedirectResponse("."))])


@bentoml.service(name="churn", traffic={"timeout": 10})
@bentoml.asgi_app(DOCS)
class Churn:
    """Answers with the model that the bento was built with."""

    model = bentoml.models.BentoModel(ARGUMENTS.model_tag)

    def __init__(self) -> None:
        self.scorer = Scorer.load(Path(self.model.path))
        self.model_version = str(self.model.tag.version)

    @bentoml.api(route="/predict")
    async def predict(self, customer: Customer, /) -> Prediction:
        """Probability that one customer leaves, and whether an offer would pay.

        Scoring takes microseconds, less than to hand it to a thread.
        """
        probability = self.scorer.score_one(features(customer, CONTRACT))
        return Prediction(
            customer_id=getattr(customer, CONTRACT.id.name),
            churn_probability=probability,
            will_churn=probability >= BREAK_EVEN,
            model_version=self.model_version,
        )
