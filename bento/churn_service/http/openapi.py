"""The OpenAPI document of the service, and the page that shows it."""

from typing import Any

from pydantic import TypeAdapter

from churn_service.inference.predictions import Prediction, Predictions
from churn_service.inference.request_parsing import MOST_CUSTOMERS
from churn_service.problems import CONTENT_TYPE, STATUS, URN
from churn_service.worker import Worker

Json = dict[str, Any]

REF = "#/components/schemas/{model}"

ANY_REQUEST = ("overloaded", "internal")
WITH_KEY = ("unauthorized", "forbidden", "rate-limited")
WITH_BODY = ("malformed", "timeout", "too-large", "unsupported-media-type", "validation")

# BentoML's files. Its own page would also load a script from a third party.
PAGE_FILES = tuple(
    f"/static_content/{name}"
    for name in (
        "swagger-ui.css",
        "favicon-light-32x32.png",
        "swagger-ui-bundle.js",
        "swagger-ui-standalone-preset.js",
        "swagger-initializer.js",
    )
)

PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>Churn</title>
    <link rel="stylesheet" type="text/css" href="./static_content/swagger-ui.css">
    <link rel="icon" type="image/png" href="./static_content/favicon-light-32x32.png">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js"></script>
    <script src="./static_content/swagger-ui-standalone-preset.js"></script>
    <script src="./static_content/swagger-initializer.js"></script>
  </body>
</html>
"""


def document(worker: Worker) -> Json:
    """Returns the OpenAPI 3.1 document of all routes, with schemas from the contract."""
    card, contract = worker.model.card, worker.contract
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Churn of: {contract.description}",
            "version": card.version,
            "description": f"Model {card.name}:{card.version}, contract {contract.name} "
            f"{contract.version}. Probabilities are those of: {contract.label.description}",
        },
        "servers": [{"url": "."}],
        "paths": _paths(worker),
        "components": {"schemas": _schemas(worker), "securitySchemes": _SCHEMES},
    }


_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def _schemas(worker: Worker) -> Json:
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        ("customers", "validation", TypeAdapter(worker.parser.batch_model)),
        ("customer", "validation", TypeAdapter(worker.parser.customer_model)),
        ("prediction", "serialization", TypeAdapter(Prediction)),
        ("predictions", "serialization", TypeAdapter(Predictions)),
    ]
    _, schemas = TypeAdapter.json_schemas(adapters, ref_template=REF)
    own: Json = schemas["$defs"]
    return own | {"Problem": _PROBLEM, "Health": _HEALTH, "Model": {"type": "object"}}


_PROBLEM: Json = {
    "type": "object",
    "description": "Problem details (RFC 9457)",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [URN + kind for kind in STATUS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "problems": {
            "type": "array",
            "description": "All faults of the body",
            "items": {"$ref": REF.format(model="Fault")},
        },
    },
}

_HEALTH: Json = {
    "type": "object",
    "required": ["status", "model_version", "since", "degraded"],
    "properties": {
        "status": {"type": "string", "enum": ["ok", "degraded", "unavailable", "draining"]},
        "model_version": {"type": "string"},
        "since": {"type": "string", "format": "date-time"},
        "degraded": {"type": "boolean", "description": "The fallback makes the predictions"},
    },
}


def _paths(worker: Worker) -> Json:
    secured = worker.settings.keys_file is not None
    with_key = WITH_KEY if secured else ("forbidden",)
    key: list[Json] = [{"bearer": []}, {"key": []}] if secured else []

    def operation(summary: str, schema: str, kinds: tuple[str, ...], **more: Any) -> Json:
        content = _content("application/json", schema)
        return {
            "summary": summary,
            "tags": ["churn"],
            "security": key,
            "responses": {"200": {"description": "Success", "content": content}} | _refusals(kinds),
            **more,
        }

    without_body = (*ANY_REQUEST, *with_key)
    with_body = (*WITH_BODY, "unavailable", *without_body)
    on_error = {
        "name": "on_error",
        "in": "query",
        "description": "Whether a faulty customer refuses the whole batch, or is skipped",
        "schema": {"type": "string", "enum": ["refuse", "skip"], "default": "refuse"},
    }
    health = operation("State of the service and version of its model", "Health", ("internal",))
    health["responses"]["503"] = {
        "description": "The worker should get no requests",
        "content": _content("application/json", "Health"),
    }
    return {
        "/predict": {
            "post": operation(
                "One customer", "Prediction", with_body, requestBody=_body("Customer")
            )
        },
        "/predict/batch": {
            "post": operation(
                f"1 to {MOST_CUSTOMERS} customers", "Predictions", with_body,
                requestBody=_body("Customers"), parameters=[on_error],
            )
        },
        "/model": {"get": operation("The served model", "Model", without_body)},
        "/health": {"get": health | {"security": [], "tags": ["probes"]}},
        "/livez": {"get": _probe("The process is running", "200")},
        "/readyz": {"get": _probe("A scorer passes its golden rows", "200", "503")},
        "/metrics": {"get": _metrics(worker, key)},
    }  # fmt: skip


def _body(schema: str) -> Json:
    return {"required": True, "content": _content("application/json", schema)}


def _content(kind: str, schema: str) -> Json:
    return {kind: {"schema": {"$ref": REF.format(model=schema)}}}


def _refusals(kinds: tuple[str, ...]) -> Json:
    """The responses of problem kinds; those with the same status are one response."""
    by_status: dict[str, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(str(int(STATUS[kind])), []).append(kind)
    return {
        status: {"description": ", ".join(same), "content": _content(CONTENT_TYPE, "Problem")}
        for status, same in sorted(by_status.items())
    }


def _probe(summary: str, *statuses: str) -> Json:
    text = {"text/plain": {"schema": {"type": "string"}}}
    responses = {status: {"description": summary, "content": text} for status in statuses}
    return {"summary": summary, "tags": ["probes"], "security": [], "responses": responses}


def _metrics(worker: Worker, key: list[Json]) -> Json:
    probe = _probe("Metrics in Prometheus' text format", "200")
    if worker.settings.metrics == "admin":
        refused = (*WITH_KEY, "internal")
        return probe | {"security": key, "responses": probe["responses"] | _refusals(refused)}
    return probe
