"""Every prediction is logged once, without a personal value, and no request waits for it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from churn_service.observability.last_prediction import SUFFIX
from churn_service.observability.line_files import NAME, LineFiles
from churn_service.observability.prediction_log import PredictionLog, RequestPredictions, pseudonym
from churn_service.observability.queue import CHUNK
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.request import request_model

TELECOM = load_contract("telecom")
CUSTOMER = request_model(TELECOM)
KEY = bytes(range(32))
PERSONAL = ("age", "gender", "location")
VALUES: dict[str, Any] = {
    "customer_id": "C-7654321",
    "age": 87,
    "gender": "Other",
    "location": "Łódź-Bałuty",
    "contract_type": "One year",
    "payment_method": "Credit card",
    "avg_data_usage": 12.5,
    "avg_call_minutes": 310.25,
    "usage_days": 28,
    "avg_monthly_charges": 40.1,
    "late_payments": 0,
    "tenure": 19,
}


@dataclass
class StubPrediction:
    """The fields of a prediction that the log reads."""

    prediction_id: str
    churn_probability: float


def customer(**changes: Any) -> BaseModel:
    return CUSTOMER.model_validate(VALUES | changes)


def request_predictions(first: int, count: int = 1, **changes: Any) -> RequestPredictions:
    """Predictions with the ids p<first>, p<first + 1>, ..."""
    fields = {
        "time": 1_772_366_400.25,
        "endpoint": "/predict",
        "key_id": "crm",
        "trace_id": "",
        "model_version": "3",
        "degraded": False,
        "customers": [customer()] * count,
    }
    predictions = [StubPrediction(f"p{first + i}", 0.1) for i in range(count)]
    return RequestPredictions(**(fields | {"predictions": predictions} | changes))


@pytest.fixture
def dropped() -> Counter[str]:
    return Counter()


OpenLog = Callable[..., PredictionLog]


@pytest.fixture
def open_log(tmp_path: Path, dropped: Counter[str]) -> Iterator[OpenLog]:
    """Opens logs, and closes them after the test."""
    logs = []

    def count(reason: str, number: int) -> None:
        dropped[reason] += number

    def make(
        folder: Path = tmp_path, contract: Contract = TELECOM, **changes: int
    ) -> PredictionLog:
        limits = {"file_bytes": 1_000_000, "files": 32, "queue": 1_000, **changes}
        log = PredictionLog(folder, contract, KEY, **limits, dropped=count)
        logs.append(log)
        return log

    yield make
    for log in logs:
        log.close(5)


def files(folder: Path) -> list[Path]:
    """All files of the log, without those of the last predictions."""
    return sorted(p for p in (folder / "telecom").iterdir() if not p.name.endswith(SUFFIX))


def lines(folder: Path) -> list[dict[str, Any]]:
    """All lines of all files; asserts that each is complete."""
    raw = b"".join(path.read_bytes() for path in files(folder))
    assert raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


def ids(folder: Path) -> list[str]:
    return [line["prediction_id"] for line in lines(folder)]


def expected_ids(*ranges: range) -> list[str]:
    return [f"p{i}" for part in ranges for i in part]


def until(holds: Callable[[], Any], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.005)


# The content of a line


def test_a_line_has_every_field_of_a_prediction(tmp_path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.start()
    log.put(request_predictions(1, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"))
    log.close(5)
    hidden = {name: pseudonym(KEY, name, VALUES[name]) for name in PERSONAL}
    assert lines(tmp_path) == [
        {
            "prediction_id": "p1",
            "time": "2026-03-01T12:00:00.250000Z",
            "endpoint": "/predict",
            "key_id": "crm",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "model_version": "3",
            "degraded": False,
            "pod": "",
            "release": "",
            "template_hash": "",
            "role": "",
            "churn_probability": 0.1,
            "customer": pseudonym(KEY, "customer_id", "C-7654321"),
            "features": {column.name: VALUES[column.name] for column in TELECOM.features} | hidden,
        }
    ]


def test_a_batch_is_a_line_for_each_customer(tmp_path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.start()
    customers = [customer(customer_id=f"C-{i}", tenure=i) for i in range(3)]
    predictions = [StubPrediction(f"b{i}", i / 10) for i in range(3)]
    log.put(
        request_predictions(
            0, customers=customers, predictions=predictions, endpoint="/predict/batch"
        )
    )
    log.put(request_predictions(9, degraded=True, key_id="", model_version="4"))
    log.close(5)
    *batch, single = lines(tmp_path)
    for i, line in enumerate(batch):
        assert (line["prediction_id"], line["churn_probability"]) == (f"b{i}", i / 10)
        assert line["customer"] == pseudonym(KEY, "customer_id", f"C-{i}")
        assert line["features"]["tenure"] == i
        assert (line["endpoint"], line["degraded"]) == ("/predict/batch", False)
    assert (single["degraded"], single["key_id"], single["model_version"]) == (True, "", "4")


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK + 3])
def test_every_customer_is_logged_once_and_in_order(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str], count: int
) -> None:
    log = open_log(queue=2_000)
    log.start()
    log.put(request_predictions(0))
    log.put(request_predictions(1, count))
    log.put(request_predictions(count + 1))
    log.close(5)
    assert ids(tmp_path) == expected_ids(range(count + 2))
    assert not dropped


def test_null_stays_null(tmp_path: Path, open_log: OpenLog) -> None:
    columns = [
        c.model_copy(update={"personal": True}) if c.name == "avg_call_minutes" else c
        for c in TELECOM.columns
    ]
    contract = TELECOM.model_copy(update={"columns": tuple(columns)})
    for current in (TELECOM, contract):
        log = open_log(contract=current)
        log.start()
        log.put(request_predictions(1, customers=[customer(avg_call_minutes=None)]))
        log.close(5)
    assert [line["features"]["avg_call_minutes"] for line in lines(tmp_path)] == [None, None]


def test_a_feature_may_have_the_name_of_a_log_field(tmp_path: Path, open_log: OpenLog) -> None:
    columns = [
        c.model_copy(update={"name": "time"}) if c.name == "tenure" else c for c in TELECOM.columns
    ]
    contract = TELECOM.model_copy(update={"columns": tuple(columns)})
    values = {"time" if name == "tenure" else name: value for name, value in VALUES.items()}
    log = open_log(contract=contract)
    log.start()
    log.put(request_predictions(1, customers=[request_model(contract).model_validate(values)]))
    log.close(5)
    [line] = lines(tmp_path)
    assert (line["time"], line["features"]["time"]) == ("2026-03-01T12:00:00.250000Z", 19)


def test_the_files_contain_no_personal_value_and_no_id(tmp_path: Path, open_log: OpenLog) -> None:
    others = {c.name: VALUES[c.name] for c in TELECOM.features if c.name not in PERSONAL}
    log = open_log()
    log.start()
    log.put(request_predictions(1, customers=[customer(age=age) for age in range(18, 111)] * 2,
                   predictions=[StubPrediction("q", 0.5)] * 186))  # fmt: skip
    log.close(5)
    raw = b"".join(path.read_bytes() for path in files(tmp_path))
    # Values that no hexadecimal digest, number or name in the log contains by chance.
    for value in ("C-7654321", "7654321", "Other", "Łódź", "Ba\\u0142uty", "Bałuty", "dź-"):
        assert value.encode() not in raw
    for line in lines(tmp_path):
        assert {name: line["features"][name] for name in others} == others
        assert all(re.fullmatch("[0-9a-f]{32}", line["features"][name]) for name in PERSONAL)
        assert re.fullmatch("[0-9a-f]{32}", line["customer"])
    assert len({line["features"]["age"] for line in lines(tmp_path)}) == 93


# Pseudonyms


def test_a_pseudonym_is_a_keyed_hash_that_others_can_compute() -> None:
    from hashlib import blake2b

    expected = blake2b(b"customer_id\0C-1", key=KEY, digest_size=16).hexdigest()
    assert pseudonym(KEY, "customer_id", "C-1") == expected


@given(st.text(), st.text(), st.binary(min_size=16, max_size=64))
def test_pseudonyms_differ_by_value_column_and_key(a: str, b: str, key: bytes) -> None:
    assert pseudonym(key, "x", a) == pseudonym(key, "x", a)
    assert pseudonym(key, "x", a) != pseudonym(key, "y", a)
    assert pseudonym(key, "x", a) != pseudonym(bytes(31) + b"\1", "x", a)
    assert (pseudonym(key, "x", a) == pseudonym(key, "x", b)) == (a == b)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(42, 42.0, True), (0.0, -0.0, True), (1, True, False), (True, False, False), (1, 2, False)],
)
def test_equal_numbers_have_equal_pseudonyms(one: float, other: float, same: bool) -> None:
    assert (pseudonym(KEY, "x", one) == pseudonym(KEY, "x", other)) is same


@pytest.mark.parametrize(("size", "fits"), [(0, 0), (15, 0), (16, 1), (64, 1), (65, 0)])
def test_a_key_that_is_too_short_or_too_long_is_refused(
    tmp_path: Path, size: int, fits: int
) -> None:
    def make() -> None:
        PredictionLog(tmp_path, TELECOM, bytes(size), file_bytes=1, files=1, queue=1, dropped=print)

    if fits:
        make()
    else:
        with pytest.raises(ValueError, match="16 to 64 bytes"):
            make()


# Files


def test_file_names_sort_by_time_and_the_first_prediction_creates_the_folder(
    tmp_path: Path, open_log: OpenLog
) -> None:
    log = open_log(tmp_path / "new" / "folder", file_bytes=1)
    log.start()
    assert not (tmp_path / "new").exists()
    for i in range(3):
        log.put(request_predictions(i))
        until(lambda i=i: len([*tmp_path.rglob("*.jsonl")]) > i)
    log.close(5)
    assert ids(tmp_path / "new/folder") == expected_ids(range(3))
    for number, path in enumerate(files(tmp_path / "new/folder")):
        match = NAME.fullmatch(path.name)
        assert match is not None
        assert (int(match["pid"]), int(match["number"])) == (os.getpid(), number)
        assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(("limit", "expected"), [(29, [20, 10]), (30, [30]), (31, [30])])
def test_a_file_is_full_at_its_limit(tmp_path: Path, limit: int, expected: list[int]) -> None:
    written = LineFiles(tmp_path / "telecom", limit, 9)
    for _ in range(3):
        assert written.append([b"123456789\n"]) == 0
    assert [path.stat().st_size for path in files(tmp_path)] == expected


def test_only_a_single_write_may_exceed_the_limit_of_a_file(tmp_path: Path) -> None:
    written = LineFiles(tmp_path / "telecom", 15, 9)
    for _ in range(2):
        written.append([b"123456789\n"] * 2)
    assert [path.stat().st_size for path in files(tmp_path)] == [20, 20]


@pytest.mark.parametrize("keep", [1, 2, 3, 4])
def test_the_oldest_files_are_removed(tmp_path: Path, keep: int) -> None:
    written = LineFiles(tmp_path / "telecom", 1, keep)
    for i in range(3):
        written.append([b"%d\n" % i])
    kept = [path.read_bytes() for path in files(tmp_path)]
    assert kept == [b"0\n", b"1\n", b"2\n"][-keep:]


def test_only_own_files_and_those_of_dead_processes_are_removed(tmp_path: Path) -> None:
    host = re.sub(r"[^\w-]", "-", socket.gethostname())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = tmp_path / "telecom"
    folder.mkdir()
    now = time.strftime("%Y%m%d%H%M%S000000", time.gmtime())
    others = {
        "dead process": f"predictions.{host}.{dead.pid}.{now}.000000.jsonl",
        "dead process whose id was reused": f"predictions.{host}.{os.getpid()}.20200101000000000000"
        ".000000.jsonl",
        "living process": f"predictions.{host}.{os.getppid()}.{now}.000000.jsonl",
        "another host": f"predictions.elsewhere.{dead.pid}.{now}.000000.jsonl",
        "other file": "notes.txt",
    }
    for name in others.values():
        (folder / name).touch()
    LineFiles(folder, 1, 1).append([b"mine\n"])
    left = {owner for owner, name in others.items() if (folder / name).exists()}
    assert left == {"living process", "another host", "other file"}
    assert len(files(tmp_path)) == 4


def test_a_removed_file_is_created_again(tmp_path: Path) -> None:
    written = LineFiles(tmp_path / "telecom", 1_000, 3)
    assert written.append([b"1\n"]) == 0
    written.path.unlink()
    assert written.append([b"2\n"]) == 0
    assert written.path.read_bytes() == b"2\n"
    shutil.rmtree(tmp_path / "telecom")
    assert written.append([b"3\n"]) == 0
    assert written.path.read_bytes() == b"3\n"


WRITER = """
import json, sys
from pathlib import Path
from churn_service.observability.line_files import LineFiles
log = LineFiles(Path(sys.argv[1]), 5_000, 1_000)
print("ready", flush=True); sys.stdin.readline()
for i in range(500):
    assert log.append([json.dumps({"writer": sys.argv[2], "i": i}).encode() + b"\\n"] * 2) == 0
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "telecom"), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for name in "ab"
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=30)
        assert writer.returncode == 0
    assert Counter((line["writer"], line["i"]) for line in lines(tmp_path)) == Counter(
        {(name, i): 2 for name in "ab" for i in range(500)}
    )


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    # A process limit cannot replace the mount: it raises EFBIG, and the log must handle ENOSPC.
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount the disk that fills up")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_lines_and_damages_none(
    small_disk: Path, open_log: OpenLog, dropped: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(30_000))
    log = open_log(small_disk, queue=10_000)
    log.start()
    for first in range(0, 600, 10):
        log.put(request_predictions(first, 10))
    until(lambda: dropped["disk"] and log._queue._done == 600)
    [path] = files(small_disk)
    assert not path.read_bytes().endswith(b"\n"), "the disk should have taken half a line"
    filler.unlink()
    for first in range(600, 620):
        log.put(request_predictions(first))
    log.close(5)
    logged_ids = ids(small_disk)
    lost = dropped.pop("disk")
    assert not dropped
    assert len(set(logged_ids)) == len(logged_ids) == 620 - lost
    assert logged_ids == expected_ids(range(600 - lost), range(600, 620))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["ERROR", "WARNING"], "the start and the end are logged once each"
    assert "No space left on device" in caplog.text


