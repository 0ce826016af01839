"""The churn service: how likely is a customer to leave, and would an offer pay?

It runs inside a bento, beside the contract it was built for (`contract.json`), the contract's
derived features (`derived.py`), the package `churn_service` and the modules of `churn_assets` that
it imports; see `churn_assets/adapters/bentos.py`. Neither pandas nor sklearn is loaded.
"""

import asyncio
import sys
from pathlib import Path

import bentoml
import click
import derived
from churn_service.access.authentication import is_loopback
from churn_service.http.middleware import Dispatcher
from churn_service.inference.predictions import (
    PREDICT,
    PREDICT_BATCH,
    Prediction,
    Predictions,
    RequestContext,
)
from churn_service.inference.request_parsing import RequestParser
from churn_service.observability.logs import configure
from churn_service.settings import SettingsError, load_settings
from churn_service.worker import Worker
from pydantic import BaseModel

from churn_assets.contracts.contract import Contract


class Arguments(BaseModel):
    """What the bento was built with; BentoML keeps it inside the bento."""

    model_tag: str
    """Exact tag of the model. A `latest` would be looked up again at every start."""


# BentoML reads schemas and settings off the class below, so they must be known at import.
ARGUMENTS = bentoml.use_arguments(Arguments)
CONTRACT = Contract.model_validate_json(
    Path(__file__).with_name("contract.json").read_text(encoding="utf-8")
).with_functions(derived)
PARSER = RequestParser(CONTRACT)
try:
    SETTINGS = load_settings()
except SettingsError as error:
    sys.exit(str(error))


class Customer(bentoml.IODescriptor, PARSER.customer_model):
    """One customer, as the contract describes them."""


class Customers(bentoml.IODescriptor, PARSER.batch_model):
    """Customers to be scored together."""


@bentoml.service(
    name="churn",
    workers=SETTINGS.workers,
    # The limits of the door come first, and answer as the documentation says.
    traffic={"timeout": SETTINGS.timeout + 5},
    # churn_service/observability/logs.py writes a line for each request.
    logging={"access": {"enabled": False}},
    tracing=SETTINGS.tracing,
)
class Churn:
    """Serves the model that the bento was built with."""

    model = bentoml.models.BentoModel(ARGUMENTS.model_tag)

    def __init__(self) -> None:
        self.worker = Worker(SETTINGS, CONTRACT, Path(self.model.path))

    @bentoml.on_deployment
    @staticmethod
    def refuse_to_be_open() -> None:
        """Ends the start of a service that everyone could ask."""
        context = click.get_current_context(silent=True)
        host = context.params.get("host") if context else None
        if host and not SETTINGS.keys_file and not is_loopback(host):
            sys.exit(
                f"CHURN_API_KEYS_FILE is not set, and the address {host} is not a loopback one: "
                "set the file of the API keys, or serve with --host 127.0.0.1"
            )

    @bentoml.on_startup
    async def start(self) -> None:
        """Opens the door."""
        configure(SETTINGS.log_level)
        self.worker.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Counts and writes what waits."""
        self.worker.metrics.flush()
        # Not in the event loop, which may have to answer yet; nobody puts anything in any more.
        await asyncio.to_thread(self.worker.close)

    # The door answers these routes over HTTP. Here BentoML learns of them, and whoever holds the
    # service in their own process asks the same `Predictor`.
    @bentoml.api(route=PREDICT)
    async def predict(self, customer: Customer, /) -> Prediction:
        """Probability that one customer leaves, and whether an offer would pay."""
        return self.worker.predictor.predict(customer, RequestContext())

    @bentoml.api(route=PREDICT_BATCH)
    async def predict_batch(self, batch: Customers, /) -> Predictions:
        """The same for up to 10,000 customers."""
        return await self.worker.predictor.predict_batch(batch.customers, RequestContext())

    async def __is_ready__(self) -> bool:
        return self.worker.ready()

    def __metrics__(self, text: str) -> str:
        return self.worker.metrics.render(text)


Churn.add_asgi_middleware(Dispatcher, get_worker=lambda: bentoml.get_current_service().worker)
