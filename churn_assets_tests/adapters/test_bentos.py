"""Build and serving of bentos: complete, isolated, and without leftovers.

These tests use the real `bentoml build` and `bentoml serve`. One bento is built for the whole
module, twice: the second build must replace the first. The responses of the service are tested in
`churn_assets_tests/bento`.
"""

import hashlib
import importlib.metadata
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from upath import UPath

from churn_assets.adapters.bentos import SOURCE, BentoError, BentoStore, BuiltBento, serving
from churn_assets.contracts.card import GoldenRows, ModelCard
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.modelling.scorer import Scorer
from churn_assets_tests.bentos import (
    CONTRACT,
    SCORER,
    build,
    customers,
    linear_scorer,
    model_card,
)

HEAVY = ("pandas", "pyarrow", "pandera", "sklearn", "scipy", "dagster", "mlflow")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BentoStore:
    return BentoStore(tmp_path_factory.mktemp("bentoml") / "home")


@pytest.fixture(scope="module")
def built(store: BentoStore) -> BuiltBento:
    exports = store.home.parent / "exports"
    build(store, linear_scorer(CONTRACT, seed=2), exports)
    return build(store, SCORER, exports)


@pytest.fixture(scope="module")
def url(built: BuiltBento, store: BentoStore) -> Iterator[str]:
    before = server_processes()
    with serving(str(built.archive), store.home) as url:
        started = server_processes() - before
        yield url
    assert len(started) >= 2
    assert not [process for process in started if is_alive(process)]


def server_processes() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def test_a_bento_is_pinned_to_its_model(built: BuiltBento, store: BentoStore) -> None:
    assert built.tag == built.model_tag == "churn_telecom:3"
    about = yaml.safe_load((store.home / "bentos/churn_telecom/3/bento.yaml").read_text())
    assert about["args"] == {"model_tag": "churn_telecom:3"}
    assert [m["tag"] for s in about["services"] for m in s["models"]] == ["churn_telecom:3"]
    assert about["labels"] == {"contract": "telecom 1.0.0", "run_id": "0f3a"}


def test_the_archive_contains_everything_that_serving_needs(built: BuiltBento) -> None:
    assert built.archive.name == "churn_telecom-3.bento"
    assert built.size_bytes == built.archive.stat().st_size > 0
    assert built.archive_sha256 == hashlib.sha256(built.archive.read_bytes()).hexdigest()
    assert list(built.archive.parent.iterdir()) == [built.archive]
    with tarfile.open(built.archive) as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
        requirements = archive.extractfile("./env/python/requirements.txt")
        assert requirements is not None
        pins = requirements.read().decode().split()
    assert {
        "models/churn_telecom/3/scorer.npz",
        "models/churn_telecom/3/scorer.json",
        "models/churn_telecom/3/fallback/scorer.npz",
        "models/churn_telecom/3/fallback/scorer.json",
        "models/churn_telecom/3/card.json",
        "models/churn_telecom/3/golden.json",
        "src/service.py",
        "src/contract.json",
        "src/derived.py",
        "src/churn_assets/contracts/card.py",
        "src/churn_assets/contracts/request.py",
        "src/churn_assets/core/modelling/scorer.py",
        "src/churn_service/__init__.py",
    } <= names
    sources = {f"src/{p.relative_to(SOURCE)}" for p in (SOURCE / "churn_service").rglob("*.py")}
    assert sources <= names
    assert not any("loading" in name or "pycache" in name for name in names)
    for package in (
        "bentoml", "deprecated", "httptools", "limits", "numpy", "opentelemetry-proto",
        "opentelemetry-exporter-otlp-proto-http", "pybreaker", "pydantic", "pydantic-settings",
        "starlette", "uvloop",
    ):  # fmt: skip
        assert f"{package}=={importlib.metadata.version(package)}" in pins
    assert not any(pin.startswith(HEAVY) for pin in pins)
    assert all("==" in pin for pin in pins)


def test_the_model_has_fallback_card_and_golden_rows(built: BuiltBento, store: BentoStore) -> None:
    folder = store.home / "models/churn_telecom/3"
    card = ModelCard.model_validate_json((folder / "card.json").read_text())
    golden = GoldenRows.model_validate_json((folder / "golden.json").read_text())
    model = request_model(CONTRACT)
    rows = [features(model.model_validate(body), CONTRACT) for body in golden.customers]
    assert card == model_card()
    assert len(rows) == 32
    for place, probabilities in ((folder, golden.main), (folder / "fallback", golden.fallback)):
        scorer = Scorer.load(place)
        assert tuple(scorer.score_one(row) for row in rows) == probabilities
    assert golden.main != golden.fallback