LIMITED = """
import resource, sys
from pathlib import Path
from churn_service.observability.line_files import LineFiles
log = LineFiles(Path(sys.argv[1]), 10_000, 3)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for room, expected in ((25, 0), (25, 0), (25, 1), (25, 1), (1_000, 0)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    lost = log.append([b"123456789\\n"])
    print(lost)
print(log.finish())
assert log.path.read_bytes() == b"123456789\\n" * 4
resource.setrlimit(resource.RLIMIT_FSIZE, (45, hard))
print(log.append([b"abcdefghi\\n"]))
log.path.unlink()
print(log.append([b"a new one\\n"]))
"""


def test_half_a_line_is_completed_once_there_is_room(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "telecom")],
        capture_output=True, text=True, timeout=30,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    # The third line is half written, the fourth has no room, and the fifth follows the other half
    # of the third. If the file is removed, the other half of a line is dropped.
    assert run.stdout.split() == ["0", "0", "0", "1", "0", "True", "0", "0"], run.stderr
    assert [path.read_bytes() for path in files(tmp_path)] == [b"a new one\n"]


def test_a_folder_that_cannot_be_created_loses_only_lines(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "telecom").write_text("a file where the folder should be")
    log = open_log()
    log.start()
    for i in range(3):
        log.put(request_predictions(i))
        until(lambda i=i: dropped["disk"] == i + 1)
    assert len(caplog.records) == 1
    (tmp_path / "telecom").unlink()
    log.put(request_predictions(3))
    log.close(5)
    assert ids(tmp_path) == ["p3"]
    assert dropped == {"disk": 3}


