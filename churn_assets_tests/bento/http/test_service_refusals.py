"""Refused requests and their problems, over HTTP."""

import json
import math
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from churn_assets_tests.bento.expected_responses import (
    CUSTOMER,
    FAULTS,
    customer_json_with,
    faulty_batch,
    pointers_and_checks,
    problem_faults,
)
from churn_assets_tests.bento.served_bento import JSON, ServedBento
from churn_assets_tests.bentos import CONTRACT


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
def test_a_faulty_value_is_reported_by_its_pointer(
    client: httpx.Client, field: str, value: str, check: str
) -> None:
    body = customer_json_with(field, value)
    response = client.post("/predict", content=body, headers=JSON)
    assert pointers_and_checks(problem_faults(response, 422, "validation")) == [
        (f"/{field}", check)
    ]
    batch = b'{"customers": [%s, %s]}' % (json.dumps(CUSTOMER).encode(), body)
    response = client.post("/predict/batch", content=batch, headers=JSON)
    assert pointers_and_checks(problem_faults(response, 422, "validation")) == [
        (f"/customers/1/{field}", check)
    ]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_not_an_integer(client: httpx.Client, value: str) -> None:
    response = client.post("/predict", content=customer_json_with("age", value), headers=JSON)
    assert [fault["pointer"] for fault in problem_faults(response, 422, "validation")] == ["/age"]


def test_all_faults_are_reported_at_once(client: httpx.Client) -> None:
    wrong = {name: [] for name in CUSTOMER}
    expected = {"/customer_id", *(f"/{column.name}" for column in CONTRACT.features)}
    faults = problem_faults(client.post("/predict", json=wrong), 422, "validation")
    assert {fault["pointer"] for fault in faults} == expected
    faults = problem_faults(client.post("/predict", json={}), 422, "validation")
    assert {fault["check"] for fault in faults} == {"complete"}
    assert {fault["pointer"] for fault in faults} == expected - {"/avg_call_minutes"}


def test_a_pointer_is_escaped_by_rfc_6901(client: httpx.Client) -> None:
    response = client.post("/predict", json=CUSTOMER | {"a/b~c": 1})
    assert pointers_and_checks(problem_faults(response, 422, "validation")) == [
        ("/a~1b~0c", "known_fields")
    ]


@pytest.mark.parametrize("body", ["[]", "null", "7", '"x"', "true", "NaN"])
@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_a_body_must_be_an_object(client: httpx.Client, route: str, body: str) -> None:
    response = client.post(route, content=body.encode(), headers=JSON)
    assert [fault["pointer"] for fault in problem_faults(response, 422, "validation")] == [""]


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
        customer_json_with("location", '"X"').replace(b"X", b"\xff"),
        customer_json_with("location", '"X"').replace(b"X", b"\xed\xa0\x80"),
        customer_json_with("location", r'"\ud800"'),
        customer_json_with("age", "042"),
        customer_json_with("age", "+42"),
        customer_json_with("age", "9" * 5_000),
        customer_json_with("age", "[" * 5_000 + "]" * 5_000),
        b"[" * 60_000,
        b'{"age":' * 8_000 + b"1" + b"}" * 8_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_a_body_that_is_not_json_is_malformed(
    client: httpx.Client, route: str, body: bytes
) -> None:
    response = client.post(route, content=body, headers=JSON)
    assert problem_faults(response, 400, "malformed") == []


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
def test_only_json_in_utf_8_is_accepted(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    body = json.dumps(CUSTOMER).encode()
    for route, content in (("/predict", body), ("/predict/batch", b'{"customers":[%s]}' % body)):
        response = client.post(route, content=content, headers=headers)
        assert response.status_code == status, response.text
        if status != 200:
            assert problem_faults(response, 415, "unsupported-media-type") == []
            accepted = "Accept-Encoding" if "Content-Encoding" in headers else "Accept"
            assert response.headers[accepted] in ("application/json", "identity")


@pytest.mark.parametrize(
    ("route", "body", "limit"),
    [
        ("/predict", CUSTOMER, 64 * 2**10),
        ("/predict/batch", {"customers": [CUSTOMER]}, 8 * 2**20),
    ],
)
def test_a_body_is_accepted_up_to_the_limit(
    server: ServedBento, route: str, body: dict[str, Any], limit: int
) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        yield json.dumps(body).encode().ljust(size)

    client = server.client
    assert client.post(route, content=next(chunks(limit)), headers=JSON).status_code == 200
    assert client.post(route, content=chunks(limit), headers=JSON).status_code == 200
    # A body without a length, and a body that is refused by its length before it is sent.
    response = client.post(route, content=chunks(limit + 1), headers=JSON)
    assert problem_faults(response, 413, "too-large") == []
    assert response_to_head(server, route, limit + 1).startswith(b"HTTP/1.1 413 ")


def response_to_head(server: ServedBento, route: str, size: int) -> bytes:
    """Sends the head of a request without its body, and returns the first bytes of the response."""
    url = urlsplit(server.url)
    assert url.port is not None
    with socket.create_connection(("127.0.0.1", url.port), timeout=5) as connection:
        head = f"POST {route} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json"
        connection.sendall(f"{head}\r\nContent-Length: {size}\r\n\r\n".encode())
        return connection.recv(100)


@pytest.mark.parametrize("count", [0, 10_001])
@pytest.mark.parametrize("query", ["", "?on_error=skip"])
def test_a_batch_that_is_empty_or_too_large_is_refused(
    client: httpx.Client, count: int, query: str
) -> None:
    body = {"customers": [CUSTOMER] * count}
    response = client.post(f"/predict/batch{query}", json=body)
    assert pointers_and_checks(problem_faults(response, 422, "validation")) == [
        ("/customers", "in_range")
    ]


@pytest.mark.parametrize("query", ["", "?on_error=refuse"])
def test_a_faulty_batch_is_refused(client: httpx.Client, query: str) -> None:
    response = client.post(f"/predict/batch{query}", json=faulty_batch())
    assert pointers_and_checks(problem_faults(response, 422, "validation")) == FAULTS


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
def test_a_body_that_is_not_a_batch_is_refused(
    client: httpx.Client, body: Any, pointer: str, query: str
) -> None:
    response = client.post(f"/predict/batch{query}", json=body)
    assert [one["pointer"] for one in problem_faults(response, 422, "validation")] == [pointer]


@pytest.mark.parametrize("given", ["stop", "", "SKIP", "skip&on_error=skip"])
def test_other_values_of_on_error_are_refused(client: httpx.Client, given: str) -> None:
    response = client.post(f"/predict/batch?on_error={given}", json={"customers": [CUSTOMER]})
    assert problem_faults(response, 422, "validation") == []
    assert "must be 'refuse' or 'skip'" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/predict/batch/1", "/Predict"])
def test_an_unknown_path_is_not_found(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        assert problem_faults(client.request(method, path), 404, "not-found") == []


@pytest.mark.parametrize(
    ("route", "allowed"),
    [("/predict", "POST"), ("/predict/batch", "POST"), ("/model", "GET, HEAD"),
     ("/health", "GET, HEAD"), ("/docs", "GET, HEAD"), ("/docs.json", "GET, HEAD")],
)  # fmt: skip
def test_a_wrong_method_is_refused_with_the_allowed_ones(
    client: httpx.Client, route: str, allowed: str
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(allowed.split(", ")):
        response = client.request(method, route)
        assert problem_faults(response, 405, "method-not-allowed") == []
        assert response.headers["Allow"] == allowed
