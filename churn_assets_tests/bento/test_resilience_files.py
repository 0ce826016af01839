"""Broken scorers, a full disk, a new file of keys: the service goes on, and says what is wrong."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from churn_service.access.api_keys import Key, new_key, write_keys

from churn_assets.adapters.bentos import BuiltBento
from churn_assets.contracts.request import RequestFeatures, request_model
from churn_assets.core.modelling.scorer import Scorer
from churn_assets_tests.bento.disks import SmallDisk, SmallFiles
from churn_assets_tests.bento.load import Tally, closed_loop, request
from churn_assets_tests.bento.running import Server, running, until
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, customers

CUSTOMERS = customers(200)


def probabilities(scorer: Scorer, count: int) -> list[float]:
    """What a scorer gives the first customers."""
    features, model = RequestFeatures(CONTRACT), request_model(CONTRACT)
    rows = (features.row(model.model_validate(customer)) for customer in CUSTOMERS[:count])
    return [scorer.score_one(row) for row in rows]


# A broken scorer


def truncate(folder: Path) -> None:
    path = folder / "scorer.npz"
    os.truncate(path, path.stat().st_size // 2)


def truncate_both(model: Path) -> None:
    truncate(model)
    truncate(model / "fallback")


def swap_for_another_model(model: Path) -> None:
    for name in ("scorer.npz", "scorer.json"):
        shutil.copy(model / "fallback" / name, model / name)


def misprint_golden_rows(model: Path) -> None:
    path = model / "golden.json"
    golden = json.loads(path.read_text())
    golden["main"][1] += 1e-9
    path.write_text(json.dumps(golden))


def heal(model: Path, scorer: Scorer) -> None:
    """Puts whole files where broken ones are, each at once."""
    whole = model / "whole"
    scorer.save(whole)
    for path in whole.iterdir():
        path.replace(model / path.name)


def answers(server: Server, count: int) -> list[dict[str, Any]]:
    asked = [server.ask("/predict", customer) for customer in CUSTOMERS[:count]]
    assert {answer.status for answer in asked} == {200}
    return [answer.json for answer in asked]


def assert_answered_by(scorer: Scorer, server: Server, *, degraded: bool) -> None:
    """To the bit, one by one and together."""
    expected = probabilities(scorer, 20)
    ones = answers(server, 20)
    assert [one["churn_probability"] for one in ones] == expected
    assert {one["degraded"] for one in ones} == {degraded}
    batch = server.ask("/predict/batch", {"customers": CUSTOMERS[:20]}).json
    assert [one["churn_probability"] for one in batch["predictions"]] == expected
    assert {one["degraded"] for one in [batch, *batch["predictions"]]} == {degraded}


@pytest.mark.parametrize(
    ("harm", "reason", "heals"),
    [
        (truncate, "scorer.npz cannot be read", True),
        (swap_for_another_model, "golden row 0 has ", True),
        (misprint_golden_rows, "golden row 1 has ", False),
    ],
)
def test_a_broken_scorer_leaves_the_fallback_to_answer(
    built: BuiltBento, tmp_path: Path, harm: Callable[[Path], None], reason: str, *, heals: bool
) -> None:
    with running(built, tmp_path, prepare=harm, breaker_seconds=1) as server:
        assert server.ask("/readyz").status == 200
        assert_answered_by(FALLBACK, server, degraded=True)
        health = server.ask("/health")
        assert (health.status, health.json["status"]) == (200, "degraded")
        assert health.json["degraded"] is True
        metrics = server.metrics()
        assert metrics["churn_degraded_predictions_total"] == 40
        assert metrics["churn_breaker_opened_total"] >= 1
        said = [line["message"] for line in server.said() if line["logger"] == "churn.service"]
        assert any(reason in message for message in said), said
        if heals:
            heal(server.model, SCORER)
            until(lambda: not answers(server, 1)[0]["degraded"], 10)
            assert_answered_by(SCORER, server, degraded=False)
            assert server.ask("/health").json["status"] == "ok"
        else:
            time.sleep(1.1)  # The breaker lets it try again, and it fails again.
            assert_answered_by(FALLBACK, server, degraded=True)


def test_without_any_scorer_it_says_so_until_one_comes_back(
    built: BuiltBento, tmp_path: Path
) -> None:
    with running(
        built, tmp_path, prepare=truncate_both, ready="/livez", breaker_seconds=1
    ) as server:
        assert server.ask("/readyz").status == 503
        assert server.ask("/livez").status == 200
        health = server.ask("/health")
        assert (health.status, health.json["status"]) == (503, "unavailable")
        for path, body in (
            ("/predict", CUSTOMERS[0]),
            ("/predict/batch", {"customers": CUSTOMERS[:2]}),
        ):
            answer = server.ask(path, body)
            assert answer.status == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json["type"] == "urn:churn:problem:unavailable"
        heal(server.model / "fallback", FALLBACK)
        until(lambda: server.ask("/readyz").status == 200, 10)
        assert_answered_by(FALLBACK, server, degraded=True)
        heal(server.model, SCORER)
        until(lambda: not answers(server, 1)[0]["degraded"], 10)
        assert_answered_by(SCORER, server, degraded=False)


# A full disk


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk | SmallFiles]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SmallDisk(folder) if os.getuid() == 0 else SmallFiles(folder)
    yield disk
    disk.close()


def test_a_full_disk_costs_lines_of_the_log_and_no_answer(
    built: BuiltBento, tmp_path: Path, small: SmallDisk | SmallFiles
) -> None:
    def logged() -> list[str]:
        """Ids in the log; what is no whole JSON fails the test."""
        files = small.folder.rglob("*.jsonl")
        lines = chain.from_iterable(path.read_bytes().splitlines(True) for path in files)
        return [json.loads(line)["prediction_id"] for line in lines if line.endswith(b"\n")]

    def dropped() -> int:
        return int(server.metrics().get('churn_prediction_log_dropped_total{reason="disk"}', 0))

    (tmp_path / "server").mkdir()
    with running(
        built, tmp_path / "server", prediction_log=small.folder, log_level="ERROR"
    ) as server:
        # The files of the metrics are made by now: this is about the prediction log.
        ids = [one["prediction_id"] for one in answers(server, 1)]
        until(lambda: logged() == ids)
        small.fill(server)
        ids += [one["prediction_id"] for one in answers(server, 149)]
        # A line of which the disk took one half is neither in the log yet nor lost.
        until(lambda: len(logged()) + dropped() in (149, 150))
        assert dropped() > 50
        small.free(server)
        ids += [one["prediction_id"] for one in answers(server, 20)]
        until(lambda: len(logged()) + dropped() == 170)
        lost = dropped()
        server.process.terminate()
        assert server.process.wait(timeout=15) == 0
        # The server is gone: now every line is whole, and none is there twice.
        text = "".join(path.read_text() for path in small.folder.rglob("*.jsonl"))
        assert text.endswith("\n")
        assert len(logged()) == 170 - lost
        assert set(logged()) < set(ids)
        assert len(set(logged())) == len(logged())
        assert logged()[-20:] == ids[-20:]
        assert "No space left on device" in server.log.read_text() or os.getuid() != 0


# A key is rotated


def mount_keys(mount: Path, *keys: Key) -> None:
    """Puts a file of keys where Kubernetes would: behind a symbolic link that is swapped."""
    folder = mount / f"..{time.time_ns()}"
    folder.mkdir(parents=True)
    write_keys(folder / "keys.json", keys)
    (mount / "..new").symlink_to(folder.name)
    (mount / "..new").replace(mount / "..data")
    if not (mount / "keys.json").is_symlink():
        (mount / "keys.json").symlink_to("..data/keys.json")


class Callers:
    """Four callers who use a key until they are told to stop."""

    def __init__(self, server: Server, token: str) -> None:
        self.tally = Tally()
        requests = [request("/predict", one, key=token) for one in CUSTOMERS[:20]]
        self._go_on = True
        self._tasks = [
            asyncio.create_task(closed_loop(server.port, requests, self.tally, lambda: self._go_on))
            for _ in range(4)
        ]

    async def stop(self) -> Tally:
        self._go_on = False
        await asyncio.gather(*self._tasks)
        return self.tally


async def seconds_until(status: int, server: Server, token: str) -> float:
    """How long it takes until a key gets this status."""
    began = time.monotonic()
    while (await asyncio.to_thread(server.ask, "/model", key=token)).status != status:
        assert time.monotonic() < began + 10, f"no {status} came"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def test_a_key_is_rotated_under_load_without_a_refusal(built: BuiltBento, tmp_path: Path) -> None:
    mount, later = tmp_path / "mount", datetime.now(UTC) + timedelta(days=1)
    (old_token, old), (new_token, new) = (
        new_key("predict", later, name) for name in ("old", "new")
    )
    mount_keys(mount, old)
    (tmp_path / "server").mkdir()

    async def rotate(server: Server) -> None:
        old_callers = Callers(server, old_token)
        assert (await asyncio.to_thread(server.ask, "/model", key=new_token)).status == 401
        mount_keys(mount, old, new)
        assert await seconds_until(200, server, new_token) < 3
        new_callers = Callers(server, new_token)
        await asyncio.sleep(2)  # Both are valid, while the file is looked at again.
        tally = await old_callers.stop()
        assert (tally.lost, set(tally.answered)) == ([], {200})
        mount_keys(mount, new)
        assert await seconds_until(401, server, old_token) < 3
        # The same again, with a file that is replaced in place.
        write_keys(mount / "keys.json", (old, new))
        assert await seconds_until(200, server, old_token) < 3
        write_keys(mount / "keys.json", (new,))
        assert await seconds_until(401, server, old_token) < 3
        tally = await new_callers.stop()
        assert (tally.lost, set(tally.answered)) == ([], {200})
        assert tally.answered[200] > 100

    with running(built, tmp_path / "server", keys_file=mount / "keys.json") as server:
        asyncio.run(rotate(server))
        text = server.log.read_text()
    assert old_token not in text
    assert new_token not in text