# The queue


def test_a_full_queue_drops_and_counts(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str]
) -> None:
    log = open_log(queue=10)
    log.put(request_predictions(0, 9))
    log.put(request_predictions(9, 2))
    assert dropped == {"queue": 2}
    log.put(request_predictions(9))
    log.put(request_predictions(10))
    log.put(request_predictions(10, 5))
    assert dropped == {"queue": 8}
    log.start()
    log.close(5)
    assert ids(tmp_path) == expected_ids(range(10))


def test_written_rows_make_room_in_the_queue(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str]
) -> None:
    log = open_log(queue=10)
    log.start()
    for first in range(0, 50, 10):
        log.put(request_predictions(first, 10))
        until(lambda: log._queue._done == log._queue._accepted)
    log.close(5)
    assert ids(tmp_path) == expected_ids(range(50))
    assert not dropped


def test_rows_that_cannot_be_written_are_counted_and_later_rows_are_written(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log()
    log.start()
    log.put(replace(request_predictions(0, 3), predictions=[]))
    until(lambda: dropped["error"])
    log.put(request_predictions(3))
    log.close(5)
    assert dropped == {"error": 3}
    assert ids(tmp_path) == ["p3"]
    assert "IndexError" in caplog.text


def test_bentoml_context_variables_are_not_changed(tmp_path: Path, open_log: OpenLog) -> None:
    import bentoml
    from bentoml._internal.monitoring.base import MON_COLUMN_VAR, MON_DATAS_VAR

    log = open_log()
    log.start()
    log.close(5)
    log._write([(request_predictions(0), 0)])
    with pytest.raises(RuntimeError, match="within"), log._monitor():
        raise RuntimeError("within a record")
    assert MON_COLUMN_VAR.get() is None
    assert MON_DATAS_VAR.get() is None
    log._write([(request_predictions(1), 0)])
    assert ids(tmp_path) == ["p0", "p1"]
    assert issubclass(type(log._monitor().__enter__()), bentoml.monitoring.MonitorBase)


def test_close_writes_the_waiting_rows_and_accepts_no_more(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str]
) -> None:
    log = open_log(queue=5_000)
    log.start()
    log.put(request_predictions(0, 5_000))
    log.close(5)
    assert ids(tmp_path) == expected_ids(range(5_000))
    log.put(request_predictions(0, 2))
    log.close(5)
    assert dropped == {"closed": 2}


