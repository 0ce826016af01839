"""The middleware behind ASGI messages: routes, refusals, headers, limits and the request log."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from churn_service.http.middleware import CLIENT_CLOSED_REQUEST, Dispatcher
from churn_service.http.request import Receive, Scope, Send
from churn_service.http.routes import ROUTES
from starlette.applications import Starlette

from churn_assets_tests.bento.expected_responses import (
    CUSTOMER,
    assert_problem,
    customer_json_with,
    expected_prediction,
    faulty_batch,
)
from churn_assets_tests.bento.in_process import (
    DISCONNECT,
    InProcessService,
    in_process_service,
    metric_value,
)
from churn_assets_tests.bento.key_files import (
    ADMIN_KEY,
    ADMIN_TOKEN,
    PREDICT_KEY,
    PREDICT_TOKEN,
    replace_keys,
)

BODY = json.dumps(CUSTOMER).encode()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[InProcessService]:
    """A service without keys."""
    limits = {"max_concurrency": 2, "max_batches": 1, "timeout": 0.2}
    with in_process_service(tmp_path, **limits) as started:
        yield started


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[InProcessService]:
    """A service with keys."""
    keys = replace_keys(tmp_path, PREDICT_KEY, ADMIN_KEY)
    with in_process_service(
        tmp_path, keys_file=keys, metrics="admin", rate_limit="3/hour"
    ) as started:
        yield started


def errors(kind: str) -> float | None:
    return metric_value("churn_prediction_errors_total", error_type=kind)


def test_a_request_gets_a_prediction(service: InProcessService) -> None:
    response = service.post("/predict", CUSTOMER)
    assert (response.status_code, response.json()) == (
        200,
        expected_prediction(CUSTOMER, response.json()),
    )
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/predict/batch/x", "//", "/PREDICT"])
def test_unknown_paths_are_not_found(service: InProcessService, path: str) -> None:
    assert_problem(service.request("GET", path), 404, "not-found")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "FOO"])
def test_each_path_has_its_methods(service: InProcessService, path: str, method: str) -> None:
    allowed = ("POST",) if path.startswith("/predict") else ("GET", "HEAD")
    response = service.request(method, path)
    if method in allowed:
        assert response.status_code in (200, 307, 415)
    else:
        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == ", ".join(allowed)


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/static_content/swagger-ui.css"]
)
def test_requests_for_bentomls_paths_go_on_to_bentoml(service: InProcessService, path: str) -> None:
    response = service.request("GET", path)
    assert (response.status_code, response.content) == (299, path.encode())


def test_connections_other_than_http_go_on_to_bentoml(service: InProcessService) -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def nothing(*_: Any) -> Any: ...

    dispatcher = Dispatcher(app, lambda: service.worker)
    starlette = Starlette()
    starlette.middleware_stack = starlette.build_middleware_stack()
    asyncio.run(dispatcher({"type": "lifespan", "app": starlette}, nothing, nothing))
    asyncio.run(dispatcher({"type": "websocket"}, nothing, nothing))
    assert passed == ["lifespan", "websocket"]


def test_a_draining_worker_still_responds_and_closes_connections(service: InProcessService) -> None:
    assert "connection" not in service.post("/predict", CUSTOMER).headers
    service.worker.draining = True
    response = service.post("/predict", CUSTOMER)
    assert (response.status_code, response.headers["connection"]) == (200, "close")
    health = service.request("GET", "/health")
    assert (health.status_code, health.json()["status"]) == (503, "draining")
    assert not service.worker.ready()


@pytest.mark.parametrize(
    ("waiting", "timed_out", "expected"),
    [(1, [408], 200), (2, [408] * 2, 503), (3, [408] * 2, 503)],
)
def test_requests_over_the_concurrency_limit_are_refused(
    service: InProcessService, waiting: int, timed_out: list[int], expected: int
) -> None:
    async def crowd() -> tuple[
        list[httpx.Response | None], httpx.Response | None, httpx.Response | None
    ]:
        # Their bodies never arrive: the requests are in progress until the deadline.
        slow = [
            asyncio.create_task(
                service.send("POST", "/predict", messages=[], content_type="application/json")
            )
            for _ in range(waiting)
        ]
        await asyncio.sleep(0)
        one = await service.send("POST", "/predict", BODY)
        probe = await service.send("GET", "/health")
        return await asyncio.gather(*slow), one, probe

    slow, one, probe = asyncio.run(crowd())
    refused = [503] * (waiting - len(timed_out))
    assert sorted(response.status_code for response in slow if response) == timed_out + refused
    assert probe is not None
    assert probe.status_code == 200, "a probe does not count against the limit"
    assert one is not None
    assert one.status_code == expected
    if expected == 503:
        assert_problem(one, 503, "overloaded")
        assert one.headers["retry-after"] == "1"
    assert service.post("/predict", CUSTOMER).status_code == 200, "every place is free again"


def test_without_keys_only_a_loopback_address_is_served(service: InProcessService) -> None:
    assert_problem(service.post("/predict", CUSTOMER, server="10.0.0.1"), 403, "forbidden")
    assert_problem(service.request("GET", "/model", server="10.0.0.1"), 403, "forbidden")
    assert service.request("GET", "/health", server="10.0.0.1").status_code == 200


def test_a_key_is_required(secured: InProcessService) -> None:
    for method, path in (("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/model")):
        response = secured.request(method, path, BODY)
        assert_problem(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == 'Bearer realm="churn"'
    for path in ("/health", "/docs", "/docs.json"):
        assert secured.request("GET", path).status_code == 200
    assert secured.post("/predict", CUSTOMER, x_api_key=PREDICT_TOKEN).status_code == 200
    assert (
        secured.request("GET", "/model", authorization=f"Bearer {PREDICT_TOKEN}").status_code == 200
    )
    assert errors("unauthorized") == 3


def test_a_key_is_required_before_the_body_is_read(secured: InProcessService) -> None:
    assert_problem(
        secured.request("POST", "/predict", content_type="application/json"), 401, "unauthorized"
    )


def test_metrics_may_require_an_admin_key(secured: InProcessService) -> None:
    assert_problem(secured.request("GET", "/metrics"), 401, "unauthorized")
    assert_problem(secured.request("GET", "/metrics", x_api_key=PREDICT_TOKEN), 403, "forbidden")
    assert secured.request("GET", "/metrics", x_api_key=ADMIN_TOKEN).status_code == 299
    for path in ("/livez", "/readyz"):
        assert secured.request("GET", path).status_code == 299


def test_a_key_has_a_rate_limit(secured: InProcessService) -> None:
    statuses = [
        secured.post("/predict", CUSTOMER, x_api_key=PREDICT_TOKEN).status_code for _ in range(4)
    ]
    assert statuses == [200, 200, 200, 429]
    response = secured.post("/predict", CUSTOMER, x_api_key=PREDICT_TOKEN)
    assert_problem(response, 429, "rate-limited")
    assert int(response.headers["retry-after"]) > 3_500


@pytest.mark.parametrize("given", ["a", "A-1.b_c~2", "x" * 64])
def test_a_request_keeps_its_id(service: InProcessService, given: str) -> None:
    assert service.request("GET", "/health", x_request_id=given).headers["x-request-id"] == given
    response = service.request("GET", "/nothing", x_request_id=given)
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\n", "ü", '"', "a;b"])
def test_a_request_id_that_could_corrupt_a_log_is_replaced(
    service: InProcessService, given: str
) -> None:
    responses = [service.request("GET", "/health", x_request_id=given) for _ in range(2)]
    ids = {response.headers["x-request-id"] for response in responses}
    assert len(ids) == 2
    assert all(name.startswith(f"{service.worker.name}-") for name in ids)


def test_every_request_is_logged_without_its_content(secured: InProcessService) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = f"00-{trace}-b7ad6b7169203331-01"
    secured.post(
        "/predict", CUSTOMER, x_api_key=PREDICT_TOKEN, traceparent=parent, x_request_id="r1"
    )
    secured.post("/predict/batch", {"customers": [CUSTOMER] * 2}, x_api_key=ADMIN_TOKEN)
    secured.request(
        "POST", "/predict", customer_json_with("age", '"secret"'), x_api_key=PREDICT_TOKEN
    )
    secured.request("GET", "/secret/path")
    secured.request("GET", "/model", x_api_key="secret")
    lines = secured.log_lines()
    keys = ("method", "route", "status", "key_id", "customers", "error_type", "level")
    assert [tuple(line[key] for key in keys) for line in lines] == [
        ("POST", "/predict", 200, "crm", 1, "", "INFO"),
        ("POST", "/predict/batch", 200, "ops", 2, "", "INFO"),
        ("POST", "/predict", 422, "crm", 0, "validation", "WARNING"),
        ("GET", "/elsewhere", 404, "", 0, "not-found", "WARNING"),
        ("GET", "/model", 401, "", 0, "unauthorized", "WARNING"),
    ]
    assert (lines[0]["trace_id"], lines[0]["request_id"]) == (trace, "r1")
    assert all(0 < line["ms"] < 5_000 for line in lines)
    text = secured.log.read_text("utf-8")
    assert not [
        secret for secret in ("secret", PREDICT_TOKEN, ADMIN_TOKEN, "C-0") if secret in text
    ]


def test_a_client_that_disconnects_is_logged_and_gets_no_response(
    service: InProcessService,
) -> None:
    request = service.send(
        "POST", "/predict", messages=[DISCONNECT], content_type="application/json"
    )
    assert asyncio.run(request) is None
    assert service.post("/predict", CUSTOMER).status_code == 200
    assert [line["status"] for line in service.log_lines()] == [CLIENT_CLOSED_REQUEST, 200]


def test_refusals_are_counted_by_type_and_by_check(service: InProcessService) -> None:
    service.request("POST", "/predict", b"{")
    service.request("POST", "/predict", customer_json_with("age", "1"))
    service.post("/predict/batch", faulty_batch())
    service.request("GET", "/nothing")
    service.request("PUT", "/predict")
    counts = {kind: errors(kind) for kind in ("malformed", "validation", "not-found")}
    assert counts == {"malformed": 1, "validation": 2, "not-found": 1}
    service.worker.metrics.before_scrape()

    def checked(check: str, passed: str) -> float | None:
        return metric_value("churn_window_checks", check_type=check, passed=passed)

    # One customer alone and five in the batch, of which two have faults.
    assert (checked("in_range", "false"), checked("in_range", "true")) == (2, 4)
    assert (checked("typed", "false"), checked("typed", "true")) == (1, 5)
    assert (checked("known_fields", "false"), checked("known_fields", "true")) == (1, 5)
    assert (checked("complete", "false"), checked("complete", "true")) == (0, 6)


def test_an_internal_error_is_a_500_without_details(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(service.worker, "model_info", fails)
    response = service.request("GET", "/model", x_request_id="r7")
    assert_problem(response, 500, "internal")
    assert b"secret" not in response.content
    assert "request r7 failed" in caplog.text
    assert errors("internal") == 1
    assert service.post("/predict", CUSTOMER).status_code == 200, "the place is free again"


def test_two_workers_generate_different_request_ids(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        with in_process_service(tmp_path) as started:
            names.add(started.request("GET", "/health").headers["x-request-id"])
    assert len(names) == 2
