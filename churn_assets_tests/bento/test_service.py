"""Predictions and documentation of a server with default settings, over HTTP."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest

from churn_assets_tests.bento.expected_responses import (
    CUSTOMER,
    FAULTS,
    FEATURES,
    MODEL,
    customer_json_with,
    expected_prediction,
    expected_probability,
    faulty_batch,
    pointers_and_checks,
)
from churn_assets_tests.bento.served_bento import JSON, ServedBento
from churn_assets_tests.bentos import CONTRACT, SCORER, customers, model_card

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def document(server: ServedBento) -> dict[str, Any]:
    documented: dict[str, Any] = server.client.get("/docs.json").json()
    return documented


def test_a_prediction_is_the_scorers_to_the_bit(client: httpx.Client) -> None:
    ids, risks = set(), set()
    for customer in customers(400):
        response = client.post("/predict", json=customer)
        assert response.status_code == 200, response.text
        given = response.json()
        expected = expected_prediction(customer, given)
        assert list(given.items()) == list(expected.items())
        ids.add(given["prediction_id"])
        risks.add((given["risk_category"], given["will_churn"]))
    assert len(ids) == 400
    assert risks == {("low", False), ("medium", False), ("high", True)}


def test_a_batch_of_ten_thousand_customers_is_scored_to_the_bit(client: httpx.Client) -> None:
    sent = customers(10_000)
    response = client.post("/predict/batch", json={"customers": sent})
    given = response.json()
    assert given.keys() == {"predictions", "problems", "model_version", "degraded"}
    assert (given["problems"], given["model_version"], given["degraded"]) == ([], "3", False)
    predictions = given["predictions"]
    assert [one["customer_id"] for one in predictions] == [f"C-{i}" for i in range(10_000)]
    assert len({one["prediction_id"] for one in predictions}) == 10_000
    online = np.array([one["churn_probability"] for one in predictions])
    instances = [MODEL.model_validate_json(json.dumps(one)) for one in sent]
    columns = FEATURES.columns(instances)
    assert np.abs(online - SCORER.score(columns)).max() == 0.0
    one_by_one = [expected_probability(customer) for customer in sent[::20]]
    assert online[::20].tolist() == one_by_one
    assert all(
        one == expected_prediction(c, one)
        for c, one in zip(sent[:500], predictions[:500], strict=True)
    )


def test_a_batch_may_hold_one_customer(client: httpx.Client) -> None:
    [given] = client.post("/predict/batch", json={"customers": [CUSTOMER]}).json()["predictions"]
    assert given == expected_prediction(CUSTOMER, given)


def test_a_batch_may_hold_the_same_customer_twice(client: httpx.Client) -> None:
    given = client.post("/predict/batch", json={"customers": [CUSTOMER] * 2}).json()["predictions"]
    assert len({one["prediction_id"] for one in given}) == 2
    assert given[0] | {"prediction_id": ""} == given[1] | {"prediction_id": ""}


def test_valid_customers_are_scored_where_faulty_ones_are_skipped(client: httpx.Client) -> None:
    response = client.post("/predict/batch?on_error=skip", json=faulty_batch())
    assert response.status_code == 200, response.text
    given = response.json()
    assert pointers_and_checks(given["problems"]) == FAULTS
    valid = [faulty_batch()["customers"][i] for i in (0, 2, 4)]
    assert given["predictions"] == [
        expected_prediction(customer, one)
        for customer, one in zip(valid, given["predictions"], strict=True)
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("age", "18"),
        ("age", "110"),
        ("age", "42.0"),  # JSON does not distinguish integers and floats
        ("age", "4.2e1"),
        ("avg_data_usage", "0"),
        ("avg_data_usage", "-0.0"),
        ("avg_data_usage", "5e-324"),
        ("avg_data_usage", "1000"),
        ("avg_call_minutes", "null"),
        ("location", '"x"'),
        ("location", json.dumps("x" * 100)),
        ("location", json.dumps("Zürich 🏔", ensure_ascii=False)),
        ("location", r'"\ud83c\udfd4"'),
        ("customer_id", json.dumps("/~\"'<&> 🏔")),
    ],
)
def test_values_that_the_contract_allows_are_scored(
    client: httpx.Client, field: str, value: str
) -> None:
    body = customer_json_with(field, value)
    response = client.post("/predict", content=body, headers=JSON)
    assert response.status_code == 200, response.text
    assert response.json() == expected_prediction(json.loads(body), response.json())


def test_a_nullable_field_may_be_left_out(client: httpx.Client) -> None:
    without = {name: value for name, value in CUSTOMER.items() if name != "avg_call_minutes"}
    given = client.post("/predict", json=without).json()
    assert given == expected_prediction(CUSTOMER | {"avg_call_minutes": None}, given)


def test_a_category_unknown_to_training_is_scored_and_counted(client: httpx.Client) -> None:
    def counted() -> float:
        name = r'^churn_unknown_categories_total\{column="location"\} (\S+)$'
        values = re.findall(name, client.get("/metrics").text, re.MULTILINE)
        return sum(map(float, values))

    before = counted()
    for location in ("Paris", "Ultima Thule", "Berlin", "Avalon"):
        customer = CUSTOMER | {"location": location}
        given = client.post("/predict", json=customer).json()
        assert given == expected_prediction(customer, given)
    batch = [CUSTOMER | {"location": location} for location in ("Avalon", "Paris", "Avalon")]
    assert client.post("/predict/batch", json={"customers": batch}).status_code == 200
    assert counted() - before == 4


def test_health_reports_status_model_version_and_start(client: httpx.Client) -> None:
    response = client.get("/health")
    since = datetime.fromisoformat(response.json()["since"])
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "model_version": "3",
        "since": since.isoformat(timespec="seconds"),
        "degraded": False,
    }
    assert 0 <= (datetime.now(UTC) - since).total_seconds() < 600
    assert client.head("/health").content == b""


@pytest.mark.parametrize("route", ["/livez", "/readyz"])
def test_the_probes_succeed(client: httpx.Client, route: str) -> None:
    assert client.get(route).status_code == 200


def test_the_model_is_described(client: httpx.Client) -> None:
    about = client.get("/model").json()
    card = model_card().model_dump(mode="json")
    own = {"scores", "contract", "limits"}
    assert {name: about[name] for name in card.keys() - own} == {
        name: card[name] for name in card.keys() - own
    }
    contract = about["contract"]
    assert (contract["name"], contract["version"]) == ("telecom", "1.0.0")
    assert contract["predicts"] == CONTRACT.label.description
    assert contract["horizon_months"] == CONTRACT.horizon_months
    assert contract["inputs"] == {column.name: column.limits for column in CONTRACT.features}
    assert contract["derived"].keys() == {feature.name for feature in CONTRACT.derived}
    assert about["limits"] == {
        "customers_in_a_batch": 10_000,
        "body_bytes": 8 * 2**20,
        "seconds": 10.0,
        "rate": "60000/minute",
    }


def test_the_documentation_page_loads_nothing_from_a_third_party(client: httpx.Client) -> None:
    page = client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert page.headers["Content-Type"].startswith("text/html")
    assert "swagger" in page.text
    files = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(files) >= 4
    assert all(file.startswith("./") for file in files)
    assert "http" not in page.text.replace("http-equiv", "")
    responses = [client.get(page.url.join(file)) for file in files]
    assert {response.status_code for response in responses} == {200}
    assert any(
        "./docs.json" in response.text for response in responses if len(response.content) < 5_000
    )


def test_every_route_is_documented(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    routes = {(method, path) for path, of in document["paths"].items() for method in of}
    assert routes == {
        ("post", "/predict"), ("post", "/predict/batch"), ("get", "/model"), ("get", "/health"),
        ("get", "/livez"), ("get", "/readyz"), ("get", "/metrics"),
    }  # fmt: skip


def schema(document: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body, with the definitions that it refers to."""
    [media] = content.values()
    return {**media["schema"], "components": document["components"]}


