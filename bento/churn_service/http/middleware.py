"""The ASGI middleware that answers the service's routes.

BentoML's own path for a request takes several times as long as the prediction. This middleware
stands inside BentoML's metrics, traces and limits: it finds the route, authorizes the caller and
sends the response. Requests for BentoML's routes go on to BentoML.
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
    ClientDisconnect,
    Headers,
    Receive,
    Request,
    Scope,
    Send,
)
from churn_service.http.response import Response
from churn_service.http.routes import ROUTES, Route
from churn_service.inference.predictions import RequestContext
from churn_service.inference.served_model import Unavailable
from churn_service.observability.logs import trace_id
from churn_service.problems import CONTENT_TYPE, Problem, faulty_customers
from churn_service.worker import Worker

LOG = logging.getLogger("churn.service")

SCHEMA = "/schema.json"
"""First request of BentoML's client; BentoML takes longer to answer it than a prediction takes."""

BENTOML_PATHS = {"/livez", "/readyz", "/healthz", "/metrics", SCHEMA, *PAGE_FILES}
ELSEWHERE = "/elsewhere"
"""Label of every path that does not exist."""

KNOWN_PATHS = BENTOML_PATHS | ROUTES.keys()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,64}")
CLIENT_CLOSED_REQUEST = 499
"""Status that nginx logs for a client that left before the response."""

CLOSE = ((b"connection", b"close"),)


class Dispatcher:
    """Dispatches requests to the service's routes, and all others to BentoML.

    Args:
        app: BentoML's application behind its middlewares.
        get_worker: Returns the worker, once the service has started.
    """

    def __init__(self, app: ASGIApp, get_worker: Callable[[], Worker]) -> None:
        self._app, self._get_worker = app, get_worker
        self._worker: Worker | None = None
        self._ids = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        if scope["type"] == "lifespan":
            _hide_unknown_paths(scope["app"])
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        worker = self._worker = self._worker or self._get_worker()
        request = self._request(worker, scope, receive)
        path = scope["path"]
        try:
            if path in BENTOML_PATHS:
                if path == "/metrics":
                    _before_scrape(worker, request)
                if path == SCHEMA:
                    worker.access.authorize(scope, request.headers, "predict")
                await self._app(scope, receive, send)
                return
            response = await self._respond(worker, request)
        except ClientDisconnect:
            _log(worker, request, CLIENT_CLOSED_REQUEST)
            return
        except Problem as problem:
            response = _refusal(worker, request, problem)
        except Unavailable as error:
            later = {"Retry-After": "5"}
            response = _refusal(worker, request, Problem("unavailable", str(error), headers=later))
        except Exception:
            # The last resort: the caller learns that the service failed, the log says why.
            LOG.exception("request %s failed", request.request_id)
            internal = Problem("internal", "the log of the service says why")
            response = _refusal(worker, request, internal)
        extra: Headers = ((b"x-request-id", request.request_id.encode()),)
        await response.send(send, (*extra, *CLOSE) if worker.draining else extra)
        _log(worker, request, response.status)

    def _request(self, worker: Worker, scope: Scope, receive: Receive) -> Request:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        generated = REQUEST_ID.fullmatch(given) is None
        request_id = f"{worker.name}-{next(self._ids):x}" if generated else given.decode()
        parent = headers.get(b"traceparent")
        trace_ = trace_id(parent.decode("latin-1")) if parent else ""
        if not trace_ and worker.settings.otlp_endpoint:
            trace_ = _current_trace_id()
        return Request(scope, headers, receive, RequestContext("", trace_), request_id)

    async def _respond(self, worker: Worker, request: Request) -> Response:
        route = _route(request.scope)
        if route.probe:
            return await route.respond(worker, request)
        with worker.concurrency:
            if route.role is not None:
                key_id = worker.access.authorize(request.scope, request.headers, route.role)
                request.context.key_id = key_id
            return await route.respond(worker, request)


def _hide_unknown_paths(app: Starlette) -> None:
    """Makes BentoML's metrics count all unknown paths under one path.

    BentoML labels its metrics by the requested path before any API key is checked, so a stranger
    could make them grow without limit. Its middlewares are the outermost ones, so this function
    wraps the whole stack.
    """
    inner = app.middleware_stack
    assert inner is not None, "Starlette builds the stack before the first message"

    def outer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan" and scope["path"] not in KNOWN_PATHS:
            scope["path"] = ELSEWHERE
        return inner(scope, receive, send)

    app.middleware_stack = outer


def _route(scope: Scope) -> Route:
    route = ROUTES.get(scope["path"])
    if route is None:
        raise Problem("not-found", "this path does not exist; /docs lists those that do")
    if scope["method"] not in route.methods:
        allowed = ", ".join(route.methods)
        detail = f"the method is {scope['method']} and must be {allowed}"
        raise Problem("method-not-allowed", detail, headers={"Allow": allowed})
    return route


def _before_scrape(worker: Worker, request: Request) -> None:
    if worker.settings.metrics == "admin":
        worker.access.authorize(request.scope, request.headers, "admin")
    worker.metrics.before_scrape()


def _current_trace_id() -> str:
    """Id of the trace that BentoML started for the request; "" where it is not sampled."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _refusal(worker: Worker, request: Request, problem: Problem) -> Response:
    request.error_type = problem.kind
    seconds = perf_counter() - request.context.started
    faults = faulty_customers(problem.faults)
    worker.metrics.refused(problem.kind, seconds, faults, problem.customers)
    return Response(problem.body(), problem.status, CONTENT_TYPE, problem.headers)


def _log(worker: Worker, request: Request, status: int) -> None:
    seconds = perf_counter() - request.context.started
    path = request.scope["path"]
    worker.request_log.put(
        time(),
        request.scope["method"],
        # An unknown path may contain anything.
        path if path in KNOWN_PATHS else ELSEWHERE,
        status,
        seconds,
        request_id=request.request_id,
        key_id=request.context.key_id,
        trace_id=request.context.trace_id,
        error_type=request.error_type,
        customers=request.customers,
    )
