"""The way in, asked as a server asks it: routes, refusals, headers, limits and the request log."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from churn_service.access.api_keys import KeyFile, new_key
from churn_service.http.middleware import CLIENT_CLOSED_REQUEST, Dispatcher
from churn_service.http.request import Message, Receive, Scope, Send
from churn_service.http.routes import ROUTES
from starlette.applications import Starlette

from churn_assets_tests.bento.expected import CUSTOMER, changed, faulty_batch, prediction
from churn_assets_tests.bento.inside import Answered, House, house, metric, problem

SOON = datetime.now(UTC) + timedelta(hours=1)
PREDICT, PREDICT_KEY = new_key("predict", SOON, "crm")
ADMIN, ADMIN_KEY = new_key("admin", SOON, "ops")
BODY = json.dumps(CUSTOMER).encode()
GONE: Message = {"type": "http.disconnect"}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[House]:
    """Without keys."""
    with house(tmp_path, max_concurrency=2, max_batches=1, timeout=0.2) as built:
        yield built


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(KeyFile(keys=(PREDICT_KEY, ADMIN_KEY)).model_dump_json(), encoding="utf-8")
    return path


@pytest.fixture
def secured(tmp_path: Path, keys: Path) -> Iterator[House]:
    with house(tmp_path, keys_file=keys, metrics="admin", rate_limit="3/hour") as built:
        yield built


def errors(kind: str) -> float | None:
    return metric("churn_prediction_errors_total", error_type=kind)


def test_one_customer_is_answered(opened: House) -> None:
    answer = opened.post("/predict", CUSTOMER)
    assert (answer.status, answer.json) == (200, prediction(CUSTOMER, answer.json))
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/predict/batch/x", "//", "/PREDICT"])
def test_there_is_nothing_elsewhere(opened: House, path: str) -> None:
    problem(opened.ask("GET", path), 404, "not-found")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "FOO"])
def test_each_path_has_its_methods(opened: House, path: str, method: str) -> None:
    allowed = ("POST",) if path.startswith("/predict") else ("GET", "HEAD")
    answer = opened.ask(method, path)
    if method in allowed:
        assert answer.status in (200, 307, 415)
    else:
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == ", ".join(allowed)


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/static_content/swagger-ui.css"]
)
def test_what_is_bentomls_goes_on_to_it(opened: House, path: str) -> None:
    answer = opened.ask("GET", path)
    assert (answer.status, answer.body) == (299, path.encode())


def test_what_is_no_http_goes_on_too(opened: House) -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def nothing(*_: Any) -> Any: ...

    dispatcher = Dispatcher(app, lambda: opened.worker)
    starlette = Starlette()
    starlette.middleware_stack = starlette.build_middleware_stack()
    asyncio.run(dispatcher({"type": "lifespan", "app": starlette}, nothing, nothing))
    asyncio.run(dispatcher({"type": "websocket"}, nothing, nothing))
    assert passed == ["lifespan", "websocket"]


def test_a_worker_that_drains_answers_and_says_so(opened: House) -> None:
    assert "connection" not in opened.post("/predict", CUSTOMER).headers
    opened.worker.draining = True
    answer = opened.post("/predict", CUSTOMER)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    health = opened.ask("GET", "/health")
    assert (health.status, health.json["status"]) == (503, "draining")
    assert not opened.worker.ready()


@pytest.mark.parametrize(
    ("waiting", "in_hand", "expected"), [(1, [408], 200), (2, [408] * 2, 503), (3, [408] * 2, 503)]
)
def test_no_more_requests_than_fit_are_taken_in_hand(
    opened: House, waiting: int, in_hand: list[int], expected: int
) -> None:
    async def crowd() -> tuple[list[Answered | None], Answered | None, Answered | None]:
        # Their bodies never come: they are in hand until the time is up.
        slow = [
            asyncio.create_task(
                opened.begin("POST", "/predict", messages=[], content_type="application/json")
            )
            for _ in range(waiting)
        ]
        await asyncio.sleep(0)
        one = await opened.begin("POST", "/predict", BODY)
        probe = await opened.begin("GET", "/health")
        return await asyncio.gather(*slow), one, probe

    slow, one, probe = asyncio.run(crowd())
    refused = [503] * (waiting - len(in_hand))
    assert sorted(answer.status for answer in slow if answer) == in_hand + refused
    assert probe is not None
    assert probe.status == 200, "it is answered however busy the worker is"
    assert one is not None
    assert one.status == expected
    if expected == 503:
        problem(one, 503, "overloaded")
        assert one.headers["retry-after"] == "1"
    assert opened.post("/predict", CUSTOMER).status == 200, "every turn was given back"


def test_without_keys_no_other_address_is_answered(opened: House) -> None:
    problem(opened.post("/predict", CUSTOMER, server="10.0.0.1"), 403, "forbidden")
    problem(opened.ask("GET", "/model", server="10.0.0.1"), 403, "forbidden")
    assert opened.ask("GET", "/health", server="10.0.0.1").status == 200


def test_a_key_is_asked_for(secured: House) -> None:
    for method, path in (("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/model")):
        answer = secured.ask(method, path, BODY)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="churn"'
    for path in ("/health", "/docs", "/docs.json"):
        assert secured.ask("GET", path).status == 200
    assert secured.post("/predict", CUSTOMER, x_api_key=PREDICT).status == 200
    assert secured.ask("GET", "/model", authorization=f"Bearer {PREDICT}").status == 200
    assert errors("unauthorized") == 3


def test_a_key_is_asked_for_before_a_body_is_read(secured: House) -> None:
    problem(secured.ask("POST", "/predict", content_type="application/json"), 401, "unauthorized")


def test_metrics_may_be_for_admins(secured: House) -> None:
    problem(secured.ask("GET", "/metrics"), 401, "unauthorized")
    problem(secured.ask("GET", "/metrics", x_api_key=PREDICT), 403, "forbidden")
    assert secured.ask("GET", "/metrics", x_api_key=ADMIN).status == 299
    for path in ("/livez", "/readyz"):
        assert secured.ask("GET", path).status == 299


def test_a_key_has_so_many_requests(secured: House) -> None:
    statuses = [secured.post("/predict", CUSTOMER, x_api_key=PREDICT).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = secured.post("/predict", CUSTOMER, x_api_key=PREDICT)
    problem(answer, 429, "rate-limited")
    assert int(answer.headers["retry-after"]) > 3_500


@pytest.mark.parametrize("given", ["a", "A-1.b_c~2", "x" * 64])
def test_a_request_keeps_its_id(opened: House, given: str) -> None:
    assert opened.ask("GET", "/health", x_request_id=given).headers["x-request-id"] == given
    answer = opened.ask("GET", "/nothing", x_request_id=given)
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\n", "ü", '"', "a;b"])
def test_an_id_that_could_harm_a_log_is_replaced(opened: House, given: str) -> None:
    answers = [opened.ask("GET", "/health", x_request_id=given) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(name.startswith(f"{opened.worker.name}-") for name in ids)


def test_every_request_is_logged_without_what_was_in_it(secured: House) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = f"00-{trace}-b7ad6b7169203331-01"
    secured.post("/predict", CUSTOMER, x_api_key=PREDICT, traceparent=parent, x_request_id="r1")
    secured.post("/predict/batch", {"customers": [CUSTOMER] * 2}, x_api_key=ADMIN)
    secured.ask("POST", "/predict", changed("age", '"secret"'), x_api_key=PREDICT)
    secured.ask("GET", "/secret/path")
    secured.ask("GET", "/model", x_api_key="secret")
    lines = secured.lines()
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
    assert not [secret for secret in ("secret", PREDICT, ADMIN, "C-0") if secret in text]


def test_a_caller_who_goes_is_logged_and_not_answered(opened: House) -> None:
    gone = opened.begin("POST", "/predict", messages=[GONE], content_type="application/json")
    assert asyncio.run(gone) is None
    assert opened.post("/predict", CUSTOMER).status == 200
    assert [line["status"] for line in opened.lines()] == [CLIENT_CLOSED_REQUEST, 200]


def test_refusals_are_counted_by_type_and_by_check(opened: House) -> None:
    opened.ask("POST", "/predict", b"{")
    opened.ask("POST", "/predict", changed("age", "1"))
    opened.post("/predict/batch", faulty_batch())
    opened.ask("GET", "/nothing")
    opened.ask("PUT", "/predict")
    counts = {kind: errors(kind) for kind in ("malformed", "validation", "not-found")}
    assert counts == {"malformed": 1, "validation": 2, "not-found": 1}
    opened.worker.metrics.before_scrape()

    def checked(check: str, passed: str) -> float | None:
        return metric("churn_window_checks", check_type=check, passed=passed)

    # One customer alone, and five in the batch: two of them have a fault.
    assert (checked("in_range", "false"), checked("in_range", "true")) == (2, 4)
    assert (checked("typed", "false"), checked("typed", "true")) == (1, 5)
    assert (checked("known_fields", "false"), checked("known_fields", "true")) == (1, 5)
    assert (checked("complete", "false"), checked("complete", "true")) == (0, 6)


def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    opened: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("the secret of it")

    monkeypatch.setattr(opened.worker, "model_info", fails)
    answer = opened.ask("GET", "/model", x_request_id="r7")
    problem(answer, 500, "internal")
    assert b"secret" not in answer.body
    assert "request r7 failed" in caplog.text
    assert errors("internal") == 1
    assert opened.post("/predict", CUSTOMER).status == 200, "the turn was given back"


def test_two_workers_name_their_requests_apart(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        with house(tmp_path) as built:
            names.add(built.ask("GET", "/health").headers["x-request-id"])
    assert len(names) == 2