@pytest.mark.skipif(not psutil.LINUX, reason="no other system shows what a process has loaded")
def test_the_server_loads_no_training_library(url: str) -> None:
    response = httpx.post(f"{url}/predict", json=customers(1)[0], trust_env=False)
    assert response.status_code == 200, response.text
    mapped = {m.path for process in server_processes() for m in process.memory_maps()}
    assert any("/numpy/" in path for path in mapped), "the worker was not among the processes"
    assert not [path for path in mapped if any(f"/{name}/" in path for name in HEAVY)]


def test_a_killed_server_leaves_no_processes_or_files(built: BuiltBento, store: BentoStore) -> None:
    before, files = server_processes(), sorted(store.home.rglob("*.*"))
    with serving(built.tag, store.home) as url:
        started = server_processes() - before
        response = httpx.post(f"{url}/predict", json=customers(1)[0], trust_env=False)
        assert response.json()["model_version"] == "3"
        next(process for process in started if process.ppid() == os.getpid()).kill()
    assert not [process for process in started if is_alive(process)]
    assert sorted(store.home.rglob("*.*")) == files


def test_the_error_of_a_failed_server_has_the_reason(store: BentoStore, tmp_path: Path) -> None:
    before = server_processes()
    (tmp_path / "bento.yaml").write_text("service: nothing:Here\nname: broken\nversion: '1'\n")
    refused = pytest.raises(BentoError, match=r"(?s)the server ended:.*Error")
    with refused, serving(str(tmp_path), store.home):
        pytest.fail("served a broken bento")
    assert server_processes() <= before


def test_a_server_that_is_not_ready_is_stopped(built: BuiltBento, store: BentoStore) -> None:
    before = server_processes()
    refused = pytest.raises(BentoError, match=r"not ready within 0\.01 s")
    with refused, serving(built.tag, store.home, timeout=0.01):
        pytest.fail("a server cannot be ready so soon")
    assert server_processes() <= before


@pytest.mark.parametrize("tag", ["churn_telecom", "churn_telecom:", "churn_tele:3", "other:3"])
def test_only_an_exact_tag_is_served(built: BuiltBento, store: BentoStore, tag: str) -> None:
    with pytest.raises(BentoError, match="there is no bento"), serving(tag, store.home):
        pytest.fail("served a bento that does not exist")


def test_a_failed_build_reports_the_reason_and_changes_nothing(
    built: BuiltBento, store: BentoStore, tmp_path: Path
) -> None:
    def files() -> dict[Path, bytes]:
        kept = [*store.home.glob("bentos/**/*.*"), *store.home.glob("models/**/*.*")]
        return {path: path.read_bytes() for path in kept}

    before = files()
    shutil.copytree(store.source, tmp_path / "bento")
    (tmp_path / "bento" / "service.py").write_text("raise SystemError('out of order')")
    broken = BentoStore(store.home, tmp_path / "bento")
    with pytest.raises(BentoError, match=r"(?s)the build failed:.*out of order"):
        build(broken, SCORER, tmp_path / "exports")
    assert files() == before
    assert not (tmp_path / "exports").exists()


def test_an_invalid_tag_is_refused(store: BentoStore, tmp_path: Path) -> None:
    with pytest.raises(BentoError, match=r"(?s)the build failed:.*Invalid Tag \.\./x:3"):
        build(store, SCORER, tmp_path, name="../x")


def test_a_scorer_of_another_contract_is_refused(store: BentoStore, tmp_path: Path) -> None:
    with pytest.raises(BentoError, match=r"lacks inputs of a scorer: .*internet_service"):
        build(store, linear_scorer(load_contract("ibm_telco"), seed=1), tmp_path)
    with pytest.raises(BentoError, match=r"lacks inputs of a scorer: .*internet_service"):
        build(store, SCORER, tmp_path, fallback=linear_scorer(load_contract("ibm_telco"), seed=1))


def test_a_card_of_another_contract_is_refused(store: BentoStore, tmp_path: Path) -> None:
    message = rf"contract 'telecom' 0\.9\.0 \(abc\), not for .* \({CONTRACT.fingerprint}\)"
    with pytest.raises(BentoError, match=message):
        build(store, SCORER, tmp_path, contract_fingerprint="abc", contract_version="0.9.0")


def test_an_archive_is_exported_to_a_store_of_objects(tmp_path: Path) -> None:
    archives = UPath("memory://archives")
    built = build(BentoStore(tmp_path / "home"), SCORER, archives)
    assert str(built.archive) == "memory://archives/churn_telecom-3.bento"
    assert list(archives.iterdir()) == [built.archive], "no part of it is left"
    assert hashlib.sha256(built.archive.read_bytes()).hexdigest() == built.archive_sha256
