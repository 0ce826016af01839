"""What the sidecar promises: every closed file arrives whole and once, whatever fails."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_log_shipper import report, shipper, volume
from prediction_log_shipper.settings import SettingsError, load_settings
from prediction_log_shipper.store import IncompleteError, Store

from churn_assets_tests.containers.pod_volume import PodVolume, Writer, environment
from churn_assets_tests.documents import ROOT

HANGING = """
import os, time
from prediction_log_shipper import __main__
__main__.Store.put = lambda *_: time.sleep(600)
os._exit(__main__.main())
"""


@pytest.fixture
def pod(tmp_path: Path) -> PodVolume:
    return PodVolume(tmp_path)


@pytest.fixture
def start(pod: PodVolume) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts the command in a process of its own, if need be with a store that hangs."""
    started = []

    def run(*, hangs: bool = False, **variables: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, *(("-c", HANGING) if hangs else ("-m", "prediction_log_shipper"))],
            env=environment(pod.variables | variables, ROOT), stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def until(holds: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.02)


def events(errors: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in errors.splitlines()]


# Settings

WRONG_SETTINGS = [
    ("CHURN_SHIP_FOLDER", "log", "is 'log': set the absolute path of the prediction logs"),
    ("CHURN_SHIP_URL", "", "is '': set a folder's URL with one of s3://, gs://, file://, without"),
    ("CHURN_SHIP_URL", "https://store/x", "is 'https://store/x': set a folder's URL with one of"),
    ("CHURN_SHIP_URL", "s3://", "is 's3://': set a folder's URL"),
    ("CHURN_SHIP_URL", "s3://u:hunter2@b/x?k=hunter2", "is 's3://***@b/x?***': set a folder's URL"),
    ("CHURN_SHIP_POD_INFO", "/no/such", "is '/no/such': set a folder with the files pod, release"),
    ("CHURN_SHIP_INTERVAL", "0", "is '0': set seconds above 0"),
    ("CHURN_SHIP_INTERVAL", "often", "is 'often': set seconds above 0"),
    ("CHURN_SHIP_MAX_BYTES", "1G", "is '1G': set a number of bytes above 0"),
    ("CHURN_SHIP_STOP_SECONDS", "-1", "is '-1': set seconds above 0"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_SETTINGS)
def test_a_wrong_setting_is_named(pod: PodVolume, name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(pod.variables | {name: value})
    assert str(error.value).startswith(f"{name} {message}")
    assert "hunter2" not in str(error.value)


def test_all_wrong_settings_are_named_at_once(
    start: Callable[..., "subprocess.Popen[bytes]"],
) -> None:
    process = start(CHURN_SHIP_URL="x", CHURN_SHIP_INTERVAL="x", CHURN_SHIP_FOLDER="x")
    [event] = events(process.communicate(timeout=30)[1])
    assert process.returncode == 1
    assert event["level"] == "ERROR"
    for name in ("CHURN_SHIP_URL", "CHURN_SHIP_INTERVAL", "CHURN_SHIP_FOLDER"):
        assert f"{name} is 'x': set " in event["message"]


def test_the_table_in_the_readme_has_every_setting_with_its_default(pod: PodVolume) -> None:
    readme = (ROOT / "bento/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `CHURN_SHIP_(\w+)` \| (?:`(.*?)`)? ?\|", readme, re.MULTILINE)
    required = {name: pod.variables[f"CHURN_SHIP_{name}"] for name in ("FOLDER", "URL", "POD_INFO")}
    found = load_settings({f"CHURN_SHIP_{name}": text for name, text in required.items()})
    defaults = {one.name.upper(): getattr(found, one.name) for one in fields(found)}
    assert list(defaults) == [name for name, _ in rows]
    for name, default in rows:
        assert (float(default) == defaults[name]) if default else name in required


# Closed files


def test_closed_files_are_shipped_and_the_open_one_stays(pod: PodVolume) -> None:
    writer = pod.writer(file_bytes=1)
    writer.write(3)
    pod.shipper().ship()
    name = writer.files.process_path.name
    assert pod.waiting() == [f"{name}.000002.jsonl", f"{name}.last.json"]
    place = pod.store / "telecom" / "churn" / "churn-abc-1"
    assert pod.stored() == [place / f"{name}.00000{number}.jsonl" for number in (0, 1)]
    assert pod.stored_ids() == {f"{'a' * 16}-{number:08x}": 1 for number in (0, 1)}
    writer.end()


def test_the_end_of_a_process_is_shipped_after_its_last_file(pod: PodVolume) -> None:
    writer = pod.writer()
    writer.write(2, lost=3)
    pod.shipper().ship()
    assert pod.stored() == []
    writer.end()
    pod.shipper().ship()
    lines, end = sorted(pod.stored(), key=lambda path: path.suffix, reverse=True)
    assert end.name == writer.files.process_path.name + ".ended.json"
    assert json.loads(end.read_bytes())["last_prediction_id"] == f"{'a' * 16}-00000004"
    assert len(lines.read_bytes().splitlines()) == 2
    assert pod.waiting() == []


def test_the_last_prediction_of_a_running_process_is_in_the_store(pod: PodVolume) -> None:
    writer, shipper = pod.writer(), pod.shipper()
    for number in ("00000001", "00000003"):
        writer.write(2)
        shipper.ship()
        (sign,) = pod.store.rglob("*.running.json")
        assert json.loads(sign.read_bytes())["last_prediction_id"] == f"{'a' * 16}-{number}"
    before = sign.stat().st_mtime_ns
    shipper.ship()
    assert sign.stat().st_mtime_ns == before
    assert pod.counts()["shipped"] == 0
    writer.end()


def test_a_file_that_a_process_has_only_created_is_left(pod: PodVolume) -> None:
    writer = pod.writer()
    writer.write()
    writer.files._start_next()
    writer.files.path.touch()  # The writer is about to lock it.
    pod.shipper().ship()
    assert pod.waiting() == [writer.files.path.name, writer.last._path.name]
    writer.end()
    pod.shipper().ship()
    assert pod.waiting() == []
    assert sum(pod.stored_ids().values()) == 1


def test_half_a_line_is_shipped_as_it_is(pod: PodVolume) -> None:
    writer = pod.writer()
    writer.write(2)
    cut = writer.files.path.read_bytes()[:-10]
    writer.files.path.write_bytes(cut)
    writer.end()
    pod.shipper().ship()
    assert [path.read_bytes() for path in pod.store.rglob("*.jsonl")] == [cut]


def test_a_file_that_is_shipped_twice_is_one_object(pod: PodVolume) -> None:
    """As after a crash between the end of an upload and the removal of the file."""
    writer = pod.writer()
    writer.write(2)
    writer.end()
    path, content = writer.files.path, writer.files.path.read_bytes()
    for _ in range(2):
        pod.shipper().ship()
        assert [path.read_bytes() for path in pod.store.rglob("*.jsonl")] == [content]
        path.write_bytes(content)
    assert pod.counts()["shipped"] == 3  # with the end of the process


def test_every_contract_has_its_own_folder(pod: PodVolume) -> None:
    writers = [pod.writer(letter * 16, contract) for letter, contract in ("ax", "by")]
    for writer in writers:
        writer.write()
        writer.end()
    pod.shipper().ship()
    assert {path.relative_to(pod.store).parts[0] for path in pod.stored()} == {"x", "y"}


@pytest.mark.parametrize(
    "name",
    [
        "predictions.another-host.7.20260301120000000000.000000.jsonl",
        "notes.txt",
        "predictions.x.jsonl",
    ],
)
def test_other_files_are_left_alone(pod: PodVolume, name: str) -> None:
    (path := pod.log / "telecom" / name).parent.mkdir()
    path.write_text("x")
    pod.shipper().ship()
    assert (pod.stored(), path.exists()) == ([], True)


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"pod": "p", "release": "r"}, "telecom/r/p"),
        ({"pod": "../p", "release": "a/b"}, "telecom/a_b/__p"),
        ({"pod": ""}, "telecom/unknown/HOST"),
    ],
)
def test_names_in_the_store_come_from_the_pod(
    pod: PodVolume, files: dict[str, str], place: str
) -> None:
    for path in pod.info.iterdir():
        path.unlink()
    for name, text in files.items():
        (pod.info / name).write_text(text)
    writer = pod.writer()
    writer.write()
    writer.end()
    pod.shipper().ship()
    host = writer.files.path.name.split(".")[1]
    expected = pod.store / place.replace("HOST", host)
    assert {path.parent for path in pod.stored()} == {expected}


