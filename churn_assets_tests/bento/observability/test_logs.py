"""A thread logs requests as JSON lines, and a stalled log delays no request."""

import fcntl
import io
import json
import os
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from churn_service.observability import logs
from churn_service.observability.logs import PIPE_BUF, QUEUE, RequestLog, iso_time, trace_id
from churn_service.observability.queue import CHUNK, WriteQueue
from hypothesis import given
from hypothesis import strategies as st

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
MOMENT = 1_772_366_400.25


def put(log: RequestLog, status: int = 200, **changes: Any) -> None:
    ids = {"request_id": "r1", "key_id": "crm", "trace_id": TRACE}
    log.put(MOMENT, "POST", "/predict", status, 0.0012345, **(ids | changes))


def log_lines(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    assert not raw or raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "log").open("wb") as stream:
        yield stream


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The read end and the write end of a pipe of one page."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(ends[0], "rb", buffering=0) as reader, os.fdopen(ends[1], "wb") as writer:
        yield reader, writer


def read_lines(reader: IO[bytes], count: int) -> list[dict[str, Any]]:
    received = b""
    while received.count(b"\n") < count:
        received += reader.read(9_999)
    return [json.loads(line) for line in received.splitlines()]


# The request log


def test_a_request_is_one_line(tmp_path: Path, file: IO[bytes]) -> None:
    log = RequestLog("INFO", file)
    log.start()
    put(log, customers=1)
    put(log, 422, key_id="", trace_id="", request_id='"\n\u2028', error_type="validation")
    log.close()
    assert log_lines(tmp_path / "log") == [
        {
            "time": "2026-03-01T12:00:00.250Z",
            "level": "INFO",
            "logger": "churn.request",
            "request_id": "r1",
            "key_id": "crm",
            "trace_id": TRACE,
            "method": "POST",
            "route": "/predict",
            "status": 200,
            "ms": 1.234,
            "customers": 1,
            "error_type": "",
        },
        {
            "time": "2026-03-01T12:00:00.250Z",
            "level": "WARNING",
            "logger": "churn.request",
            "request_id": '"\n\u2028',
            "key_id": "",
            "trace_id": "",
            "method": "POST",
            "route": "/predict",
            "status": 422,
            "ms": 1.234,
            "customers": 0,
            "error_type": "validation",
        },
    ]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", [200, 399, 400, 499, 500, 503]),
        ("INFO", [200, 399, 400, 499, 500, 503]),
        ("WARNING", [400, 499, 500, 503]),
        ("ERROR", [500, 503]),
    ],
)
def test_levels_below_the_setting_are_not_written(
    tmp_path: Path, file: IO[bytes], level: str, expected: list[int]
) -> None:
    log = RequestLog(level, file)
    log.start()
    for status in (200, 399, 400, 499, 500, 503):
        put(log, status)
    log.close()
    lines = log_lines(tmp_path / "log")
    assert [line["status"] for line in lines] == expected
    names = {2: "INFO", 3: "INFO", 4: "WARNING", 5: "ERROR"}
    assert all(line["level"] == names[line["status"] // 100] for line in lines)


def test_the_default_stream_is_stderr() -> None:
    code = """
from churn_service.observability.logs import RequestLog
log = RequestLog("INFO"); log.start()
log.put(0.5, "GET", "/health", 200, 0, request_id="", key_id="", trace_id=""); log.close()
"""
    assert json.loads(run(code))["time"] == "1970-01-01T00:00:00.500Z"


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 1000])
def test_close_writes_the_waiting_lines_in_order(
    tmp_path: Path, file: IO[bytes], count: int
) -> None:
    log = RequestLog("INFO", file)
    log.start()
    for i in range(count):
        put(log, customers=i)
    log.close()
    assert [line["customers"] for line in log_lines(tmp_path / "log")] == list(range(count))


def test_a_stalled_pipe_delays_no_request_and_dropped_lines_are_reported(
    pipe: tuple[IO[bytes], IO[bytes]],
) -> None:
    reader, writer = pipe
    log = RequestLog("INFO", writer)
    log.start()
    put(log)
    time.sleep(0.1)
    slowest = max(timeit.repeat(lambda: put(log), number=1, repeat=QUEUE + 1_000))
    assert slowest < 0.5, "a request waited for the pipe"
    received: list[bytes] = []
    reading = threading.Thread(
        target=lambda: received.extend(iter(lambda: reader.read(9_999), b""))
    )
    reading.start()
    log.close(20)
    writer.close()
    reading.join()
    lines = [json.loads(line) for line in b"".join(received).splitlines()]
    reports = [line for line in lines if "dropped" in line]
    assert len(reports) == 1
    assert set(reports[0]) == {"time", "level", "logger", "message", "dropped"}
    assert (reports[0]["level"], reports[0]["logger"]) == ("ERROR", "churn.request")
    assert reports[0]["dropped"] >= 900
    assert len(lines) - 1 + reports[0]["dropped"] == QUEUE + 1_001


