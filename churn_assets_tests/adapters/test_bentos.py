"""A bento answers as the scorer it was built from, from files of its own, and leaves no trace.

Everything here is the real thing: `bentoml` builds, `bentoml serve` serves. One bento is built
for the whole module, twice: the second build must replace the first.
"""

import importlib.metadata
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml

from churn_assets.adapters.bentos import BentoError, BentoStore, BuiltBento, serving
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.scorer import Codes, LinearScorer, Scorer

CONTRACT = load_contract("telecom")
HEAVY = ("pandas", "pyarrow", "pandera", "sklearn", "scipy", "dagster", "mlflow")


def linear_scorer(contract: Contract, seed: int) -> Scorer:
    """A scorer that tells apart every value of every input."""
    rng = np.random.default_rng(seed)
    codes, rows = {}, 0
    for name in contract.categories:
        known = contract[name].values or ("Berlin", "Paris")
        codes[name] = Codes(
            {value: rows + 2 + i for i, value in enumerate(known)}, null=rows, unknown=rows + 1
        )
        rows += 2 + len(known)
    terms = rng.normal(0, 0.3, (len(contract.numbers), 4))
    terms[:, 2] = 100.0
    return LinearScorer(
        contract.numbers,
        codes,
        slope=-1.0,
        offset=0.5,
        terms=terms,
        weights=rng.normal(0, 0.3, rows),
        limits=np.array([1e15, 10.0]),
        intercept=np.array(-0.5),
    )


SCORER = linear_scorer(CONTRACT, seed=1)


def build(store: BentoStore, scorer: Scorer, export_to: Path) -> BuiltBento:
    return store.build(
        scorer=scorer,
        contract=CONTRACT,
        name="churn_telecom",
        version="3",
        labels={"contract": "telecom 1.0.0", "run_id": "0f3a"},
        export_to=export_to,
    )


def customers(n: int) -> list[dict[str, Any]]:
    """Customers all over the contract's range, with nulls and categories that no model knows."""
    rng = np.random.default_rng(7)

    def value(name: str) -> Any:
        column = CONTRACT[name]
        if column.nullable and rng.random() < 0.3:
            return None
        if column.kind == "category":
            return str(rng.choice(column.values or ["Berlin", "Paris", "Atlantis", "Ώ ß"]))
        drawn = rng.uniform(column.ge or 0.0, column.le or 1.0)
        return int(drawn) if column.whole else drawn

    names = [column.name for column in CONTRACT.features]
    return [{"customer_id": f"C-{i}", **{name: value(name) for name in names}} for i in range(n)]


@pytest.fixture(scope="module", autouse=True)
def _shared_bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Many processes import BentoML here; where no bytecode is kept, that is most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("pycache")))
        yield


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


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        yield client


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


def test_the_archive_holds_all_that_serving_needs(built: BuiltBento) -> None:
    assert built.archive.name == "churn_telecom-3.bento"
    assert built.size_bytes == built.archive.stat().st_size > 0
    assert list(built.archive.parent.iterdir()) == [built.archive]
    with tarfile.open(built.archive) as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
        requirements = archive.extractfile("./env/python/requirements.txt")
        assert requirements is not None
        pins = requirements.read().decode().split()
    assert {
        "models/churn_telecom/3/scorer.npz",
        "models/churn_telecom/3/scorer.json",
        "src/service.py",
        "src/contract.json",
        "src/derived.py",
        "src/churn_assets/contracts/request.py",
        "src/churn_assets/core/scorer.py",
    } <= names
    assert not any("loading" in name or "pycache" in name for name in names)
    for package in ("bentoml", "numpy", "pydantic", "starlette"):
        assert f"{package}=={importlib.metadata.version(package)}" in pins
    assert not any(pin.startswith(HEAVY) for pin in pins)
    assert all("==" in pin for pin in pins)


def test_the_service_answers_as_the_scorer_to_the_bit(client: httpx.Client) -> None:
    model = request_model(CONTRACT)
    for customer in customers(60):
        answer = client.post("/predict", json=customer)
        row = features(model.model_validate_json(json.dumps(customer)), CONTRACT)
        probability = SCORER.score_one(row)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "customer_id": customer["customer_id"],
            "churn_probability": probability,
            "will_churn": probability >= CONTRACT.economics.break_even_probability,
            "model_version": "3",
        }


