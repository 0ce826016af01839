"""The sample has only whole predictions of the wanted pods, and never too few."""

import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prediction_log_sampler.sampler import Sampler, TooFewError
from prediction_log_sampler.settings import Settings, load_settings
from prediction_log_shipper.settings import SettingsError
from prediction_log_shipper.store import Store

from churn_assets_tests.containers.pod_volume import environment
from churn_assets_tests.documents import ROOT

HASH = "5588d584f6"
POD = f"churn-churn-service-{HASH}-x2x4k"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    store = tmp_path / "store"
    store.mkdir()
    target = tmp_path / "sample.jsonl"
    return Settings(store.as_uri(), "churn", HASH, target, lines=10, timeout=0.5, interval=0.05)


def ship(settings: Settings, first: int, count: int, *, pod: str = POD, release: str = "churn",
         contract: str = "telecom", template_hash: str = HASH, end: str = "") -> None:  # fmt: skip
    """Puts a file of predictions into the store, as the shipper names it."""
    folder = Path(settings.url.removeprefix("file://"), contract, release, pod)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"prediction_id": str(first + i), "template_hash": template_hash})
        for i in range(count)
    ]
    text = "".join(f"{line}\n" for line in lines) + end
    (folder / f"predictions.{pod}.7.{first:020}.000001.jsonl").write_text(text)


def sample(settings: Settings) -> list[str]:
    """Ids of the predictions in the sample."""
    Sampler(settings, Store(settings.url)).run()
    lines = settings.target.read_text().splitlines()
    return [json.loads(line)["prediction_id"] for line in lines]


def test_a_sample_has_lines_of_all_files_of_the_pods(settings: Settings) -> None:
    ship(settings, 0, 5)
    ship(settings, 100, 5, pod=f"churn-churn-service-{HASH}-b7c8d")
    assert sorted(map(int, sample(settings))) == [*range(5), *range(100, 105)]


def test_lines_of_others_are_left_out(settings: Settings) -> None:
    ship(settings, 0, 10)
    ship(settings, 100, 10, release="other")
    ship(settings, 200, 10, pod="churn-churn-service-9f9f9f9f9f-x2x4k")
    ship(settings, 300, 10, template_hash="9f9f9f9f9f")
    assert sorted(map(int, sample(settings))) == list(range(10))


def test_the_newest_files_are_read_first_and_sampled_at_random(settings: Settings) -> None:
    for first in (0, 1_000, 2_000):
        ship(settings, first, 100)
    random.seed(3)
    ids = sorted(map(int, sample(settings)))
    assert len(set(ids)) == 10
    assert 2_000 <= ids[0] < ids[-1] < 2_100
    assert ids != list(range(2_000, 2_010))


def test_a_line_that_is_no_prediction_is_said_and_left_out(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    torn = json.dumps({"prediction_id": "torn", "template_hash": HASH})
    ship(settings, 0, 10, end=f'[1]\n{{"prediction_id"\n{torn}')
    assert sorted(map(int, sample(settings))) == list(range(10))
    assert capfd.readouterr().err.count("no prediction") == 2


@pytest.mark.parametrize("count", [10, 11])
def test_enough_predictions_end_the_wait(settings: Settings, count: int) -> None:
    ship(settings, 0, count)
    assert len(sample(settings)) == 10


def test_files_that_come_later_are_waited_for(settings: Settings) -> None:
    ship(settings, 0, 9)
    later = threading.Timer(0.3, ship, (settings, 100, 1))
    later.start()
    assert len(sample(replace(settings, timeout=10.0))) == 10
    later.join()


def test_too_few_predictions_are_no_sample(settings: Settings) -> None:
    ship(settings, 0, 9)
    expected = (
        rf"^9 of 10 predictions of the pod template {HASH} were in 1 files of {settings.url} "
        "within 0.5 s: check that its pods get requests"
    )
    with pytest.raises(TooFewError, match=expected):
        sample(settings)
    assert not settings.target.exists()


def test_a_store_that_cannot_be_read_is_tried_again_and_named(settings: Settings) -> None:
    class Broken(Store):
        def read(self, name: str) -> bytes:
            raise PermissionError("403")

    ship(settings, 0, 10)
    with pytest.raises(TooFewError, match=r"the last error: PermissionError: 403$"):
        Sampler(settings, Broken(settings.url)).run()


WRONG = [
    ("URL", "https://a/b", "is 'https://a/b': set a folder's URL with one of s3://, gs://, file"),
    ("RELEASE", "", "is '': set the name of a release"),
    ("TEMPLATE_HASH", "{{args.canary}}", "set the hash of a pod template"),
    ("TARGET", "lines", "is 'lines': set the absolute path of a file"),
    ("LINES", "0", "is '0': set a number from 1 to 100000"),
    ("LINES", "100001", "is '100001': set a number from 1 to 100000"),
    ("TIMEOUT", "0", "is '0': set seconds above 0"),
    ("INTERVAL", "soon", "is 'soon': set seconds above 0"),
]


def variables(settings: Settings) -> dict[str, str]:
    return {
        "CHURN_SAMPLE_URL": settings.url,
        "CHURN_SAMPLE_RELEASE": "churn",
        "CHURN_SAMPLE_TEMPLATE_HASH": HASH,
        "CHURN_SAMPLE_TARGET": str(settings.target),
        "CHURN_SAMPLE_LINES": "10",
        "CHURN_SAMPLE_TIMEOUT": "5",
    }


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_setting_is_named_with_its_rule(
    settings: Settings, name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(variables(settings) | {f"CHURN_SAMPLE_{name}": value})
    assert f"CHURN_SAMPLE_{name} " in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize("count", [9, 10])
def test_the_command_ends_with_the_sample_or_the_reason(settings: Settings, count: int) -> None:
    ship(settings, 0, count)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "prediction_log_sampler"],
        env=environment(variables(settings) | {"CHURN_SAMPLE_TIMEOUT": "1"}, ROOT),
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - began < 10
    assert done.returncode == (count < 10), done.stderr
    assert settings.target.exists() == (count == 10)
    assert ("9 of 10 predictions" in done.stderr) == (count < 10)
