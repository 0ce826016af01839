"""The prediction log: every prediction with its time, model and inputs.

Every prediction is one JSON line in a file of its process. A thread writes it through BentoML's
monitoring interface, so that no request waits for a disk. Each line is complete by itself and has
its own `prediction_id`; files only grow and are never renamed, so a reader can continue where it
stopped. Ids and personal values are pseudonyms. Nothing is synced: a power cut may lose the last
seconds.

The ids of a process are numbered without gaps, and its lines are in their order. So a missing line
shows as a missing number; `last_prediction` has the number of the last one.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_service.observability.last_prediction import SUFFIX, LastPrediction
from churn_service.observability.line_files import LineFiles
from churn_service.observability.logs import iso_time
from churn_service.observability.pod_info import PodInfo
from churn_service.observability.queue import WriteQueue

COPIED = ("endpoint", "key_id", "trace_id", "model_version", "degraded")

FILE_SECONDS = 300.0


@dataclass(slots=True)  # not frozen: that takes five times as long to create
class RequestPredictions:
    """The predictions of one request.

    Attributes:
        time: Seconds since 1970.
        key_id: Id of the API key; "" where the service needs no keys.
        trace_id: Id of the trace; "" where there is none.
        customers: Instances of `request_model(contract)`.
        predictions: Prediction for each customer, with `prediction_id` and `churn_probability`.
    """

    time: float
    endpoint: str
    key_id: str
    trace_id: str
    model_version: str
    degraded: bool
    customers: Sequence[BaseModel]
    predictions: Sequence[Any]


_Row = tuple[RequestPredictions, int]


class PredictionLog:
    """Passes predictions to a thread that writes them."""

    def __init__(
        self,
        folder: Path,
        contract: Contract,
        id_key: bytes,
        *,
        file_bytes: int,
        files: int,
        queue: int,
        dropped: Callable[[str, int], None],
        file_seconds: float = FILE_SECONDS,
        pod_info: Path | None = None,
    ) -> None:
        """Prepares the log; no file is touched before the first prediction.

        Args:
            folder: Folder of all prediction logs; this log's files are in `<folder>/<contract>`.
            id_key: Key of the pseudonyms.
            file_bytes: Size from which a new file is started.
            files: Number of files of that size that are kept for each worker.
            queue: Number of customers that may wait to be written.
            dropped: Called by two threads with the reason and the number of lost predictions:
                "queue" (full), "disk" (cannot be written), "error" (an internal error), "closed"
                (the service stops).
            file_seconds: Age from which a file is closed.
            pod_info: Folder of the pod's fields, see `pod_info`; without it they are empty.

        Raises:
            ValueError: The key is too short or too long.
        """
        self._dropped, self._contract = dropped, contract
        self._files = LineFiles(folder / contract.name, file_bytes, files, file_seconds)
        path = self._files.process_path
        self._last = LastPrediction(path.with_name(path.name + SUFFIX))
        self._pod_info = PodInfo(pod_info)
        self._id_pseudonym = partial(pseudonym, id_key, contract.id.name)
        self._id_pseudonym("")  # A bad key fails here, not at the first prediction.
        self._features = tuple(c.name for c in contract.features)
        self._pseudonyms = {
            c.name: lru_cache(10_000)(partial(pseudonym, id_key, c.name))
            for c in contract.features
            if c.personal
        }
        self._queue = WriteQueue(
            "prediction log", queue, _rows, self._write, dropped, self._files.close_old
        )

    def start(self) -> None:
        """Starts the writing thread."""
        import bentoml

        # BentoML keeps a monitor by its name forever: each log needs a name of its own.
        name, options = f"{self._contract.name}-{uuid.uuid4()}", {"write": self._append}
        self._monitor = partial(bentoml.monitor, name, _monitor_class(), options)
        self._queue.start()

    def put(self, request: RequestPredictions) -> None:
        """Logs a request's predictions, or drops and counts them. Never waits, never raises."""
        self._queue.put(request, len(request.customers))
        if request.predictions:
            self._last.put(request.predictions[-1].prediction_id, request.time)

    def close(self, timeout: float) -> None:
        """Writes waiting rows, for at most `timeout` seconds. A stuck thread keeps its files."""
        if self._queue.close(timeout):
            if not self._files.close():
                self._dropped("disk", 1)
            self._last.close()

    def _write(self, rows: list[_Row]) -> None:
        columns = list(self._columns(rows))
        with self._monitor() as monitor:
            for values, name, role, kind in columns:
                monitor.log_batch(values, name, role, kind)

    def _append(self, lines: Sequence[bytes]) -> None:
        if lost := self._files.append(lines):
            self._dropped("disk", lost)
        else:
            self._last.open()

    def _columns(self, rows: list[_Row]) -> Iterator[tuple[list[Any], str, str, str]]:
        """The rows as BentoML's monitors take them: values, name, role and type of each column."""
        requests = [request for request, _ in rows]
        predictions = [request.predictions[i] for request, i in rows]
        customers = [request.customers[i] for request, i in rows]
        id_name = self._contract.id.name
        metadata = {
            "prediction_id": [p.prediction_id for p in predictions],
            "time": [iso_time(r.time, "microseconds") for r in requests],
            **{name: [getattr(r, name) for r in requests] for name in COPIED},
            **{name: [value] * len(rows) for name, value in self._pod_info.read().items()},
            "churn_probability": [p.churn_probability for p in predictions],
            "customer": [self._id_pseudonym(getattr(c, id_name)) for c in customers],
        }
        for name, values in metadata.items():
            yield values, name, "metadata", "categorical"
        yield (
            [self._features_of(c.__dict__) for c in customers],
            "features",
            "feature",
            "categorical",
        )

    def _features_of(self, customer: Mapping[str, Any]) -> dict[str, Any]:
        """A customer's features, the personal ones as pseudonyms."""
        features = {name: customer[name] for name in self._features}
        for name, pseudonymise in self._pseudonyms.items():
            if features[name] is not None:
                features[name] = pseudonymise(features[name])
        return features


def _rows(request: RequestPredictions) -> Iterator[_Row]:
    return zip(repeat(request), range(len(request.customers)))


def _monitor_class() -> type[Any]:
    """Class of a BentoML monitor that writes JSON lines and takes a whole column at once."""
    from bentoml.monitoring import MonitorBase

    class LineMonitor(MonitorBase):  # type: ignore[misc]
        """Keeps a record itself: on a failure the base class leaves its context variables set."""

        def __init__(self, name: str, write: Callable[[list[bytes]], None]) -> None:
            super().__init__(name)
            self._write = write

        def start_record(self) -> None:
            self._columns: dict[str, Sequence[Any]] = {}

        def log_batch(self, data_batch: Sequence[Any], name: str, *_: str) -> None:
            self._columns[name] = data_batch

        def stop_record(self) -> None:
            rows = zip(*self._columns.values(), strict=True)
            lines = [dict(zip(self._columns, row, strict=True)) for row in rows]
            self._write([to_json(line) + b"\n" for line in lines])

    return LineMonitor