def test_answers_fall_on_both_sides_of_break_even(client: httpx.Client) -> None:
    answers = [client.post("/predict", json=customer).json() for customer in customers(60)]
    assert {answer["will_churn"] for answer in answers} == {True, False}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ('"age": "42"', "age"),
        ('"age": NaN', "age"),
        ('"age": 17', "age"),
        ('"age": 1e400', "age"),
        ('"avg_data_usage": NaN', "avg_data_usage"),
        ('"avg_data_usage": -0.1', "avg_data_usage"),
        ('"gender": "?"', "gender"),
        ('"location": ""', "location"),
        ('"tenure": null', "tenure"),
        ('"nonsense": 1', "nonsense"),
    ],
)
def test_a_bad_request_is_told_its_fields(client: httpx.Client, change: str, field: str) -> None:
    body = json.dumps(customers(1)[0])[:-1] + f", {change}}}"
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert [fault["loc"] for fault in answer.json()["detail"]] == [[field]]


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"age": 42}', "\x00"])
def test_what_is_no_customer_is_a_bad_request(client: httpx.Client, body: str) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"]


def test_the_documentation_shows_a_request_that_works(client: httpx.Client) -> None:
    page = client.get("/docs", follow_redirects=True)
    assert page.status_code == 200
    assert "swagger" in page.text.lower()
    operation = client.get("/docs.json").json()["paths"]["/predict"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"customer_id", *(c.name for c in CONTRACT.features)}
    assert schema["properties"]["tenure"]["maximum"] == 720
    answer = client.post("/predict", json=schema["example"])
    assert answer.status_code == 200, answer.text


@pytest.mark.skipif(not psutil.LINUX, reason="reads what a process has mapped from /proc")
def test_the_server_loads_no_training_library(url: str) -> None:
    mapped = {m.path for process in server_processes() for m in process.memory_maps()}
    assert any("/numpy/" in path for path in mapped), "the worker was not among the processes"
    assert not [path for path in mapped if any(f"/{name}/" in path for name in HEAVY)]


def test_even_a_server_that_was_killed_leaves_nothing(built: BuiltBento, store: BentoStore) -> None:
    before, files = server_processes(), sorted(store.home.rglob("*.*"))
    with serving(built.tag, store.home) as url:
        started = server_processes() - before
        answer = httpx.post(f"{url}/predict", json=customers(1)[0], trust_env=False)
        assert answer.json()["model_version"] == "3"
        next(process for process in started if process.ppid() == os.getpid()).kill()
    assert not [process for process in started if is_alive(process)]
    assert sorted(store.home.rglob("*.*")) == files


def test_a_server_that_fails_says_why(store: BentoStore, tmp_path: Path) -> None:
    before = server_processes()
    (tmp_path / "bento.yaml").write_text("service: nothing:Here\nname: broken\nversion: '1'\n")
    said = pytest.raises(BentoError, match=r"(?s)the server ended:.*Error")
    with said, serving(str(tmp_path), store.home):
        pytest.fail("served a broken bento")
    assert server_processes() <= before


def test_a_server_that_is_late_is_stopped(built: BuiltBento, store: BentoStore) -> None:
    before = server_processes()
    said = pytest.raises(BentoError, match=r"not ready within 0\.01 s")
    with said, serving(built.tag, store.home, timeout=0.01):
        pytest.fail("a server cannot be ready so soon")
    assert server_processes() <= before


@pytest.mark.parametrize("tag", ["churn_telecom", "churn_telecom:", "churn_tele:3", "other:3"])
def test_only_an_exact_tag_is_served(built: BuiltBento, store: BentoStore, tag: str) -> None:
    with pytest.raises(BentoError, match="there is no bento"), serving(tag, store.home):
        pytest.fail("served what is not there")


def test_a_build_that_fails_says_why_and_keeps_what_was_there(
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


def test_a_tag_that_is_none_is_refused(store: BentoStore, tmp_path: Path) -> None:
    with pytest.raises(BentoError, match=r"(?s)the build failed:.*Invalid Tag \.\./x:3"):
        store.build(
            scorer=SCORER,
            contract=CONTRACT,
            name="../x",
            version="3",
            labels={},
            export_to=tmp_path,
        )


def test_a_scorer_of_another_contract_is_refused(store: BentoStore, tmp_path: Path) -> None:
    with pytest.raises(BentoError, match=r"has no .*internet_service.* to score by"):
        build(store, linear_scorer(load_contract("ibm_telco"), seed=1), tmp_path)
