"""What a log shipper relies on: closed files, the last prediction, and the pod's fields."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from churn_service.observability.last_prediction import BYTES, KEPT, SUFFIX, LastPrediction
from churn_service.observability.line_files import MOST_FILES, LineFiles
from churn_service.observability.pod_info import FILES, PodInfo
from churn_service.observability.prediction_log import PredictionLog, RequestPredictions

from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.request import request_model
from churn_assets_tests.bentos import customers
from churn_assets_tests.logs import KEY, StubPrediction

CONTRACT = load_contract("telecom")
CUSTOMER = request_model(CONTRACT).model_validate(customers(1)[0])
LINE = [b"123456789\n"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def states(folder: Path) -> list[bool]:
    return [locked(path) for path in sorted(folder.glob("*.jsonl"))]


def new_log(folder: Path, **changes: Any) -> PredictionLog:
    limits = {"file_bytes": 10**6, "files": 9, "queue": 1_000, **changes}
    return PredictionLog(folder, CONTRACT, KEY, **limits, dropped=print)


def request(number: int) -> RequestPredictions:
    prediction = StubPrediction(f"{'0' * 16}-{number:08x}", 0.1)
    return RequestPredictions(
        1_772_366_400.25, "/predict", "", "", "1", False, [CUSTOMER], [prediction]
    )


@pytest.fixture
def start_log(tmp_path: Path) -> Iterator[Callable[..., PredictionLog]]:
    logs = []

    def start(**changes: Any) -> PredictionLog:
        logs.append(log := new_log(tmp_path, **changes))
        log.start()
        return log

    yield start
    for log in logs:
        log.close(5)


def until(holds: Callable[[], Any], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.01)


# Closed files


def test_only_the_file_that_is_written_is_locked(tmp_path: Path) -> None:
    files = LineFiles(tmp_path, 20, 9)
    for _ in range(3):
        files.append(LINE)
    assert states(tmp_path) == [False, True]
    assert files.close()
    assert states(tmp_path) == [False, False]


def test_a_file_is_closed_at_its_age_without_another_line(tmp_path: Path) -> None:
    files = LineFiles(tmp_path, 1_000, 9, 0.05)
    files.append(LINE)
    files.close_old()
    assert states(tmp_path) == [True]
    time.sleep(0.06)
    files.close_old()
    assert states(tmp_path) == [False]
    files.append(LINE)
    assert states(tmp_path) == [False, True]


def test_the_writing_thread_closes_old_files(tmp_path: Path, start_log: Callable[..., Any]) -> None:
    log = start_log(file_seconds=0.1)
    log.put(request(0))
    until(lambda: states(tmp_path / "telecom") == [False])


def test_half_a_line_keeps_its_file_open(tmp_path: Path) -> None:
    files = LineFiles(tmp_path, 1_000, 9, 0.0)
    files.append(LINE)
    files._rest = b"half\n"
    files._write = lambda data: 0  # type: ignore[method-assign]  # the disk is full
    files.close_old()
    assert states(tmp_path) == [True]
    assert not files.close()


def test_a_file_that_was_removed_is_locked_again(tmp_path: Path) -> None:
    files = LineFiles(tmp_path, 1_000, 9)
    files.append(LINE)
    files.path.unlink()
    files.append(LINE)
    assert states(tmp_path) == [True]


WRITER = """
import sys, time
from pathlib import Path
from churn_assets_tests.bento.observability.test_shippable_files import new_log, request
log = new_log(Path(sys.argv[1]))
log.start()
for number in range(100):
    log.put(request(number))