def test_close_gives_up_on_a_stalled_pipe(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    reader, writer = pipe
    log = RequestLog("INFO", writer)
    log.start()
    for _ in range(1_000):
        put(log)
    start = time.monotonic()
    log.close(0.2)
    assert 0.2 <= time.monotonic() - start < 1
    read_lines(reader, 1_000)


def test_the_thread_waits_for_a_pipe_that_others_made_non_blocking(
    pipe: tuple[IO[bytes], IO[bytes]],
) -> None:
    reader, writer = pipe
    os.set_blocking(writer.fileno(), False)
    log = RequestLog("INFO", writer)
    log.start()
    for _ in range(100):
        put(log)
    time.sleep(0.1)
    assert all(line["status"] == 200 for line in read_lines(reader, 100))
    log.close()


def test_lines_of_several_workers_do_not_mix(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    reader, writer = pipe
    both_logs = [RequestLog("INFO", writer) for _ in range(2)]
    for log in both_logs:
        log.start()
        for _ in range(500):
            put(log)
    assert all(line["request_id"] == "r1" for line in read_lines(reader, 1_000))
    for log in both_logs:
        log.close()


def test_lines_lost_on_a_full_disk_are_reported_once_there_is_room(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full, (tmp_path / "log").open("wb") as file:
        log = RequestLog("INFO", full)
        log.start()
        put(log)
        put(log)
        end = time.monotonic() + 5
        while log._lost["error"] < 2 and time.monotonic() < end:
            time.sleep(0.005)
        log._fd = file.fileno()
        put(log, customers=7)
        log.close()
    # A newline first ends what may be half a line.
    raw = (tmp_path / "log").read_bytes()
    assert raw.startswith(b"\n{")
    lines = [json.loads(line) for line in raw.splitlines()[1:]]
    assert [line.get("dropped") for line in lines] == [2, None]
    assert lines[1]["customers"] == 7


def test_a_stream_without_a_descriptor_is_refused() -> None:
    with pytest.raises(io.UnsupportedOperation):
        RequestLog("INFO", io.StringIO())


def test_put_takes_microseconds(file: IO[bytes]) -> None:
    log = RequestLog("INFO", file)
    seconds = min(timeit.repeat(lambda: put(log), number=2_000, repeat=5)) / 2_000
    # About one microsecond; the limit has a wide margin for a busy machine.
    assert seconds < 10e-6


@given(st.lists(st.integers(1, 3 * PIPE_BUF // 2), min_size=1))
def test_pieces_fit_into_an_atomic_write_to_a_pipe(sizes: list[int]) -> None:
    lines = [b"x" * (size - 1) + b"\n" for size in sizes]
    pieces = list(logs._pieces(lines))
    assert b"".join(pieces) == b"".join(lines)
    # Each piece leaves room for one more newline.
    assert all(len(piece) < PIPE_BUF or piece in lines for piece in pieces)


# The queue below both logs


def test_a_failed_write_loses_only_its_rows(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    lost: list[tuple[str, int]] = []

    def write(rows: list[int]) -> None:
        if 0 in rows:
            raise ValueError("no zeros")
        seen.extend(rows)

    queue: WriteQueue[int, int] = WriteQueue(
        "numbers", 1_000, range, write, lambda *loss: lost.append(loss)
    )
    queue.put(CHUNK + 5, CHUNK + 5)
    queue.start()
    queue.close(5)
    assert seen == list(range(CHUNK, CHUNK + 5))
    assert lost == [("error", CHUNK)]
    assert "64 rows of the numbers are lost" in caplog.text


@given(st.lists(st.integers(0, 200), max_size=20), st.integers(0, 500))
def test_every_row_is_written_or_counted_as_lost(sizes: list[int], limit: int) -> None:
    rows: list[int] = []
    lost: list[int] = []
    queue: WriteQueue[int, int] = WriteQueue(
        "rows", limit, range, rows.extend, lambda _, count: lost.append(count)
    )
    for size in sizes:
        queue.put(size, size)
    assert sum(sizes) - sum(lost) <= limit
    queue.start()
    queue.close(5)
    assert len(rows) + sum(lost) == sum(sizes)


# Trace context


@pytest.mark.parametrize(
    "header",
    [
        # Examples of the specification, sections 3.2.2.5 and 2.4.
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        f"00-{TRACE}-{PARENT}-ff",
        # A later version may add fields after a dash.
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"fe-{TRACE}-{PARENT}-01-",
    ],
)
def test_a_valid_traceparent_has_a_trace_id(header: str) -> None:
    assert trace_id(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"00-{TRACE}-{PARENT}-01.",
        f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{TRACE}-{PARENT[:-1]}-01",
        f"00-{TRACE}-{PARENT}0-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-001",
        f"00-{TRACE}-{PARENT}",
        f"0-{TRACE}-{PARENT}-01",
        f"000-{TRACE}-{PARENT}-01",
        f"0A-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE[:-1]}.-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01 ",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE[:-1]}٣-{PARENT}-01",
    ],
)
def test_an_invalid_traceparent_has_no_trace_id(header: str | None) -> None:
    assert trace_id(header) == ""


@given(st.text() | st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z"))
def test_a_trace_id_is_not_changed(header: str) -> None:
    found = trace_id(header)
    assert found == "" or found == header[3:35]


@pytest.mark.parametrize(
    ("moment", "milliseconds", "microseconds"),
    [
        (0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000000Z"),
        (1_772_366_400.1, "2026-03-01T12:00:00.100Z", "2026-03-01T12:00:00.100000Z"),
        (1_772_366_400.9996, "2026-03-01T12:00:00.999Z", "2026-03-01T12:00:00.999600Z"),
        (1_772_366_400.9999998, "2026-03-01T12:00:01.000Z", "2026-03-01T12:00:01.000000Z"),
    ],
)
def test_iso_time_is_utc_with_exact_digits(
    moment: float, milliseconds: str, microseconds: str
) -> None:
    assert iso_time(moment, "milliseconds") == milliseconds
    assert iso_time(moment, "microseconds") == microseconds


@given(st.floats(0, 4e9))
def test_iso_time_has_a_fixed_width(moment: float) -> None:
    assert len(iso_time(moment, "milliseconds")) == len("2026-03-01T12:00:00.250Z")
    assert len(iso_time(moment, "microseconds")) == len("2026-03-01T12:00:00.250000Z")


# Loggers


def run(code: str) -> str:
    """The stderr of a process that runs `code`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


LOGGERS = """
import logging, sys
from bentoml._internal.log import configure_server_logging
service = logging.getLogger("churn.service")
child = logging.getLogger("bentoml.access")
child.addHandler(logging.StreamHandler(sys.stdout))
configure_server_logging()
from churn_service.observability.logs import configure
configure("{level}")
configure("{level}")
service.debug("fine")
service.info("number %d", 1)
child.warning("from BentoML")
logging.getLogger("uvicorn.error").warning("from uvicorn", extra={{"color_message": "red"}})
logging.getLogger("uvicorn.access").error("GET /")
try:
    1 / 0
except ZeroDivisionError:
    service.exception("an error", extra={{"trace_id": "t"}})
"""


@pytest.mark.parametrize(("level", "skipped"), [("DEBUG", 0), ("INFO", 1), ("WARNING", 2)])
def test_loggers_write_each_message_once_as_json(level: str, skipped: int) -> None:
    lines = [json.loads(line) for line in run(LOGGERS.format(level=level)).splitlines()]
    expected = [
        ("DEBUG", "churn.service", "fine"),
        ("INFO", "churn.service", "number 1"),
        ("WARNING", "bentoml.access", "from BentoML"),
        ("WARNING", "uvicorn.error", "from uvicorn"),
        ("ERROR", "churn.service", "an error"),
    ]
    found = [(line["level"], line["logger"], line["message"]) for line in lines]
    assert found == expected[skipped:]
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines[:-1])
    assert lines[-1]["trace_id"] == "t"
    assert "ZeroDivisionError" in lines[-1]["exc_info"]


def test_times_of_loggers_are_utc() -> None:
    code = """
import logging, os, time
os.environ["TZ"] = "Asia/Kathmandu"; time.tzset()
from churn_service.observability.logs import configure
configure("INFO")
logging.getLogger("churn.service").info("now")
"""
    before = iso_time(time.time() - 0.001, "milliseconds")
    logged = json.loads(run(code))["time"]
    assert before <= logged <= iso_time(time.time(), "milliseconds")
