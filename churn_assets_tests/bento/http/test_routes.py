"""What each route answers, and what it refuses."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from churn_service.http.routes import SMALL

from churn_assets_tests.bento.expected import CUSTOMER, FAULTS, faulty_batch, found, prediction
from churn_assets_tests.bento.inside import (
    Answered,
    House,
    body_messages,
    house,
    metric,
    model_folder,
    problem,
)

JSON = "application/json"
BODY = json.dumps(CUSTOMER).encode()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, max_batches=1) as built:
        yield built


def test_a_batch_is_answered(opened: House) -> None:
    answer = opened.post("/predict/batch", {"customers": [CUSTOMER] * 3})
    given = answer.json
    assert given["predictions"] == [prediction(CUSTOMER, one) for one in given["predictions"]]
    assert len({one["prediction_id"] for one in given["predictions"]}) == 3
    assert (given["problems"], given["degraded"]) == ([], False)


@pytest.mark.parametrize("query", [b"", b"on_error=refuse", b"other=1"])
def test_a_faulty_batch_is_refused(opened: House, query: bytes) -> None:
    answer = opened.post("/predict/batch", faulty_batch(), query=query)
    assert found(problem(answer, 422, "validation")) == FAULTS
    assert metric("churn_batch_size_count") == 0


def test_of_a_faulty_batch_the_good_can_be_asked_for(opened: House) -> None:
    answer = opened.post("/predict/batch", faulty_batch(), query=b"on_error=skip")
    assert answer.status == 200
    assert found(answer.json["problems"]) == FAULTS
    ids = [one["customer_id"] for one in answer.json["predictions"]]
    assert ids == ["C-0", "C-2", "C-4"]
    assert metric("churn_batch_size_sum") == 3
    assert metric("churn_prediction_errors_total", error_type="validation") == 0


@pytest.mark.parametrize(
    "query",
    [b"on_error=", b"on_error=Skip", b"on_error=skip&on_error=skip", b"on_error=%ff", b"on_error"],
)
def test_another_way_with_errors_is_refused(opened: House, query: bytes) -> None:
    answer = opened.post("/predict/batch", {"customers": [CUSTOMER]}, query=query)
    problem(answer, 422, "validation")
    assert "on_error" in answer.json["detail"]


def test_pages_are_shown(opened: House) -> None:
    page = opened.ask("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"http" not in page.body, "nothing is fetched from elsewhere"
    index = opened.ask("GET", "/")
    assert (index.status, index.headers["location"]) == (307, "docs")
    assert opened.ask("GET", "/docs.json").json["openapi"] == "3.1.0"


def test_the_model_is_described_without_what_callers_do_not_need(opened: House) -> None:
    about = opened.ask("GET", "/model").json
    assert (about["version"], about["table_versions"]) == ("3", {"training_set": 7})
    assert about["limits"]["customers_in_a_batch"] == 10_000
    assert set(about["contract"]["inputs"]) == set(CUSTOMER) - {"customer_id"}
    assert "scores" not in about


def test_health_is_told(opened: House) -> None:
    answer = opened.ask("GET", "/health")
    assert answer.status == 200
    given = answer.json
    assert (given["status"], given["model_version"], given["degraded"]) == ("ok", "3", False)
    assert datetime.fromisoformat(given["since"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("broken", "status", "word"),
    [((".",), 200, "degraded"), ((".", "fallback"), 503, "unavailable")],
)
def test_health_tells_what_is_broken(
    tmp_path: Path, broken: tuple[str, ...], status: int, word: str
) -> None:
    folder = model_folder(tmp_path / "model")
    for name in broken:
        (folder / name / "scorer.npz").unlink()
    with house(tmp_path) as built:
        answer = built.ask("GET", "/health")
        assert (answer.status, answer.json["status"]) == (status, word)
        assert answer.json["degraded"]
        answer = built.post("/predict", CUSTOMER)
        if word == "degraded":
            assert (answer.status, answer.json["degraded"]) == (200, True)
            assert built.worker.ready()
        else:
            problem(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "5"
            assert not built.worker.ready()


LARGE = json.dumps({"customers": [CUSTOMER] * 1_000}).encode()
FEW = json.dumps({"customers": [CUSTOMER]}).encode()


@pytest.mark.parametrize(
    ("size", "told", "expected"),
    [(SMALL - 1, True, 200), (SMALL, True, 200), (SMALL + 1, True, 503), (SMALL, False, 503)],
)
def test_beside_a_large_batch_only_small_ones_are_taken_in_hand(
    opened: House, size: int, told: bool, expected: int
) -> None:
    """One fits. What is small must be told before it comes."""
    messages = {} if told else {"messages": body_messages(FEW.ljust(size)), "content_type": JSON}

    async def both() -> list[Answered | None]:
        body = FEW.ljust(size) if told else None
        first = opened.begin("POST", "/predict/batch", LARGE)
        second = opened.begin("POST", "/predict/batch", body, **messages)
        return list(await asyncio.gather(first, second))

    first, second = asyncio.run(both())
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (200, expected)
    if expected == 503:
        problem(second, 503, "overloaded")
        assert second.headers["retry-after"] == "1"
    assert opened.ask("POST", "/predict/batch", LARGE).status == 200, "its place was given back"


@pytest.mark.parametrize("spare", [1, 0, -1])
def test_one_customer_takes_so_many_bytes_at_most(opened: House, spare: int) -> None:
    answer = opened.ask("POST", "/predict", BODY.ljust(SMALL - spare))
    if spare >= 0:
        assert answer.status == 200
    else:
        problem(answer, 413, "too-large")
        assert answer.headers["connection"] == "close"