time.sleep(0.5)
log._queue._write = lambda rows: time.sleep(60)
for number in range(100, 117):
    log.put(request(number))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_its_files_closed_and_its_last_number(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    [last] = (tmp_path / "telecom").glob(f"*{SUFFIX}")
    assert (states(tmp_path / "telecom"), locked(last)) == ([True], True)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert (states(tmp_path / "telecom"), locked(last)) == ([False], False)
    [file] = (tmp_path / "telecom").glob("*.jsonl")
    assert len(file.read_bytes().splitlines()) == 100
    assert json.loads(last.read_bytes())["last_prediction_id"] == f"{'0' * 16}-{116:08x}"


@pytest.mark.parametrize(
    ("keep", "file_bytes", "left"), [(3, 10, 3), (3, 20, 4), (1, 1_000, 1), (40, 1, 12)]
)
def test_of_small_files_more_are_kept(
    tmp_path: Path, keep: int, file_bytes: int, left: int
) -> None:
    """12 files of 10 bytes: as many stay as fit beside a new file that becomes full."""
    files = LineFiles(tmp_path, file_bytes, keep, 0.0)
    for _ in range(12):
        files.append(LINE)
        files.close_old()
    assert len(list(tmp_path.iterdir())) == left


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_FILES == 10_000
    monkeypatch.setattr("churn_service.observability.line_files.MOST_FILES", 5)
    files = LineFiles(tmp_path, 10**9, 3, 0.0)
    for _ in range(9):
        files.append(LINE)
        files.close_old()
    assert len(list(tmp_path.iterdir())) == 5


# The last prediction


def test_the_last_prediction_is_a_json_line_of_a_fixed_size(tmp_path: Path) -> None:
    last = LastPrediction(path := tmp_path / f"p{SUFFIX}")
    last.open()
    assert not path.exists(), "there is nothing to keep yet"
    for number in (1, 2):
        last.put(f"p-{number}", 1_772_366_400.25)
        last.open()
        assert json.loads(path.read_bytes()) == {
            "last_prediction_id": f"p-{number}",
            "time": 1772366400.25,
        }
        assert path.stat().st_size == BYTES
    last.close()
    last.put("p-3", 0)
    assert json.loads(path.read_bytes())["last_prediction_id"] == "p-2"


def test_a_folder_that_takes_no_file_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = LastPrediction(tmp_path / "nowhere" / f"p{SUFFIX}")
    for _ in range(3):
        last.put("p-1", 0)
        last.open()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    (tmp_path / "nowhere").mkdir()
    last.open()
    last.close()
    assert [path.name for path in (tmp_path / "nowhere").iterdir()] == [f"p{SUFFIX}"]


def test_files_of_ended_processes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT == 1_000
    monkeypatch.setattr("churn_service.observability.last_prediction.KEPT", 2)
    for number in range(5):
        last = LastPrediction(path := tmp_path / f"{number}{SUFFIX}")
        last.put("p-1", 0)
        last.open()
        last.close()
        os.utime(path, (number, number))
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["2", "3", "4"]


# The fields of the pod


def test_the_pods_fields_are_read_again_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("churn_service.observability.pod_info.monotonic", lambda: now)
    info = PodInfo(tmp_path)
    assert info.read() == dict.fromkeys(FILES, "")
    (tmp_path / "role").write_text("canary\n")
    (tmp_path / "template-hash").write_text("6d5f9")
    assert info.read()["role"] == ""
    now = 101.0
    assert info.read() == {"pod": "", "release": "", "template_hash": "6d5f9", "role": "canary"}
    (tmp_path / "role").write_text("stable")
    now = 101.9
    assert info.read()["role"] == "canary"
    now = 102.0
    assert info.read()["role"] == "stable"


def test_a_file_that_cannot_be_read_keeps_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("churn_service.observability.pod_info.READ_SECONDS", 0)
    (tmp_path / "role").write_text("canary")
    info = PodInfo(tmp_path)
    info.read()
    (tmp_path / "pod").mkdir()
    assert [info.read()["role"] for _ in range(3)] == ["canary"] * 3
    assert len(caplog.records) == 1


def test_every_line_has_the_pods_fields(tmp_path: Path, start_log: Callable[..., Any]) -> None:
    fields = {"pod": "churn-1", "release": "churn", "template_hash": "abc", "role": "canary"}
    for name, text in fields.items():
        (tmp_path / FILES[name]).write_text(text)
    log = start_log(pod_info=tmp_path)
    for number in range(3):
        log.put(request(number))
    log.close(5)
    lines = b"".join(path.read_bytes() for path in tmp_path.glob("telecom/*.jsonl")).splitlines()
    assert len(lines) == 3
    for line in map(json.loads, lines):
        assert {name: line[name] for name in fields} == fields
