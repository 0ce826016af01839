"""Requests for the tests, and the responses that the service must send to them."""

import json
from collections.abc import Sequence
from typing import Any

import httpx

from churn_assets.contracts.request import RequestFeatures, request_model
from churn_assets_tests.bentos import CONTRACT, SCORER, customers, model_card

CUSTOMER = customers(1)[0] | {"location": "Paris"}
MODEL, FEATURES = request_model(CONTRACT), RequestFeatures(CONTRACT)


def customer_json_with(field: str, value: str) -> bytes:
    """The JSON of a customer, with the JSON `value` in one field."""
    others = {name: given for name, given in CUSTOMER.items() if name != field}
    return f"{json.dumps(others)[:-1]}, {json.dumps(field)}: {value}}}".encode()


def faulty_batch() -> dict[str, Any]:
    """Five customers; the second and the fourth have faults."""
    batch = customers(5)
    batch[1] |= {"age": 17, "tenure": "12"}
    batch[3] |= {"nonsense": 1}
    return {"customers": batch}


FAULTS = [
    ("/customers/1/age", "in_range"),
    ("/customers/1/tenure", "typed"),
    ("/customers/3/nonsense", "known_fields"),
]
"""Pointer and check of each fault of `faulty_batch`."""


def received(status: int, headers: Sequence[tuple[str, str]], body: bytes) -> httpx.Response:
    """A response exactly as it was received."""
    # httpx would add a Content-Length to a response that it builds from `content`.
    response = httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))
    response.read()
    return response


def expected_probability(customer: dict[str, Any]) -> float:
    """The scorer's probability, computed without the service."""
    return SCORER.score_one(FEATURES.row(MODEL.model_validate_json(json.dumps(customer))))


def expected_prediction(customer: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The prediction that the service must return; it chooses only the `prediction_id`."""
    expected = expected_probability(customer)
    card = model_card()
    return {
        "customer_id": customer["customer_id"],
        "churn_probability": expected,
        "will_churn": expected >= CONTRACT.economics.break_even_probability,
        "risk_category": card.risk_category(expected),
        "model_version": card.version,
        "prediction_id": given["prediction_id"],
        "degraded": False,
    }


def assert_problem(response: httpx.Response, status: int, kind: str) -> None:
    """Asserts that a response is a problem as RFC 9457 defines it."""
    assert (response.status_code, response.headers["Content-Type"]) == (
        status,
        "application/problem+json",
    ), response.text
    about: dict[str, Any] = response.json()
    faults: list[dict[str, Any]] = about.pop("problems", [])
    assert about.keys() == {"type", "title", "status", "detail"}
    assert about["type"] == f"urn:churn:problem:{kind}"
    assert about["status"] == status
    assert about["title"]
    assert about["detail"]
    assert all(fault.keys() == {"pointer", "detail", "check", "value"} for fault in faults)


def problem_faults(response: httpx.Response, status: int, kind: str) -> list[dict[str, Any]]:
    """Asserts that a response is a problem, and returns its faults."""
    assert_problem(response, status, kind)
    faults: list[dict[str, Any]] = response.json().get("problems", [])
    return faults


def pointers_and_checks(faults: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pointer and check of each fault."""
    return [(fault["pointer"], fault["check"]) for fault in faults]
