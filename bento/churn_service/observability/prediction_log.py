"""The prediction log: what was predicted, when, by which model, from what.

Every prediction is one JSON line in a file of its process, written through BentoML's monitoring
interface by a thread, so that no request waits for a disk. A line stands for itself and has its
own `prediction_id`; files only grow, and are never renamed: a reader can go on where it stopped.
Ids and personal values are pseudonyms. Nothing is synced: a power cut may take the last seconds.
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
from churn_service.observability.line_files import LineFiles
from churn_service.observability.logs import iso_time
from churn_service.observability.queue import WriteQueue

COPIED = ("endpoint", "key_id", "trace_id", "model_version", "degraded")


@dataclass(slots=True)  # and not frozen, which takes five times as long to make
class Logged:
    """The predictions of one request.

    Attributes:
        time: seconds since 1970.
        key_id: "" where the service is open, as is `trace_id` where the caller has none.
        customers: instances of `request_model(contract)`.
        predictions: of each customer, with `prediction_id` and `churn_probability`.
    """

    time: float
    endpoint: str
    key_id: str
    trace_id: str
    model_version: str
    degraded: bool
    customers: Sequence[BaseModel]
    predictions: Sequence[Any]


_Row = tuple[Logged, int]


class PredictionLog:
    """Hands predictions to a thread that writes them."""

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
    ) -> None:
        """Prepares the log; no file is touched before the first prediction.

        Args:
            folder: of all prediction logs; this one's files are in `<folder>/<contract>`.
            files: that are kept for each worker, each of up to `file_bytes`.
            queue: customers that may wait to be written.
            dropped: is told, by two threads, why predictions are lost and how many: "queue" (full),
                "disk" (cannot be written), "error" (a fault of ours), "closed" (the service stops).

        Raises:
            ValueError: the key is too short or too long.
        """
        self._dropped, self._contract = dropped, contract
        self._files = LineFiles(folder / contract.name, file_bytes, files)
        self._hidden_id = partial(pseudonym, id_key, contract.id.name)
        self._hidden_id("")  # A bad key is found here, not at the first prediction.
        self._features = tuple(c.name for c in contract.features)
        self._hidden = {
            c.name: lru_cache(10_000)(partial(pseudonym, id_key, c.name))
            for c in contract.features
            if c.personal
        }
        self._handover = WriteQueue("prediction log", queue, _rows, self._write, dropped)

    def start(self) -> None:
        """Starts the thread that writes."""
        import bentoml

        # BentoML keeps its monitors by name for good: each log needs a name of its own.
        name, options = f"{self._contract.name}-{uuid.uuid4()}", {"write": self._append}
        self._monitor = partial(bentoml.monitor, name, _monitor_class(), options)
        self._handover.start()

    def put(self, logged: Logged) -> None:
        """Logs a request's predictions, or drops and counts them. Never waits, never raises."""
        self._handover.put(logged, len(logged.customers))

    def close(self, timeout: float) -> None:
        """Writes what waits, for at most `timeout` seconds; a stuck thread keeps its files."""
        if self._handover.close(timeout) and not self._files.finish():
            self._dropped("disk", 1)

    def _write(self, rows: list[_Row]) -> None:
        columns = list(self._columns(rows))
        with self._monitor() as monitor:
            for values, name, role, kind in columns:
                monitor.log_batch(values, name, role, kind)

    def _append(self, lines: Sequence[bytes]) -> None:
        if lost := self._files.append(lines):
            self._dropped("disk", lost)

    def _columns(self, rows: list[_Row]) -> Iterator[tuple[list[Any], str, str, str]]:
        """The rows as BentoML's monitors take them: values, name, role and type of each column."""
        requests = [logged for logged, _ in rows]
        predictions = [logged.predictions[i] for logged, i in rows]
        customers = [logged.customers[i] for logged, i in rows]
        id_name = self._contract.id.name
        own = {
            "prediction_id": [p.prediction_id for p in predictions],
            "time": [iso_time(r.time, "microseconds") for r in requests],
            **{name: [getattr(r, name) for r in requests] for name in COPIED},
            "churn_probability": [p.churn_probability for p in predictions],
            "customer": [self._hidden_id(getattr(c, id_name)) for c in customers],
        }
        for name, values in own.items():
            yield values, name, "metadata", "categorical"
        yield [self._shown(c.__dict__) for c in customers], "features", "feature", "categorical"

    def _shown(self, customer: Mapping[str, Any]) -> dict[str, Any]:
        """A customer's features, the personal ones as pseudonyms."""
        shown = {name: customer[name] for name in self._features}
        for name, hide in self._hidden.items():
            if shown[name] is not None:
                shown[name] = hide(shown[name])
        return shown


def _rows(logged: Logged) -> Iterator[_Row]:
    return zip(repeat(logged), range(len(logged.customers)))


def _monitor_class() -> type[Any]:
    """A monitor of BentoML's that makes JSON lines, and takes a column at once."""
    from bentoml.monitoring import MonitorBase

    class LineMonitor(MonitorBase):  # type: ignore[misc]
        """Keeps a record itself: the base class leaves its context variables set by a failure."""

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
