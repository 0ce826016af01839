"""The way in: an ASGI middleware that answers every route of ours.

BentoML's own path for a request takes several times as long as the answer. Within its metrics,
traces and limits this middleware finds the route, lets the caller in and writes the reply; what is
not ours goes on to BentoML.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from itertools import count
from time import perf_counter, time

from opentelemetry import trace
from starlette.applications import Starlette

from churn_service.http.openapi import PAGE_FILES
from churn_service.http.request import (
    ASGIApp,
    Call,
    CallerGone,
    Headers,
    Receive,
    Reply,
    Scope,
    Send,
)
from churn_service.http.routes import ROUTES, Route
from churn_service.inference.predictions import Asked
from churn_service.inference.served_model import Unavailable
from churn_service.observability.logs import trace_id
from churn_service.problems import CONTENT_TYPE, Problem, faulty_customers
from churn_service.worker import Desk

LOG = logging.getLogger("churn.service")

SCHEMA = "/schema.json"
"""What BentoML's own client asks first; it takes BentoML longer than an answer takes us."""

OF_BENTOML = {"/livez", "/readyz", "/healthz", "/metrics", SCHEMA, *PAGE_FILES}
ELSEWHERE = "/elsewhere"
"""Stands for every path where there is nothing."""

KNOWN = OF_BENTOML | ROUTES.keys()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,64}")
CLOSED_BY_CALLER = 499
"""What nginx logs for a caller who went before the answer."""

CLOSE = ((b"connection", b"close"),)


class Door:
    """Answers what is ours, and passes the rest on.

    Args:
        app: what BentoML has behind its middlewares.
        find_desk: gives the worker's desk, once the service has started.
    """

    def __init__(self, app: ASGIApp, find_desk: Callable[[], Desk]) -> None:
        self._app, self._find_desk = app, find_desk
        self._desk: Desk | None = None
        self._ids = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection's request, as ASGI has it."""
        if scope["type"] == "lifespan":
            _hide_unknown_paths(scope["app"])
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        desk = self._desk = self._desk or self._find_desk()
        call = self._call(desk, scope, receive)
        path = scope["path"]
        try:
            if path in OF_BENTOML:
                if path == "/metrics":
                    _before_scrape(desk, call)
                if path == SCHEMA:
                    desk.access.admit(scope, call.headers, "predict")
                await self._app(scope, receive, send)
                return
            reply = await self._answer(desk, call)
        except CallerGone:
            _log(desk, call, CLOSED_BY_CALLER)
            return
        except Problem as problem:
            reply = _refusal(desk, call, problem)
        except Unavailable as error:
            later = {"Retry-After": "5"}
            reply = _refusal(desk, call, Problem("unavailable", str(error), headers=later))
        except Exception:
            # The last resort: a caller is told that it was not their fault, the log says the rest.
            LOG.exception("request %s failed", call.request_id)
            reply = _refusal(desk, call, Problem("internal", "the log of the service says why"))
        extra: Headers = ((b"x-request-id", call.request_id.encode()),)
        await reply.send(send, (*extra, *CLOSE) if desk.draining else extra)
        _log(desk, call, reply.status)

    def _call(self, desk: Desk, scope: Scope, receive: Receive) -> Call:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        own = REQUEST_ID.fullmatch(given) is None
        request_id = f"{desk.name}-{next(self._ids):x}" if own else given.decode()
        parent = headers.get(b"traceparent")
        trace_ = trace_id(parent.decode("latin-1")) if parent else ""
        if not trace_ and desk.settings.otlp_endpoint:
            trace_ = _own_trace()
        return Call(scope, headers, receive, Asked("", trace_), request_id)

    async def _answer(self, desk: Desk, call: Call) -> Reply:
        route = _route(call.scope)
        if route.probe:
            return await route.answer(desk, call)
        with desk.turns:
            if route.role is not None:
                call.asked.key_id = desk.access.admit(call.scope, call.headers, route.role)
            return await route.answer(desk, call)


def _hide_unknown_paths(app: Starlette) -> None:
    """Has BentoML's metrics count what nobody serves under one path.

    They take whatever path a caller asks for as a label, before any key is looked at: a stranger
    could make them grow without end. They are the outermost middleware, so this goes around all.
    """
    inner = app.middleware_stack
    assert inner is not None, "Starlette makes it before the first message"

    def outer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan" and scope["path"] not in KNOWN:
            scope["path"] = ELSEWHERE
        return inner(scope, receive, send)

    app.middleware_stack = outer


def _route(scope: Scope) -> Route:
    route = ROUTES.get(scope["path"])
    if route is None:
        raise Problem("not-found", "there is nothing at this path; /docs shows what there is")
    if scope["method"] not in route.methods:
        allowed = ", ".join(route.methods)
        detail = f"the method is {scope['method']} and must be {allowed}"
        raise Problem("method-not-allowed", detail, headers={"Allow": allowed})
    return route


def _before_scrape(desk: Desk, call: Call) -> None:
    if desk.settings.metrics == "admin":
        desk.access.admit(call.scope, call.headers, "admin")
    desk.metrics.before_scrape()


def _own_trace() -> str:
    """Trace that BentoML began for a request without one; "" where it was not sampled."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _refusal(desk: Desk, call: Call, problem: Problem) -> Reply:
    call.error_type = problem.kind
    seconds = perf_counter() - call.asked.started
    faults = faulty_customers(problem.faults)
    desk.metrics.refused(problem.kind, seconds, faults, problem.customers)
    return Reply(problem.body(), problem.status, CONTENT_TYPE, problem.headers)


def _log(desk: Desk, call: Call, status: int) -> None:
    seconds = perf_counter() - call.asked.started
    path = call.scope["path"]
    desk.requests.put(
        time(),
        call.scope["method"],
        # A path that nobody knows may hold anything.
        path if path in KNOWN else ELSEWHERE,
        status,
        seconds,
        request_id=call.request_id,
        key_id=call.asked.key_id,
        trace_id=call.asked.trace_id,
        error_type=call.error_type,
        customers=call.customers,
    )
