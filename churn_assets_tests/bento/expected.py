"""What the service must answer to a customer, and to what is none."""

import json
from typing import Any

import httpx

from churn_assets.contracts.request import RequestFeatures, request_model
from churn_assets_tests.bentos import CONTRACT, SCORER, customers, model_card

CUSTOMER = customers(1)[0] | {"location": "Paris"}
MODEL, FEATURES = request_model(CONTRACT), RequestFeatures(CONTRACT)


def faulty_batch() -> dict[str, Any]:
    """Five customers, the second and the fourth of whom have faults."""
    batch = customers(5)
    batch[1] |= {"age": 17, "tenure": "12"}
    batch[3] |= {"nonsense": 1}
    return {"customers": batch}


FAULTS = [
    ("/customers/1/age", "in_range"),
    ("/customers/1/tenure", "typed"),
    ("/customers/3/nonsense", "known_fields"),
]
"""Pointers and checks of a faulty batch."""


def probability(customer: dict[str, Any]) -> float:
    """What the scorer gives, asked without the service."""
    return SCORER.score_one(FEATURES.row(MODEL.model_validate_json(json.dumps(customer))))


def prediction(customer: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What the answer must be; the id of the prediction is the service's to choose."""
    expected = probability(customer)
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


def changed(field: str, value: str) -> bytes:
    """A customer with this JSON in one field."""
    others = {name: given for name, given in CUSTOMER.items() if name != field}
    return f"{json.dumps(others)[:-1]}, {json.dumps(field)}: {value}}}".encode()


def problem(answer: httpx.Response, status: int, kind: str) -> list[dict[str, Any]]:
    """Holds a refusal against RFC 9457, and returns its faults."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    about: dict[str, Any] = answer.json()
    faults: list[dict[str, Any]] = about.pop("problems", [])
    assert about.keys() == {"type", "title", "status", "detail"}
    assert about["type"] == f"urn:churn:problem:{kind}"
    assert about["status"] == status
    assert about["title"]
    assert about["detail"]
    assert all(fault.keys() == {"pointer", "detail", "check", "value"} for fault in faults)
    return faults


def found(faults: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pointer and check of each fault."""
    return [(fault["pointer"], fault["check"]) for fault in faults]
