"""The service keeps running with broken scorers, a full disk or a changed key file."""

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
from churn_service.access.api_keys import new_key

from churn_assets.adapters.bentos import BuiltBento
from churn_assets.contracts.request import RequestFeatures, request_model
from churn_assets.core.modelling.scorer import Scorer
from churn_assets_tests.bento.disks import SmallDisk, SmallFiles
from churn_assets_tests.bento.expected_responses import assert_problem
from churn_assets_tests.bento.key_files import mount_keys, replace_keys
from churn_assets_tests.bento.load_client import Tally, closed_loop, request_bytes
from churn_assets_tests.bento.server_process import ServerProcess, server_process, wait_until
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, customers

CUSTOMERS = customers(200)


def probabilities(scorer: Scorer, count: int) -> list[float]:
    """The scorer's probabilities of the first customers."""
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


def repair(model: Path, scorer: Scorer) -> None:
    """Replaces broken files by valid ones, each file atomically."""
    valid = model / "valid"
    scorer.save(valid)
    for path in valid.iterdir():
        path.replace(model / path.name)


def predictions(server: ServerProcess, count: int) -> list[dict[str, Any]]:
    responses = [server.request("/predict", customer) for customer in CUSTOMERS[:count]]
    assert {response.status_code for response in responses} == {200}
    return [response.json() for response in responses]


def assert_scored_by(scorer: Scorer, server: ServerProcess, *, degraded: bool) -> None:
    """Asserts that predictions are the scorer's to the bit, one by one and in a batch."""
    expected = probabilities(scorer, 20)
    ones = predictions(server, 20)
    assert [one["churn_probability"] for one in ones] == expected
    assert {one["degraded"] for one in ones} == {degraded}
    batch = server.request("/predict/batch", {"customers": CUSTOMERS[:20]}).json()
    assert [one["churn_probability"] for one in batch["predictions"]] == expected
    assert {one["degraded"] for one in [batch, *batch["predictions"]]} == {degraded}


@pytest.mark.parametrize(
    ("harm", "reason", "repairable"),
    [
        (truncate, "scorer.npz cannot be read", True),
        (swap_for_another_model, "golden row 0 has ", True),
        (misprint_golden_rows, "golden row 1 has ", False),
    ],
)
def test_a_broken_main_scorer_is_replaced_by_the_fallback(
    built: BuiltBento,
    tmp_path: Path,
    harm: Callable[[Path], None],
    reason: str,
    *,
    repairable: bool,
) -> None:
    with server_process(built, tmp_path, prepare=harm, breaker_seconds=1) as server:
        assert server.request("/readyz").status_code == 200
        assert_scored_by(FALLBACK, server, degraded=True)
        health = server.request("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["degraded"] is True
        metrics = server.metrics()
        assert metrics["churn_degraded_predictions_total"] == 40
        assert metrics["churn_breaker_opened_total"] >= 1
        own = [line for line in server.log_lines() if line["logger"] == "churn.service"]
        messages = [line["message"] for line in own]
        assert any(reason in message for message in messages), messages
        if repairable:
            repair(server.model, SCORER)
            wait_until(lambda: not predictions(server, 1)[0]["degraded"], 10)
            assert_scored_by(SCORER, server, degraded=False)
            assert server.request("/health").json()["status"] == "ok"
        else:
            time.sleep(1.1)  # The breaker tries the main scorer again, which fails again.
            assert_scored_by(FALLBACK, server, degraded=True)


def test_without_any_scorer_requests_are_refused_until_one_is_repaired(
    built: BuiltBento, tmp_path: Path
) -> None:
    with server_process(
        built, tmp_path, prepare=truncate_both, ready="/livez", breaker_seconds=1
    ) as server:
        assert server.request("/readyz").status_code == 503
        assert server.request("/livez").status_code == 200
        health = server.request("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        for path, body in (
            ("/predict", CUSTOMERS[0]),
            ("/predict/batch", {"customers": CUSTOMERS[:2]}),
        ):
            response = server.request(path, body)
            assert_problem(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) >= 1
        repair(server.model / "fallback", FALLBACK)
        wait_until(lambda: server.request("/readyz").status_code == 200, 10)
        assert_scored_by(FALLBACK, server, degraded=True)
        repair(server.model, SCORER)
        wait_until(lambda: not predictions(server, 1)[0]["degraded"], 10)
        assert_scored_by(SCORER, server, degraded=False)


# A full disk


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk | SmallFiles]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SmallDisk(folder) if os.getuid() == 0 else SmallFiles(folder)
    yield disk
    disk.close()


