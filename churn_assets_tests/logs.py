"""Prediction logs that the service's own code writes, for tests of their readers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn_service.observability.last_prediction import SUFFIX
from churn_service.observability.prediction_log import PredictionLog, RequestPredictions

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.request import request_model

KEY = bytes(range(32))


@dataclass
class StubPrediction:
    """The fields of a prediction that the log reads."""

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
    pod_info: Path | None = None,
    keep_last: bool = False,
    **changes: Any,
) -> None:
    """Writes one worker's log of predictions for these customers to `<folder>/<contract>`.

    Args:
        pod_info: Folder of the pod's fields.
        keep_last: Whether the file of the last prediction stays: readers of lines do not need it.
    """
    lost: list[tuple[str, int]] = []
    log = PredictionLog(
        folder, contract, KEY, file_bytes=file_bytes, files=1_000, queue=len(bodies) + 1,
        dropped=lambda reason, count: lost.append((reason, count)), pod_info=pod_info,
    )  # fmt: skip
    model = request_model(contract)
    probabilities = probabilities or [i % 100 / 100 for i in range(len(bodies))]
    predictions = [StubPrediction(one, p) for one, p in zip(ids, probabilities, strict=True)]
    fields = {
        "endpoint": "/predict/batch", "key_id": "crm", "trace_id": "", "model_version": "1",
        "degraded": False, **changes,
    }  # fmt: skip
    log.start()
    log.put(
        RequestPredictions(
            time=time.timestamp(),
            customers=[model.model_validate(body) for body in bodies],
            predictions=predictions,
            **fields,
        )
    )
    log.close(30)
    assert not lost
    for path in () if keep_last else folder.rglob(f"*{SUFFIX}"):
        path.unlink()
