"""The service's routes and their handlers."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import pydantic_core

from churn_service.access.api_keys import Role
from churn_service.http import openapi
from churn_service.http.request import Request
from churn_service.http.response import Response
from churn_service.inference.predictions import (
    ENCODE_PREDICTION,
    ENCODE_PREDICTIONS,
    PREDICT,
    PREDICT_BATCH,
)
from churn_service.problems import Problem, faulty_customers
from churn_service.worker import Worker

GET, POST = ("GET", "HEAD"), ("POST",)

SMALL = 2**16
"""Bytes of a body that is cheap to read: the limit for one customer, some 200 in a batch."""


@dataclass(frozen=True)
class Route:
    """A path's handler and who may call it.

    Attributes:
        role: Role that the API key must have; None where no key is needed.
        respond: The handler.
        probe: Whether the route is answered however busy the worker is.
    """

    methods: tuple[str, ...]
    role: Role | None
    respond: Callable[[Worker, Request], Awaitable[Response]]
    probe: bool = False


async def predict(worker: Worker, request: Request) -> Response:
    """POST /predict."""
    body = await request.body(min(SMALL, worker.settings.max_body_bytes), worker.settings.timeout)
    customer = worker.parser.parse_customer(body)
    prediction = worker.predictor.predict(customer, request.context)
    request.customers = 1
    return Response(ENCODE_PREDICTION(prediction))


async def predict_batch(worker: Worker, request: Request) -> Response:
    """POST /predict/batch."""
    skip = _on_error(request.scope["query_string"]) == "skip"
    length = request.length
    small = length is not None and length <= SMALL
    with nullcontext() if small else worker.batch_concurrency:
        body = await request.body(worker.settings.max_body_bytes, worker.settings.timeout)
        batch = worker.parser.parse_batch(body, skip=skip)
        worker.metrics.checked(faulty_customers(batch.faults), batch.skipped)
        predictions = await worker.predictor.predict_batch(
            batch.customers, request.context, batch.faults
        )
    request.customers = len(batch.customers)
    return Response(ENCODE_PREDICTIONS(predictions))


async def health(worker: Worker, request: Request) -> Response:
    """GET /health."""
    state = worker.health()
    usable = state["status"] in ("ok", "degraded")
    return _json(state, status=200 if usable else 503)


async def model(worker: Worker, request: Request) -> Response:
    """GET /model."""
    return _json(worker.model_info())


async def docs(worker: Worker, request: Request) -> Response:
    """GET /docs: the page that reads /docs.json."""
    return Response(openapi.PAGE.encode(), content_type="text/html; charset=utf-8")


async def docs_json(worker: Worker, request: Request) -> Response:
    """GET /docs.json: the OpenAPI document."""
    if worker.openapi_json is None:
        worker.openapi_json = pydantic_core.to_json(openapi.document(worker))
    return Response(worker.openapi_json)


async def index(worker: Worker, request: Request) -> Response:
    """GET /: redirects to /docs, because BentoML's page loads a script from a third party."""
    return Response(b"", status=307, headers={"Location": "docs"})


ROUTES = {
    PREDICT: Route(POST, "predict", predict),
    PREDICT_BATCH: Route(POST, "predict", predict_batch),
    "/model": Route(GET, "predict", model),
    "/health": Route(GET, None, health, probe=True),
    "/docs": Route(GET, None, docs),
    "/docs.json": Route(GET, None, docs_json),
    "/": Route(GET, None, index),
}


def _json(value: Any, status: int = 200) -> Response:
    return Response(pydantic_core.to_json(value), status)


def _on_error(query: bytes) -> str:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("on_error", ["refuse"])
    if len(given) != 1 or given[0] not in ("refuse", "skip"):
        detail = f"the parameter on_error is {', '.join(given)!r} and must be 'refuse' or 'skip'"
        raise Problem("validation", detail)
    return given[0]