def test_a_full_disk_drops_log_lines_but_no_prediction(
    built: BuiltBento, tmp_path: Path, small: SmallDisk | SmallFiles
) -> None:
    def logged() -> list[str]:
        """Ids in the log; an invalid line fails the test."""
        files = small.folder.rglob("*.jsonl")
        lines = chain.from_iterable(path.read_bytes().splitlines(True) for path in files)
        return [json.loads(line)["prediction_id"] for line in lines if line.endswith(b"\n")]

    def dropped() -> int:
        return int(server.metrics().get('churn_prediction_log_dropped_total{reason="disk"}', 0))

    (tmp_path / "server").mkdir()
    with server_process(
        built, tmp_path / "server", prediction_log=small.folder, log_level="ERROR"
    ) as server:
        # Creates the files of the metrics, so that the full disk affects only the prediction log.
        ids = [one["prediction_id"] for one in predictions(server, 1)]
        wait_until(lambda: logged() == ids)
        small.fill(server)
        ids += [one["prediction_id"] for one in predictions(server, 149)]
        # A line that was written in part is neither in the log yet nor dropped.
        wait_until(lambda: len(logged()) + dropped() in (149, 150))
        assert dropped() > 50
        small.free(server)
        ids += [one["prediction_id"] for one in predictions(server, 20)]
        wait_until(lambda: len(logged()) + dropped() == 170)
        lost = dropped()
        server.process.terminate()
        assert server.process.wait(timeout=15) == 0
        # After the end of the server every line is complete, and no line is there twice.
        text = "".join(path.read_text() for path in small.folder.rglob("*.jsonl"))
        assert text.endswith("\n")
        assert len(logged()) == 170 - lost
        assert set(logged()) < set(ids)
        assert len(set(logged())) == len(logged())
        assert logged()[-20:] == ids[-20:]
        assert "No space left on device" in server.log.read_text() or os.getuid() != 0


# Key rotation


class Clients:
    """Four clients that send requests with a key until `stop` is called."""

    def __init__(self, server: ServerProcess, token: str) -> None:
        self.tally = Tally()
        requests = [request_bytes("/predict", customer, key=token) for customer in CUSTOMERS[:20]]
        self._go_on = True
        self._tasks = [
            asyncio.create_task(closed_loop(server.port, requests, self.tally, lambda: self._go_on))
            for _ in range(4)
        ]

    async def stop(self) -> Tally:
        self._go_on = False
        await asyncio.gather(*self._tasks)
        return self.tally


async def seconds_until(status: int, server: ServerProcess, token: str) -> float:
    """Waits until a key gets this status, and returns the seconds that it took."""
    began = time.monotonic()
    while (await asyncio.to_thread(server.request, "/model", key=token)).status_code != status:
        assert time.monotonic() < began + 10, f"no response had the status {status}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def test_a_key_is_rotated_under_load_without_a_refusal(built: BuiltBento, tmp_path: Path) -> None:
    mount, later = tmp_path / "mount", datetime.now(UTC) + timedelta(days=1)
    (old_token, old), (new_token, new) = (
        new_key("predict", later, name) for name in ("old", "new")
    )
    mount_keys(mount, old)
    (tmp_path / "server").mkdir()

    async def rotate(server: ServerProcess) -> None:
        old_clients = Clients(server, old_token)
        assert (await asyncio.to_thread(server.request, "/model", key=new_token)).status_code == 401
        mount_keys(mount, old, new)
        assert await seconds_until(200, server, new_token) < 3
        new_clients = Clients(server, new_token)
        await asyncio.sleep(2)  # Both keys are valid while the file is checked again.
        tally = await old_clients.stop()
        assert (tally.lost, set(tally.answered)) == ([], {200})
        mount_keys(mount, new)
        assert await seconds_until(401, server, old_token) < 3
        # The same rotation with a file that is replaced in place.
        replace_keys(mount, old, new)
        assert await seconds_until(200, server, old_token) < 3
        replace_keys(mount, new)
        assert await seconds_until(401, server, old_token) < 3
        tally = await new_clients.stop()
        assert (tally.lost, set(tally.answered)) == ([], {200})
        assert tally.answered[200] > 100

    with server_process(built, tmp_path / "server", keys_file=mount / "keys.json") as server:
        asyncio.run(rotate(server))
        text = server.log.read_text()
    assert old_token not in text
    assert new_token not in text
