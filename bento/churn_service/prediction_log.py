"""The prediction log: what was predicted, when, by which model, from what.

Every prediction is one JSON line in a file of its process, written through BentoML's monitoring
interface by a thread, so that no request waits for a disk. A line stands for itself and has its
own `prediction_id`; files only grow, and are never renamed: a reader can go on where it stopped.
Customer ids and personal columns are pseudonyms. Files are not synced: a power cut may take the
last seconds.
"""

import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from hashlib import blake2b
from io import FileIO
from itertools import repeat
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel
from pydantic_core import to_json

from churn_assets.contracts.contract import Contract
from churn_service.logs import Handover, iso_time

LOGGER = logging.getLogger("churn.service")

KEY_BYTES = (16, 64)
"""Shortest and longest key of a pseudonym, in bytes; BLAKE2b takes no longer one."""

NAME = re.compile(
    r"predictions\.(?P<host>[\w-]+)\.(?P<pid>\d+)\.(?P<start>\d{20})\.(?P<number>\d{6,})\.jsonl"
)
"""`start` is UTC down to the microsecond: files of a host's process sort by time."""

CLOCK_SLACK = 60.0
"""Seconds by which the start of a process as the system tells it may be wrong."""

COPIED = ("endpoint", "key_id", "trace_id", "model_version", "degraded")


@dataclass(frozen=True, slots=True)
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


def pseudonym(key: bytes, column: str, value: str | float) -> str:
    """32 hexadecimal digits for a personal value, the same for the same value, column and key.

    A keyed BLAKE2b (RFC 7693), as a plain hash of an id or an age is found by trying them all.
    Numbers are hashed as float64, so that 42 and 42.0 are one; flags as "true" and "false".

    Raises:
        ValueError: the key is shorter or longer than `KEY_BYTES` allows.
    """
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ValueError(f"a key has {KEY_BYTES[0]} to {KEY_BYTES[1]} bytes, this one {len(key)}")
    if isinstance(value, bool):
        value = "true" if value else "false"
    # Adding zero makes -0.0 the same as 0.0.
    text = value if isinstance(value, str) else repr(float(value) + 0.0)
    return blake2b(f"{column}\0{text}".encode(), key=key, digest_size=16).hexdigest()


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
            id_key: key of the pseudonyms, of `KEY_BYTES` bytes.
            files: that are kept for each worker, each of up to `file_bytes`.
            queue: customers that may wait to be written.
            dropped: is told why predictions were not logged, and how many: "queue" (full), "disk"
                (any failure to write), "error" (a fault of ours), "closed" (the service stops).
                Two threads call it.

        Raises:
            ValueError: the key is too short or too long.
        """
        self._dropped, self._contract = dropped, contract
        self._files = LineFiles(folder / contract.name, file_bytes, files)
        self._hidden_id = partial(pseudonym, id_key, contract.id.name)
        self._hidden_id("")  # A bad key is found here, not at the first prediction.
        # Ages and places come again and again.
        self._hidden = {
            c.name: lru_cache(10_000)(partial(pseudonym, id_key, c.name))
            for c in contract.features
            if c.personal
        }
        self._handover = Handover("prediction log", queue, _rows, self._write, dropped)

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
        """Writes what waits, for at most `timeout` seconds."""
        # Where the thread is stuck its files are not ours to touch.
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
        for column in self._contract.features:
            values = [getattr(customer, column.name) for customer in customers]
            if hide := self._hidden.get(column.name):
                values = [None if value is None else hide(value) for value in values]
            numeric = column.kind == "number" and not column.personal
            yield values, column.name, "feature", "numerical" if numeric else "categorical"


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
            self._own: dict[str, Sequence[Any]] = {}
            self._features: dict[str, Sequence[Any]] = {}

        def log_batch(self, data_batch: Sequence[Any], name: str, role: str, _: str) -> None:
            (self._features if role == "feature" else self._own)[name] = data_batch

        def stop_record(self) -> None:
            rows = zip(_records(self._own), _records(self._features), strict=True)
            self._write([to_json({**own, "features": more}) + b"\n" for own, more in rows])

    return LineMonitor


def _records(columns: dict[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


class LineFiles:
    """Files of lines that one thread of one process appends to.

    A full file is followed by the next. The oldest are removed, this process's and those that
    dead processes of this host left; another host's never: nobody here knows whether it lives.
    """

    def __init__(self, folder: Path, file_bytes: int, files: int) -> None:
        self._folder, self._file_bytes, self._files = folder, file_bytes, files
        self._host = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)
        self._own = os.getpid(), re.sub(r"\D", "", iso_time(time.time(), "microseconds"))
        self._number = self._size = 0
        self._rest, self._failing = b"", False

    @property
    def path(self) -> Path:
        """The file that is written now."""
        pid, start = self._own
        return self._folder / f"predictions.{self._host}.{pid}.{start}.{self._number:06}.jsonl"

    def append(self, lines: Sequence[bytes]) -> int:
        """Appends lines that end with a newline.

        A disk that fills up may take half a line. It is not cut off, as it may have been read:
        its other half is what is written first once there is room.

        Returns:
            How many of the lines were lost.
        """
        if not self.finish():
            return len(lines)
        data = b"".join(lines)
        if self._size and self._size + len(data) > self._file_bytes:
            self._number, self._size = self._number + 1, 0
        written = self._write(data)
        lost = data.count(b"\n", written)
        if 0 < written < len(data) and data[written - 1 : written] != b"\n":
            self._rest = data[written : data.index(b"\n", written) + 1]
            lost -= 1
        return lost

    def finish(self) -> bool:
        """Writes the other half of a line, where one is missing; whether none is missing now."""
        if self._rest:
            try:
                self.path.stat()
                self._rest = self._rest[self._write(self._rest) :]
            except FileNotFoundError:
                self._rest = b""
            except OSError:
                return False
        return not self._rest

    def _write(self, data: bytes) -> int:
        """Writes what there is room for, and says how many bytes that were."""
        written = 0
        try:
            # Opened each time: a file that was deleted, or a disk that came back, is no case apart.
            with self._open() as file:
                while written < len(data):
                    written += file.write(data[written:])
        except OSError as error:
            if not self._failing:
                LOGGER.error("predictions are not logged: %s", error)  # noqa: TRY400  no fault here
            self._failing = True
        else:
            if self._failing:
                LOGGER.warning("predictions are logged again in %s", self.path)
            self._failing = False
        self._size += written
        return written

    def _open(self) -> FileIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._size:
            self._remove_oldest()
        return open(self.path, "ab", buffering=0, opener=partial(os.open, mode=0o640))

    def _remove_oldest(self) -> None:
        others = [
            (match["start"], match["number"], path)
            for path in self._folder.iterdir()
            if (match := NAME.fullmatch(path.name)) and path != self.path and self._removable(match)
        ]
        for _, _, path in sorted(others)[: max(0, len(others) + 1 - self._files)]:
            path.unlink(missing_ok=True)

    def _removable(self, name: re.Match[str]) -> bool:
        if name["host"] != self._host or (int(name["pid"]), name["start"]) == self._own:
            return name["host"] == self._host
        begun = datetime.strptime(name["start"] + "+0000", "%Y%m%d%H%M%S%f%z").timestamp()
        try:
            # A process that began later than the file only has the id of the one that made it.
            return psutil.Process(int(name["pid"])).create_time() > begun + CLOCK_SLACK
        except psutil.NoSuchProcess:
            return True