def test_the_schema_of_a_customer_follows_the_contract(document: dict[str, Any]) -> None:
    customer = document["components"]["schemas"]["Customer"]
    assert set(customer["properties"]) == {"customer_id", *(c.name for c in CONTRACT.features)}
    assert customer["additionalProperties"] is False
    assert set(customer["properties"]) - set(customer["required"]) == {"avg_call_minutes"}
    tenure = customer["properties"]["tenure"]
    assert (tenure["type"], tenure["minimum"], tenure["maximum"]) == ("integer", 0, 720)


def test_documented_requests_get_documented_responses(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    customer = document["components"]["schemas"]["Customer"]["example"]
    for path, body in (("/predict", customer), ("/predict/batch", {"customers": [customer]})):
        operation = document["paths"][path]["post"]
        jsonschema_rs.validate(schema(document, operation["requestBody"]["content"]), body)
        for given, status in ((body, 200), (body | {"nonsense": 1}, 422)):
            response = client.post(path, json=given)
            documented = operation["responses"][str(status)]["content"]
            assert response.status_code == status, response.text
            assert response.headers["Content-Type"] in documented
            jsonschema_rs.validate(schema(document, documented), response.json())
    for path in ("/health", "/model"):
        documented = document["paths"][path]["get"]["responses"]["200"]["content"]
        jsonschema_rs.validate(schema(document, documented), client.get(path).json())


def test_a_service_without_keys_logs_that_it_is_open(server: ServedBento) -> None:
    own = [line for line in server.log_lines() if line["logger"] == "churn.service"]
    [line] = [line for line in own if "CHURN_API_KEYS_FILE" in line["message"]]
    assert line["level"] == "WARNING"
    assert "open to everyone on this machine" in line["message"]


def test_without_exported_traces_only_the_clients_trace_id_is_logged(server: ServedBento) -> None:
    for given, expected in (("00", TRACE), ("ff", "")):
        headers = {"traceparent": f"{given}-{TRACE}-00f067aa0ba902b7-01"}
        response = server.client.post("/predict", json=CUSTOMER, headers=headers)
        line = server.request_line(response.headers["X-Request-ID"])
        prediction_id = response.json()["prediction_id"]
        logged = server.prediction_lines({prediction_id})[prediction_id]
        assert line["trace_id"] == logged["trace_id"] == expected


def test_unknown_paths_add_no_metric_series(client: httpx.Client) -> None:
    before = len(client.get("/metrics").text.splitlines())
    for number in range(20):
        assert client.get(f"/of-nobody/{number}").status_code == 404
        assert client.get(f"/static_content/{number}").status_code == 404
    # One more endpoint, not forty.
    assert len(client.get("/metrics").text.splitlines()) < before + 40
