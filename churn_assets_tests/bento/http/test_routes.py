"""The response of each route, and the requests that it refuses."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from churn_service.http.routes import SMALL

from churn_assets_tests.bento.expected_responses import (
    CUSTOMER,
    FAULTS,
    assert_problem,
    expected_prediction,
    faulty_batch,
    pointers_and_checks,
    problem_faults,
)
from churn_assets_tests.bento.in_process import (
    InProcessService,
    body_messages,
    in_process_service,
    metric_value,
    model_folder,
)

JSON = "application/json"
BODY = json.dumps(CUSTOMER).encode()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[InProcessService]:
    with in_process_service(tmp_path, max_batches=1) as started:
        yield started


def test_a_batch_gets_predictions(service: InProcessService) -> None:
    response = service.post("/predict/batch", {"customers": [CUSTOMER] * 3})
    given = response.json()
    assert given["predictions"] == [
        expected_prediction(CUSTOMER, one) for one in given["predictions"]
    ]
    assert len({one["prediction_id"] for one in given["predictions"]}) == 3
    assert (given["problems"], given["degraded"]) == ([], False)


@pytest.mark.parametrize("query", [b"", b"on_error=refuse", b"other=1"])
def test_a_faulty_batch_is_refused(service: InProcessService, query: bytes) -> None:
    response = service.post("/predict/batch", faulty_batch(), query=query)
    assert pointers_and_checks(problem_faults(response, 422, "validation")) == FAULTS
    assert metric_value("churn_batch_size_count") == 0


def test_faulty_customers_of_a_batch_can_be_skipped(service: InProcessService) -> None:
    response = service.post("/predict/batch", faulty_batch(), query=b"on_error=skip")
    assert response.status_code == 200
    assert pointers_and_checks(response.json()["problems"]) == FAULTS
    ids = [one["customer_id"] for one in response.json()["predictions"]]
    assert ids == ["C-0", "C-2", "C-4"]
    assert metric_value("churn_batch_size_sum") == 3
    assert metric_value("churn_prediction_errors_total", error_type="validation") == 0


@pytest.mark.parametrize(
    "query",
    [b"on_error=", b"on_error=Skip", b"on_error=skip&on_error=skip", b"on_error=%ff", b"on_error"],
)
def test_other_values_of_on_error_are_refused(service: InProcessService, query: bytes) -> None:
    response = service.post("/predict/batch", {"customers": [CUSTOMER]}, query=query)
    assert_problem(response, 422, "validation")
    assert "on_error" in response.json()["detail"]


def test_the_documentation_is_served(service: InProcessService) -> None:
    page = service.request("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"http" not in page.content, "the page loads nothing from elsewhere"
    index = service.request("GET", "/")
    assert (index.status_code, index.headers["location"]) == (307, "docs")
    assert service.request("GET", "/docs.json").json()["openapi"] == "3.1.0"


def test_the_model_is_described_without_its_scores(service: InProcessService) -> None:
    about = service.request("GET", "/model").json()
    assert (about["version"], about["table_versions"]) == ("3", {"training_set": 7})
    assert about["limits"]["customers_in_a_batch"] == 10_000
    assert set(about["contract"]["inputs"]) == set(CUSTOMER) - {"customer_id"}
    assert "scores" not in about


def test_health_reports_a_sound_model(service: InProcessService) -> None:
    response = service.request("GET", "/health")
    assert response.status_code == 200
    given = response.json()
    assert (given["status"], given["model_version"], given["degraded"]) == ("ok", "3", False)
    assert datetime.fromisoformat(given["since"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("broken", "status", "word"),
    [((".",), 200, "degraded"), ((".", "fallback"), 503, "unavailable")],
)
def test_health_reports_broken_scorers(
    tmp_path: Path, broken: tuple[str, ...], status: int, word: str
) -> None:
    folder = model_folder(tmp_path / "model")
    for name in broken:
        (folder / name / "scorer.npz").unlink()
    with in_process_service(tmp_path) as service:
        response = service.request("GET", "/health")
        assert (response.status_code, response.json()["status"]) == (status, word)
        assert response.json()["degraded"]
        response = service.post("/predict", CUSTOMER)
        if word == "degraded":
            assert (response.status_code, response.json()["degraded"]) == (200, True)
            assert service.worker.ready()
        else:
            assert_problem(response, 503, "unavailable")
            assert response.headers["retry-after"] == "5"
            assert not service.worker.ready()


LARGE = json.dumps({"customers": [CUSTOMER] * 1_000}).encode()
FEW = json.dumps({"customers": [CUSTOMER]}).encode()


@pytest.mark.parametrize(
    ("size", "with_length", "expected"),
    [(SMALL - 1, True, 200), (SMALL, True, 200), (SMALL + 1, True, 503), (SMALL, False, 503)],
)
def test_only_small_batches_are_scored_beside_a_large_one(
    service: InProcessService, size: int, with_length: bool, expected: int
) -> None:
    """The limit is one large batch. Only a batch that announces its length counts as small."""
    options = (
        {} if with_length else {"messages": body_messages(FEW.ljust(size)), "content_type": JSON}
    )

    async def both() -> list[httpx.Response | None]:
        body = FEW.ljust(size) if with_length else None
        first = service.send("POST", "/predict/batch", LARGE)
        second = service.send("POST", "/predict/batch", body, **options)
        return list(await asyncio.gather(first, second))

    first, second = asyncio.run(both())
    assert first is not None
    assert second is not None
    assert (first.status_code, second.status_code) == (200, expected)
    if expected == 503:
        assert_problem(second, 503, "overloaded")
        assert second.headers["retry-after"] == "1"
    assert service.request("POST", "/predict/batch", LARGE).status_code == 200, (
        "its place is free again"
    )


@pytest.mark.parametrize("spare", [1, 0, -1])
def test_the_body_of_one_customer_has_a_limit(service: InProcessService, spare: int) -> None:
    response = service.request("POST", "/predict", BODY.ljust(SMALL - spare))
    if spare >= 0:
        assert response.status_code == 200
    else:
        assert_problem(response, 413, "too-large")
        assert response.headers["connection"] == "close"
