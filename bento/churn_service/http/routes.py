"""Every route of ours, and how it is answered."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import pydantic_core

from churn_service.access.api_keys import Role
from churn_service.http import openapi
from churn_service.http.request import Call, Reply
from churn_service.inference.predictions import ENCODE_MANY, ENCODE_ONE, MANY, ONE
from churn_service.problems import Problem, faulty_customers
from churn_service.worker import Desk

GET, POST = ("GET", "HEAD"), ("POST",)

SMALL = 2**16
"""Bytes of a body up to which it costs little: one customer has no more, a batch 200 or so."""


@dataclass(frozen=True)
class Route:
    """How a path is answered.

    Attributes:
        role: that a key must have; None lets everyone in.
        probe: it is answered however busy the worker is.
    """

    methods: tuple[str, ...]
    role: Role | None
    answer: Callable[[Desk, Call], Awaitable[Reply]]
    probe: bool = False


async def predict(desk: Desk, call: Call) -> Reply:
    """POST /predict."""
    body = await call.body(min(SMALL, desk.settings.max_body_bytes), desk.deadline)
    prediction = desk.answers.one(desk.reader.customer(body), call.asked)
    call.customers = 1
    return Reply(ENCODE_ONE(prediction))


async def predict_batch(desk: Desk, call: Call) -> Reply:
    """POST /predict/batch."""
    skip = _on_error(call.scope["query_string"]) == "skip"
    length = call.length
    small = length is not None and length <= SMALL
    with nullcontext() if small else desk.batches:
        body = await call.body(desk.settings.max_body_bytes, desk.deadline)
        batch = desk.reader.batch(body, skip=skip)
        desk.metrics.checked(faulty_customers(batch.faults), batch.skipped)
        answer = await desk.answers.many(batch.customers, call.asked, batch.faults)
    call.customers = len(batch.customers)
    return Reply(ENCODE_MANY(answer))


async def health(desk: Desk, call: Call) -> Reply:
    """GET /health."""
    found = desk.health()
    usable = found["status"] in ("ok", "degraded")
    return _json(found, status=200 if usable else 503)


async def model(desk: Desk, call: Call) -> Reply:
    """GET /model."""
    return _json(desk.about())


async def docs(desk: Desk, call: Call) -> Reply:
    """GET /docs: the page that reads /docs.json."""
    return Reply(openapi.PAGE.encode(), content_type="text/html; charset=utf-8")


async def docs_json(desk: Desk, call: Call) -> Reply:
    """GET /docs.json: the OpenAPI document."""
    if desk.documented is None:
        desk.documented = pydantic_core.to_json(openapi.document(desk))
    return Reply(desk.documented)


async def index(desk: Desk, call: Call) -> Reply:
    """GET /: BentoML's own page there asks a third party for a script."""
    return Reply(b"", status=307, headers={"Location": "docs"})


ROUTES = {
    ONE: Route(POST, "predict", predict),
    MANY: Route(POST, "predict", predict_batch),
    "/model": Route(GET, "predict", model),
    "/health": Route(GET, None, health, probe=True),
    "/docs": Route(GET, None, docs),
    "/docs.json": Route(GET, None, docs_json),
    "/": Route(GET, None, index),
}


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(pydantic_core.to_json(value), status)


def _on_error(query: bytes) -> str:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("on_error", ["refuse"])
    if len(given) != 1 or given[0] not in ("refuse", "skip"):
        detail = f"the parameter on_error is {', '.join(given)!r} and must be 'refuse' or 'skip'"
        raise Problem("validation", detail)
    return given[0]
