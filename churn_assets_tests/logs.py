"""Prediction logs as the service itself writes them, for tests of who reads them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn_service.observability.prediction_log import Logged, PredictionLog

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.request import request_model

KEY = bytes(range(32))


@dataclass
class Answer:
    prediction_id: str
    churn_probability: float


def write_log(
    folder: Path,
    contract: Contract,
    bodies: Sequence[dict[str, Any]],
    ids: Iterable[str],
    *,
    time: datetime = datetime(2026, 3, 5, tzinfo=UTC),
    file_bytes: int = 100_000,
    probabilities: Sequence[float] | None = None,
    **about: Any,
) -> None:
    """One worker's log of predictions about these customers, below `<folder>/<contract>`."""
    lost: list[tuple[str, int]] = []
    log = PredictionLog(
        folder, contract, KEY, file_bytes=file_bytes, files=1_000, queue=len(bodies) + 1,
        dropped=lambda reason, count: lost.append((reason, count)),
    )  # fmt: skip
    model = request_model(contract)
    given = probabilities or [i % 100 / 100 for i in range(len(bodies))]
    answers = [Answer(one, p) for one, p in zip(ids, given, strict=True)]
    told = {
        "endpoint": "/predict/batch", "key_id": "crm", "trace_id": "", "model_version": "1",
        "degraded": False, **about,
    }  # fmt: skip
    log.start()
    log.put(
        Logged(
            time=time.timestamp(),
            customers=[model.model_validate(body) for body in bodies],
            predictions=answers,
            **told,
        )
    )
    log.close(30)
    assert not lost
