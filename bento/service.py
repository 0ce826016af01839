"""BentoML service that predicts churn probabilities, and whether an offer would pay.

The module runs inside a bento. Next to it are the contract that the bento was built for
(`contract.json`), the contract's derived features (`derived.py`), the package `churn_service` and
the modules of `churn_assets` that the service imports; see `churn_assets/adapters/bentos.py`. The
service loads neither pandas nor sklearn.
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
from churn_service.settings import load_settings
from churn_service.worker import Worker
from pydantic import BaseModel

from churn_assets.contracts.contract import Contract
from churn_assets.core.settings_errors import SettingsError


class Arguments(BaseModel):
    """Build arguments of the bento, which BentoML stores inside the bento."""

    model_tag: str
    """Exact tag of the model. BentoML would resolve `latest` again at every start."""


# BentoML reads schemas and settings from the class below, so they must exist at import.
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
    """One customer, as the contract defines it."""


class Customers(bentoml.IODescriptor, PARSER.batch_model):
    """A batch of customers."""


@bentoml.service(
    name="churn",
    workers=SETTINGS.workers,
    # The middleware's deadline expires first, so that the client gets the documented response.
    traffic={"timeout": SETTINGS.timeout + 5},
    # churn_service/observability/logs.py writes the request log.
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
    def require_keys_or_loopback() -> None:
        """Refuses to start a service without API keys on an address that others can reach."""
        context = click.get_current_context(silent=True)
        host = context.params.get("host") if context else None
        if host and not SETTINGS.keys_file and not is_loopback(host):
            sys.exit(
                f"CHURN_API_KEYS_FILE is not set, and the address {host} is not a loopback "
                "address: set the file of the API keys, or serve with --host 127.0.0.1"
            )

    @bentoml.on_startup
    async def start(self) -> None:
        """Configures the logs and starts the worker."""
        configure(SETTINGS.log_level)
        self.worker.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Writes the metrics and the logs that are still in memory."""
        self.worker.metrics.flush()
        # In a thread, because the event loop may still send responses. No more lines are added.
        await asyncio.to_thread(self.worker.close)

    # Over HTTP the middleware answers these routes. They are declared here for BentoML, and for
    # code that calls the service in its own process and gets predictions of the same `Predictor`.
    @bentoml.api(route=PREDICT)
    async def predict(self, customer: Customer, /) -> Prediction:
        """Predicts the churn probability of one customer, and whether an offer would pay."""
        return self.worker.predictor.predict(customer, RequestContext())

    @bentoml.api(route=PREDICT_BATCH)
    async def predict_batch(self, batch: Customers, /) -> Predictions:
        """Predicts the same for up to 10,000 customers."""
        return await self.worker.predictor.predict_batch(batch.customers, RequestContext())

    async def __is_ready__(self) -> bool:
        return self.worker.ready()

    def __metrics__(self, text: str) -> str:
        return self.worker.metrics.render(text)


Churn.add_asgi_middleware(Dispatcher, get_worker=lambda: bentoml.get_current_service().worker)
