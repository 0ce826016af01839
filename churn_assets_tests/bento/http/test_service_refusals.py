"""What the service refuses, and how it says why: one real server, asked over HTTP."""

import json
import math
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.expected import (
    CUSTOMER,
    FAULTS,
    changed,
    faulty_batch,
    found,
    problem,
)
from churn_assets_tests.bento.served import JSON, Served, served
from churn_assets_tests.bentos import CONTRACT


@pytest.fixture(scope="module")
def server(
    built: BuiltBento, store: BentoStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with served(built, store, tmp_path_factory.mktemp("log")) as server:
        yield server


@pytest.fixture
def client(server: Served) -> httpx.Client:
    return server.client


@pytest.mark.parametrize(
    ("field", "value", "check"),
    [
        ("age", '"42"', "typed"),
        ("age", '""', "typed"),
        ("age", "true", "typed"),
        ("age", "42.5", "typed"),
        ("age", "[42]", "typed"),
        ("age", '{"of": 42}', "typed"),
        ("age", "[" * 100 + "]" * 100, "typed"),
        ("age", "null", "complete"),
        ("age", "17", "in_range"),
        ("age", "111", "in_range"),
        ("age", "-9007199254740993", "in_range"),
        ("age", "9" * 400, "in_range"),
        ("age", "1e300", "in_range"),
        ("avg_data_usage", '"12"', "typed"),
        ("avg_data_usage", "false", "typed"),
        ("avg_data_usage", "null", "complete"),
        ("avg_data_usage", "-5e-324", "in_range"),
        ("avg_data_usage", repr(math.nextafter(1000, math.inf)), "in_range"),
        ("avg_data_usage", "NaN", "in_range"),
        ("avg_data_usage", "Infinity", "in_range"),
        ("avg_data_usage", "-Infinity", "in_range"),
        ("avg_data_usage", "1e999", "in_range"),
        ("avg_data_usage", "-" + "9" * 400, "in_range"),
        ("avg_call_minutes", '"12"', "typed"),
        ("gender", '"?"', "known_categories"),
        ("gender", '"male"', "known_categories"),
        ("gender", "1", "known_categories"),
        ("contract_type", "null", "complete"),
        ("location", "7", "typed"),
        ("location", '""', "in_range"),
        ("location", '" Paris"', "in_range"),
        ("location", json.dumps("x" * 101), "in_range"),
        ("customer_id", "7", "typed"),
        ("customer_id", '""', "in_range"),
        ("nonsense", "1", "known_fields"),
        ("churned", "true", "known_fields"),
    ],
)
def test_a_bad_value_is_told_by_its_pointer(
    client: httpx.Client, field: str, value: str, check: str
) -> None:
    body = changed(field, value)
    answer = client.post("/predict", content=body, headers=JSON)
    assert found(problem(answer, 422, "validation")) == [(f"/{field}", check)]
    batch = b'{"customers": [%s, %s]}' % (json.dumps(CUSTOMER).encode(), body)
    answer = client.post("/predict/batch", content=batch, headers=JSON)
    assert found(problem(answer, 422, "validation")) == [(f"/customers/1/{field}", check)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_finite_is_no_whole_number(client: httpx.Client, value: str) -> None:
    answer = client.post("/predict", content=changed("age", value), headers=JSON)
    assert [fault["pointer"] for fault in problem(answer, 422, "validation")] == ["/age"]


def test_every_fault_is_told_at_once(client: httpx.Client) -> None:
    wrong = {name: [] for name in CUSTOMER}
    expected = {"/customer_id", *(f"/{column.name}" for column in CONTRACT.features)}
    faults = problem(client.post("/predict", json=wrong), 422, "validation")
    assert {fault["pointer"] for fault in faults} == expected
    faults = problem(client.post("/predict", json={}), 422, "validation")
    assert {fault["check"] for fault in faults} == {"complete"}
    assert {fault["pointer"] for fault in faults} == expected - {"/avg_call_minutes"}


def test_a_pointer_is_escaped_as_rfc_6901_has_it(client: httpx.Client) -> None:
    answer = client.post("/predict", json=CUSTOMER | {"a/b~c": 1})
    assert found(problem(answer, 422, "validation")) == [("/a~1b~0c", "known_fields")]


@pytest.mark.parametrize("body", ["[]", "null", "7", '"x"', "true", "NaN"])
@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_what_is_no_object_is_told_so(client: httpx.Client, route: str, body: str) -> None:
    answer = client.post(route, content=body.encode(), headers=JSON)
    assert [fault["pointer"] for fault in problem(answer, 422, "validation")] == [""]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"\x00",
        b"{'age': 42}",
        b'{"age": 42,}',
        json.dumps(CUSTOMER).encode() + b"{}",
        b"\xef\xbb\xbf" + json.dumps(CUSTOMER).encode(),
        json.dumps(CUSTOMER).encode("utf-16"),
        changed("location", '"X"').replace(b"X", b"\xff"),
        changed("location", '"X"').replace(b"X", b"\xed\xa0\x80"),
        changed("location", r'"\ud800"'),
        changed("age", "042"),
        changed("age", "+42"),
        changed("age", "9" * 5_000),
        changed("age", "[" * 5_000 + "]" * 5_000),
        b"[" * 60_000,
        b'{"age":' * 8_000 + b"1" + b"}" * 8_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_what_is_no_json_is_malformed(client: httpx.Client, route: str, body: bytes) -> None:
    answer = client.post(route, content=body, headers=JSON)
    assert problem(answer, 400, "malformed") == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "application/json; charset=UTF-8"}, 200),
        ({"Content-Type": 'Application/JSON;charset="utf-8"'}, 200),
        (JSON | {"Content-Encoding": "identity"}, 200),
        ({}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/json"}, 415),
        ({"Content-Type": "application/jsonl"}, 415),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (JSON | {"Content-Encoding": "gzip"}, 415),
        (JSON | {"Content-Encoding": "br"}, 415),
    ],
)
def test_only_json_in_utf_8_is_read(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    body = json.dumps(CUSTOMER).encode()
    for route, content in (("/predict", body), ("/predict/batch", b'{"customers":[%s]}' % body)):
        answer = client.post(route, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        if status != 200:
            assert problem(answer, 415, "unsupported-media-type") == []
            accepted = "Accept-Encoding" if "Content-Encoding" in headers else "Accept"
            assert answer.headers[accepted] in ("application/json", "identity")


@pytest.mark.parametrize(
    ("route", "body", "limit"),
    [
        ("/predict", CUSTOMER, 64 * 2**10),
        ("/predict/batch", {"customers": [CUSTOMER]}, 8 * 2**20),
    ],
)
def test_a_body_is_read_up_to_its_limit(
    server: Served, route: str, body: dict[str, Any], limit: int
) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        yield json.dumps(body).encode().ljust(size)

    client = server.client
    assert client.post(route, content=next(chunks(limit)), headers=JSON).status_code == 200
    assert client.post(route, content=chunks(limit), headers=JSON).status_code == 200
    # One that says nothing of its size, and one that is refused before it is sent.
    answer = client.post(route, content=chunks(limit + 1), headers=JSON)
    assert problem(answer, 413, "too-large") == []
    assert refused_before_it_comes(server, route, limit + 1).startswith(b"HTTP/1.1 413 ")


def refused_before_it_comes(server: Served, route: str, size: int) -> bytes:
    where = urlsplit(server.url)
    assert where.port is not None
    with socket.create_connection(("127.0.0.1", where.port), timeout=5) as connection:
        head = f"POST {route} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json"
        connection.sendall(f"{head}\r\nContent-Length: {size}\r\n\r\n".encode())
        return connection.recv(100)


@pytest.mark.parametrize("count", [0, 10_001])
@pytest.mark.parametrize("query", ["", "?on_error=skip"])
def test_a_batch_of_another_size_is_refused(client: httpx.Client, count: int, query: str) -> None:
    body = {"customers": [CUSTOMER] * count}
    answer = client.post(f"/predict/batch{query}", json=body)
    assert found(problem(answer, 422, "validation")) == [("/customers", "in_range")]


@pytest.mark.parametrize("query", ["", "?on_error=refuse"])
def test_nothing_is_scored_where_a_row_is_bad(client: httpx.Client, query: str) -> None:
    answer = client.post(f"/predict/batch{query}", json=faulty_batch())
    assert found(problem(answer, 422, "validation")) == FAULTS


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/customers"),
        ({"customers": None}, "/customers"),
        ({"customers": {}}, "/customers"),
        ({"customers": CUSTOMER}, "/customers"),
        ({"customers": [None]}, "/customers/0"),
        ({"customers": [[]]}, "/customers/0"),
        ({"customers": [CUSTOMER], "on_error": "skip"}, "/on_error"),
    ],
)
@pytest.mark.parametrize("query", ["", "?on_error=skip"])
def test_what_is_no_batch_is_refused(
    client: httpx.Client, body: Any, pointer: str, query: str
) -> None:
    answer = client.post(f"/predict/batch{query}", json=body)
    assert [one["pointer"] for one in problem(answer, 422, "validation")] == [pointer]


@pytest.mark.parametrize("given", ["stop", "", "SKIP", "skip&on_error=skip"])
def test_another_on_error_is_refused(client: httpx.Client, given: str) -> None:
    answer = client.post(f"/predict/batch?on_error={given}", json={"customers": [CUSTOMER]})
    assert problem(answer, 422, "validation") == []
    assert "must be 'refuse' or 'skip'" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/predict/batch/1", "/Predict"])
def test_an_unknown_path_is_not_found(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        assert problem(client.request(method, path), 404, "not-found") == []


@pytest.mark.parametrize(
    ("route", "allowed"),
    [("/predict", "POST"), ("/predict/batch", "POST"), ("/model", "GET, HEAD"),
     ("/health", "GET, HEAD"), ("/docs", "GET, HEAD"), ("/docs.json", "GET, HEAD")],
)  # fmt: skip
def test_another_method_is_told_which_are_allowed(
    client: httpx.Client, route: str, allowed: str
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(allowed.split(", ")):
        answer = client.request(method, route)
        assert problem(answer, 405, "method-not-allowed") == []
        assert answer.headers["Allow"] == allowed