def test_close_does_not_wait_longer_than_its_timeout(
    tmp_path: Path, open_log: OpenLog, dropped: Counter[str]
) -> None:
    (tmp_path / "telecom").mkdir()
    log = open_log()
    # To open a pipe without a reader blocks, like a network disk that hangs.
    os.mkfifo(log._files.path)
    log.start()
    log.put(request_predictions(0, 7))
    start = time.monotonic()
    log.close(0.2)
    assert 0.2 <= time.monotonic() - start < 1
    assert dropped == {"closed": 7}
    os.close(os.open(log._files.path, os.O_RDONLY | os.O_NONBLOCK))


def test_a_log_that_was_never_started_counts_its_rows_as_lost(
    open_log: OpenLog, dropped: Counter[str]
) -> None:
    log = open_log()
    log.put(request_predictions(0, 4))
    log.close(5)
    assert dropped == {"closed": 4}


def test_put_takes_microseconds_even_when_full(open_log: OpenLog, dropped: Counter[str]) -> None:
    log, request = open_log(queue=20_000), request_predictions(0)
    free = min(timeit.repeat(lambda: log.put(request), number=4_000, repeat=5)) / 4_000
    full = min(timeit.repeat(lambda: log.put(request), number=4_000, repeat=5)) / 4_000
    assert dropped == {"queue": 20_000}
    # About half a microsecond; the limit has a wide margin for a busy machine.
    assert max(free, full) < 5e-6


def test_importing_the_module_loads_no_bentoml() -> None:
    module = "churn_service.observability.prediction_log"
    code = f"import sys, {module}; assert 'bentoml' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_no_thread_is_left(open_log: OpenLog) -> None:
    before = threading.active_count()
    log = open_log()
    log.start()
    assert threading.active_count() == before + 1
    log.close(5)
    assert threading.active_count() == before
