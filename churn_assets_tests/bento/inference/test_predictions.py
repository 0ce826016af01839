"""Single and batch predictions equal the scorer's, and are counted and logged."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from churn_service.inference.predictions import (
    CHUNK,
    ENCODE_PREDICTION,
    ENCODE_PREDICTIONS,
    Predictions,
    Predictor,
    RequestContext,
)
from churn_service.inference.served_model import ServedModel, Unavailable
from churn_service.observability.metrics import Metrics
from churn_service.observability.prediction_log import PredictionLog
from churn_service.problems import Fault
from pydantic import BaseModel

from churn_assets_tests.bento.expected_responses import MODEL, expected_prediction
from churn_assets_tests.bento.in_process import (
    isolated_metrics,
    metric_value,
    model_folder,
    nan_scorer,
)
from churn_assets_tests.bentos import CONTRACT, FALLBACK, customers, model_card

BODIES = customers(2 * CHUNK + 1)
CUSTOMERS = [MODEL.model_validate(body) for body in BODIES]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    with isolated_metrics(model_card()) as metrics:
        yield metrics


@pytest.fixture
def model(tmp_path: Path, metrics: Metrics) -> ServedModel:
    folder = model_folder(tmp_path / "model")
    opened = metrics.breaker_opened
    served = ServedModel(folder, CONTRACT, failures=2, seconds=30, opened=opened)
    assert served.ready()
    return served


@pytest.fixture
def log(tmp_path: Path, metrics: Metrics) -> Iterator[PredictionLog]:
    log = PredictionLog(
        tmp_path / "log",
        CONTRACT,
        bytes(32),
        file_bytes=10**8,
        files=4,
        queue=10_000,
        dropped=metrics.dropped,
    )
    log.start()
    yield log
    log.close(10)


@pytest.fixture
def predictor(model: ServedModel, metrics: Metrics, log: PredictionLog) -> Predictor:
    return Predictor(CONTRACT, model, metrics, log)


def predict_batch(predictor: Predictor, batch: list[BaseModel], *arguments: Any) -> Predictions:
    return asyncio.run(predictor.predict_batch(batch, *(arguments or (RequestContext(),))))


def log_lines(folder: Path) -> dict[str, dict[str, Any]]:
    """Lines of the prediction log, by prediction id."""
    files = folder.rglob("*.jsonl")
    lines = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    assert len({line["prediction_id"] for line in lines}) == len(lines)
    return {line["prediction_id"]: line for line in lines}


@pytest.mark.parametrize("number", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_batch_and_single_predictions_are_equal(predictor: Predictor, number: int) -> None:
    together = predict_batch(predictor, CUSTOMERS[:number]).predictions
    alone = [predictor.predict(customer, RequestContext()) for customer in CUSTOMERS[:number]]
    for body, one, other in zip(BODIES[:number], together, alone, strict=True):
        assert asdict(one) == expected_prediction(body, asdict(one))
        assert asdict(other) == expected_prediction(body, asdict(other))
    ids = {one.prediction_id for one in (*together, *alone)}
    assert len(ids) == 2 * number


def test_each_predictor_generates_other_ids(
    model: ServedModel, metrics: Metrics, log: PredictionLog
) -> None:
    both = [Predictor(CONTRACT, model, metrics, log) for _ in range(2)]
    first, second = (
        predictor.predict(CUSTOMERS[0], RequestContext()).prediction_id for predictor in both
    )
    assert first != second


def test_json_has_the_exact_values(predictor: Predictor) -> None:
    one = predictor.predict(CUSTOMERS[0], RequestContext())
    assert json.loads(ENCODE_PREDICTION(one)) == asdict(one)
    fault = Fault("/customers/1/age", "too young", "in_range", 17)
    batch = predict_batch(predictor, CUSTOMERS[:2], RequestContext(), [fault])
    assert json.loads(ENCODE_PREDICTIONS(batch)) == {
        "predictions": [asdict(one) for one in batch.predictions],
        "problems": [asdict(fault)],
        "model_version": "3",
        "degraded": False,
    }


def test_metrics_count_every_prediction(predictor: Predictor) -> None:
    alone = [predictor.predict(customer, RequestContext()) for customer in CUSTOMERS[:40]]
    together = predict_batch(predictor, CUSTOMERS).predictions
    for endpoint, predictions in (("/predict", alone), ("/predict/batch", together)):
        for risk in ("low", "medium", "high"):
            labels = {"model_version": "3", "endpoint": endpoint, "risk_category": risk}
            count = sum(one.risk_category == risk for one in predictions)
            assert metric_value("churn_predictions_total", **labels) == count > 0
    latency = "churn_prediction_latency_seconds_count"
    assert metric_value(latency, endpoint="/predict") == 40
    assert metric_value(latency, endpoint="/predict/batch") == 1
    assert metric_value("churn_batch_size_sum") == len(CUSTOMERS)
    known = {"Berlin", "Paris"}
    unknown_locations = [body["location"] not in known for body in (*BODIES[:40], *BODIES)]
    unknown = metric_value("churn_unknown_categories_total", column="location")
    assert unknown == sum(unknown_locations) > 0
    assert metric_value("churn_degraded_predictions_total") == 0


def test_every_prediction_is_logged(
    predictor: Predictor, log: PredictionLog, tmp_path: Path
) -> None:
    context = RequestContext(key_id="crm", trace_id="a" * 32)
    alone = predictor.predict(CUSTOMERS[0], context)
    together = predict_batch(predictor, CUSTOMERS[1:4]).predictions
    log.close(10)
    lines = log_lines(tmp_path / "log")
    assert lines.keys() == {one.prediction_id for one in (alone, *together)}
    for one in (alone, *together):
        line = lines[one.prediction_id]
        assert line["churn_probability"] == one.churn_probability
        assert (line["model_version"], line["degraded"]) == ("3", False)
    first, second = lines[alone.prediction_id], lines[together[0].prediction_id]
    keys = ("endpoint", "key_id", "trace_id")
    assert [first[key] for key in keys] == ["/predict", "crm", "a" * 32]
    assert [second[key] for key in keys] == ["/predict/batch", "", ""]
    assert second["features"]["tenure"] == BODIES[1]["tenure"]


def test_predictor_works_without_a_prediction_log(model: ServedModel, metrics: Metrics) -> None:
    predictor = Predictor(CONTRACT, model, metrics, None)
    one = predictor.predict(CUSTOMERS[0], RequestContext())
    assert asdict(one) == expected_prediction(BODIES[0], asdict(one))
    assert len(predict_batch(predictor, CUSTOMERS[:2]).predictions) == 2


@pytest.fixture
def broken(tmp_path: Path, metrics: Metrics, log: PredictionLog) -> Predictor:
    """A predictor whose main scorer cannot be read."""
    folder = model_folder(tmp_path / "broken")
    (folder / "scorer.npz").write_bytes(b"")
    opened = metrics.breaker_opened
    model = ServedModel(folder, CONTRACT, failures=2, seconds=30, opened=opened)
    return Predictor(CONTRACT, model, metrics, log)


def test_degraded_predictions_are_marked_in_response_metrics_and_log(
    broken: Predictor, log: PredictionLog, tmp_path: Path, model: ServedModel
) -> None:
    alone = broken.predict(CUSTOMERS[0], RequestContext())
    batch = predict_batch(broken, CUSTOMERS[:3])
    assert batch.degraded
    for customer, one in zip(
        (*CUSTOMERS[:1], *CUSTOMERS[:3]), (alone, *batch.predictions), strict=True
    ):
        assert one.degraded
        assert one.churn_probability == FALLBACK.score_one(model.features.row(customer))
        assert one.risk_category == model.card.risk_category(one.churn_probability)
    assert metric_value("churn_degraded_predictions_total") == 4
    assert metric_value("churn_breaker_opened_total") == 1
    log.close(10)
    assert [line["degraded"] for line in log_lines(tmp_path / "log").values()] == [True] * 4


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_batch_is_degraded_if_one_chunk_is(tmp_path: Path, metrics: Metrics, place: int) -> None:
    folder = model_folder(tmp_path / "half", nan_scorer("Paris", 1), rows=1)
    opened = metrics.breaker_opened
    model = ServedModel(folder, CONTRACT, failures=2, seconds=30, opened=opened)
    bodies = [body | {"location": "Berlin"} for body in BODIES]
    bodies[place]["location"] = "Paris"
    instances = [MODEL.model_validate(body) for body in bodies]
    batch = predict_batch(Predictor(CONTRACT, model, metrics, None), instances)
    assert batch.degraded
    chunks = [i // CHUNK for i, one in enumerate(batch.predictions) if one.degraded]
    assert set(chunks) == {place // CHUNK}
    assert metric_value("churn_degraded_predictions_total") == len(instances), "all customers count"


def test_without_a_working_scorer_nothing_is_counted_or_logged(
    tmp_path: Path, metrics: Metrics, log: PredictionLog
) -> None:
    folder = model_folder(tmp_path / "gone")
    for name in ("scorer.npz", "fallback/scorer.npz"):
        (folder / name).unlink()
    opened = metrics.breaker_opened
    model = ServedModel(folder, CONTRACT, failures=2, seconds=30, opened=opened)
    predictor = Predictor(CONTRACT, model, metrics, log)
    with pytest.raises(Unavailable):
        predictor.predict(CUSTOMERS[0], RequestContext())
    with pytest.raises(Unavailable):
        predict_batch(predictor, CUSTOMERS[:3])
    log.close(10)
    assert log_lines(tmp_path / "log") == {}
    assert metric_value("churn_high_risk_customers_total") == 0
    assert metric_value("churn_prediction_latency_seconds_count", endpoint="/predict") == 0


def test_other_requests_run_between_the_chunks_of_a_batch(predictor: Predictor) -> None:
    """Another request waits for one chunk, not for the whole batch."""
    runs = 0

    async def other() -> None:
        nonlocal runs
        while True:
            runs += 1
            await asyncio.sleep(0)

    async def both() -> None:
        waiting = asyncio.create_task(other())
        await predictor.predict_batch(CUSTOMERS, RequestContext())
        waiting.cancel()

    asyncio.run(both())
    assert runs >= len(CUSTOMERS) // CHUNK


def test_the_ids_in_the_log_have_no_gap_and_are_in_order(
    tmp_path: Path, predictor: Predictor, log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch fails, or its caller leaves, after some customers were scored."""

    async def cancelled() -> None:
        task = asyncio.create_task(predictor.predict_batch(CUSTOMERS * 3, RequestContext()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    context = RequestContext()
    predictor.predict(CUSTOMERS[0], context)
    asyncio.run(cancelled())
    predict_batch(predictor, CUSTOMERS[:3])
    with monkeypatch.context() as patch:
        patch.setattr(predictor._model, "score", lambda columns: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict_batch(predictor, CUSTOMERS[:3])
    predictor.predict(CUSTOMERS[0], context)
    log.close(10)
    [file] = (tmp_path / "log").rglob("*.jsonl")
    ids = [json.loads(line)["prediction_id"] for line in file.read_text("utf-8").splitlines()]
    assert len({one.partition("-")[0] for one in ids}) == 1
    assert [int(one.partition("-")[2], 16) for one in ids] == [0, 1, 2, 3, 4]