# A store that fails


def test_a_file_stays_until_the_store_takes_it(
    pod: PodVolume, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.store.write_text("a file where the folder should be")
    writer = pod.writer(file_bytes=1)
    writer.write(3)
    writer.end()
    before = pod.waiting()
    sidecar = pod.shipper()
    for failures in (1, 2):
        sidecar.ship()
        assert (pod.waiting(), pod.counts()["failed"]) == (before, failures)
    # The files behind the one that failed wait: the order of a process is kept.
    logged = events(capsys.readouterr().err.encode())
    assert {event["file"] for event in logged} == {writer.files.path.name.replace("002.", "000.")}
    assert all(event["level"] == "ERROR" and event["error"] for event in logged)
    pod.store.unlink()
    sidecar.ship()
    assert set(pod.stored_ids().values()) == {1}
    assert (len(pod.stored_ids()), pod.waiting()) == (3, [])


def test_pauses_after_failures_grow_to_a_minute(pod: PodVolume) -> None:
    sidecar = pod.shipper()
    for failures in (1, 3, 6, 10_000):
        sidecar._failures = failures
        most = min(60, 2.0 ** min(failures, 10))
        assert all(most / 2 <= sidecar._wait() <= most for _ in range(20))


def test_a_file_that_the_store_has_in_part_is_not_removed(
    pod: PodVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = pod.writer()
    writer.write(2)
    writer.end()
    store = Store(pod.settings.url)
    content = writer.files.path.read_bytes()
    monkeypatch.setattr(
        store._fs, "put_file", lambda _, target: Path(target).write_bytes(content[:30])
    )
    (place := pod.store / "telecom/churn/churn-abc-1").mkdir(parents=True)
    with pytest.raises(IncompleteError, match=f"has 30 of {len(content)} bytes"):
        store.put(writer.files.path, "telecom/churn/churn-abc-1/x")
    sidecar = shipper.Shipper(pod.settings, store)
    sidecar.ship()
    assert writer.files.path.exists()
    monkeypatch.undo()
    sidecar.ship()
    assert (place / writer.files.path.name).read_bytes() == content


def test_a_full_store_gets_the_rest_later(pod: PodVolume) -> None:
    pod.store.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(pod.store)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a store that fills up")
    try:
        (filler := pod.store / "filler").write_bytes(bytes(60_000))
        writer = pod.writer()
        writer.write(400)
        writer.end()
        sidecar = pod.shipper()
        sidecar.ship()
        assert list(pod.store.rglob("*.jsonl")) == []
        assert pod.counts()["failed"] == 1
        filler.unlink()
        sidecar.ship()
        assert (sum(pod.stored_ids().values()), pod.waiting()) == (400, [])
    finally:
        subprocess.run(["umount", str(pod.store)], check=True)


# The bound of the volume


def test_the_newest_closed_files_are_dropped_and_counted(
    pod: PodVolume, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = pod.writer(file_bytes=320)
    writer.write(26)
    files = sorted(pod.log.glob("*/*.jsonl"))
    size = files[0].stat().st_size
    assert (len(files), len(files[0].read_bytes().splitlines())) == (7, 4)
    pod.variables["CHURN_SHIP_MAX_BYTES"] = str(4 * size + size // 2)
    sidecar = pod.shipper()
    sidecar._storing = files[4]
    sidecar.drop_newest()
    assert sorted(pod.log.glob("*/*.jsonl")) == [*files[:3], files[4], files[6]]
    assert [(e["message"], e["lines"]) for e in events(capsys.readouterr().err.encode())] == [
        ("dropped", 4), ("dropped", 4)
    ]  # fmt: skip
    writer.end()
    sidecar.ship()
    assert (pod.counts()["dropped"], pod.counts()["dropped_lines"]) == (2, 8)
    assert len(pod.stored_ids()) == 18


@pytest.mark.parametrize(("room", "left"), [(-1, 2), (0, 3), (1, 3)])
def test_files_may_take_the_whole_bound(pod: PodVolume, room: int, left: int) -> None:
    writer = pod.writer(file_bytes=1)
    writer.write(3)
    writer.end()
    total = sum(path.stat().st_size for path in pod.log.glob("*/*.jsonl"))
    pod.variables["CHURN_SHIP_MAX_BYTES"] = str(total + room)
    pod.shipper().drop_newest()
    assert len(list(pod.log.glob("*/*.jsonl"))) == left


def test_the_bound_is_kept_while_a_store_hangs(
    pod: PodVolume, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    writer = pod.writer(file_bytes=1)
    writer.write(1)
    writer.write(1)
    start(hangs=True, CHURN_SHIP_MAX_BYTES="320")
    until((pod.log / "shipper.json").exists)
    writer.write(20)
    until(lambda: len(pod.waiting()) == 5)  # Three closed ones, the open one, and the last.
    assert pod.waiting()[0].endswith(".000000.jsonl")
    writer.end()


# The end


def test_it_waits_for_the_services_end_and_ships_the_rest(
    pod: PodVolume, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    process, writer = start(), pod.writer(file_bytes=320)
    writer.write(10)
    until(lambda: len(pod.stored()) == 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    writer.write(7, lost=1)
    writer.end()
    logged = events(process.communicate(timeout=10)[1])
    assert process.returncode == 0
    assert (len(pod.stored_ids()), pod.waiting()) == (17, [])
    assert (logged[-1]["message"], logged[-1]["left"]) == ("ended", [])
    assert pod.counts()["shipped"] == 6
    assert pod.counts()["waiting"] == 0


def test_it_ends_at_once_if_nothing_is_left(
    pod: PodVolume, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    process = start(CHURN_SHIP_INTERVAL="60")
    until((pod.log / "shipper.json").exists)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - begin < 3


def test_lines_of_a_service_that_does_not_end_are_copied(
    pod: PodVolume, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    process, writer = start(CHURN_SHIP_STOP_SECONDS="2"), pod.writer()
    writer.write(3)
    until((pod.log / "shipper.json").exists)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    logged = events(process.communicate(timeout=10)[1])
    assert process.returncode == 1
    assert 1.5 < time.monotonic() - begin < 4
    assert len(pod.stored_ids()) == 3
    assert logged[-1]["left"] == pod.waiting()
    writer.write(2)
    writer.end()
    pod.shipper().ship()
    assert set(pod.stored_ids().values()) == {1}
    assert len(pod.stored_ids()) == 5


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_it_ends_in_time_if_the_store_does_not_work(
    pod: PodVolume, start: Callable[..., "subprocess.Popen[bytes]"], hangs: bool
) -> None:
    writer = pod.writer()
    writer.write(3)
    writer.end()
    pod.store.write_text("a file where the folder should be")
    process = start(hangs=hangs, CHURN_SHIP_STOP_SECONDS="1.5")
    until((pod.log / "shipper.json").exists)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    logged = events(process.communicate(timeout=10)[1])
    assert process.returncode == 1
    assert time.monotonic() - begin < 4
    assert logged[-1]["left"] == pod.waiting()
    assert len(pod.waiting()) == 2


# Counts


def test_counts_go_on_after_a_restart(pod: PodVolume, capsys: pytest.CaptureFixture[str]) -> None:
    for shipped in (2, 4):
        writer = pod.writer()
        writer.write()
        writer.end()
        pod.shipper().ship()
        assert pod.counts()["shipped"] == shipped
    assert {event["message"] for event in events(capsys.readouterr().err.encode())} == {"shipped"}
    (pod.log / report.FILE).write_text('{"shipped"')
    pod.shipper().ship()
    assert pod.counts()["shipped"] == 0
    assert "the counts of an earlier run are lost" in capsys.readouterr().err


def test_two_threads_do_not_disturb_each_other(pod: PodVolume) -> None:
    writer = pod.writer(file_bytes=300)
    writer.write(400)
    writer.end()
    pod.variables["CHURN_SHIP_MAX_BYTES"] = "9000"
    sidecar = pod.shipper()
    dropping = threading.Thread(target=lambda: [sidecar.drop_newest() for _ in range(20)])
    dropping.start()
    sidecar.ship()
    dropping.join()
    sidecar.ship()
    assert pod.waiting() == []
    assert len(pod.stored_ids()) + pod.counts()["dropped_lines"] == 400
    assert set(pod.stored_ids().values()) == {1}


# The law

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 9)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
        st.sampled_from(
            [("close", 0), ("ship", 0), ("restart", 0), ("crash", 0), ("fail", 0), ("repair", 0)]
        ),
    ),
    max_size=25,
)


class CrashError(BaseException):
    """The end of the shipper's process at any moment."""


class CrashingStore(Store):
    """A store whose client ends after an upload, before it can do anything else."""

    def put(self, path: Path, name: str) -> None:
        super().put(path, name)
        raise CrashError


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_written_line_arrives_exactly_once(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        pod = PodVolume(Path(folder))
        writers, sidecar = [pod.writer("0" * 16)], pod.shipper()
        for step, number in [*steps, ("repair", 0)]:
            writer: Writer = writers[-1]
            if step == "write":
                writer.write(number)
            elif step == "close":
                writer.files.close_old()
            elif step == "kill":
                writer.write(0, lost=number)
                writer.end()
                writers.append(pod.writer(f"{len(writers):016x}"))
            elif step == "ship":
                sidecar.ship()
            elif step == "restart":
                sidecar = pod.shipper()
            elif step == "crash":
                with suppress(CrashError):
                    shipper.Shipper(pod.settings, CrashingStore(pod.settings.url)).ship()
                sidecar = pod.shipper()
            elif step == "fail" and not pod.store.exists():
                pod.store.write_text("not a folder")
            elif step == "repair" and pod.store.is_file():
                pod.store.unlink()
        writers[-1].end()
        sidecar.ship()
        assert pod.stored_ids() == Counter(expected(steps))
        assert [name for name in pod.waiting() if name.endswith(".jsonl")] == []
        check_ends(pod, writers)


def expected(steps: list[tuple[str, int]]) -> Iterator[str]:
    """Ids of the lines that the steps write."""
    writer = number = 0
    for step, count in steps:
        if step == "write":
            yield from (f"{writer:016x}-{number + i:08x}" for i in range(count))
            number += count
        elif step == "kill":
            writer, number = writer + 1, 0


def check_ends(pod: PodVolume, writers: list[Writer]) -> None:
    """Asserts that the store has the last number of every process that wrote a line."""
    ends = [json.loads(path.read_bytes()) for path in pod.store.rglob(f"*{volume.ENDED}")]
    ids = [one["last_prediction_id"] for one in ends]
    last = {one.partition("-")[0]: one for one in ids}
    for writer in writers:
        if any(one.startswith(writer.prefix) for one in pod.stored_ids()):
            assert last[writer.prefix] == f"{writer.prefix}-{writer.number - 1:08x}"
