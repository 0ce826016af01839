"""Lines that the service logged are scored again by its own bento, and a difference is found."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from churn_service.rescoring import MOST_VALUES, TOLERANCE, main, values
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.pseudonym import KEY_BYTES, pseudonym
from churn_assets.contracts.request import features, request_model
from churn_assets_tests.bento.served_bento import eventually, served_bento
from churn_assets_tests.bento.server_process import server_process
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, customers
from churn_assets_tests.core.modelling.linear_scorers import linear_scorer

KEY = "0123456789abcdef0123456789abcdef"
KNOWN = {None, *SCORER.codes["location"]}
CUSTOMERS = [one for one in customers(400) if one["location"] in KNOWN][:120]

Line = dict[str, Any]
Change = Callable[[Line], Line]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id.key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture(scope="module")
def bento(built: BuiltBento, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bento")
    with tarfile.open(built.archive) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def logged(
    built: BuiltBento,
    store: BentoStore,
    key_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Line]:
    """Lines of 20 single requests and a batch of 100, as the service wrote them."""
    settings = {"CHURN_API_ID_KEY_FILE": str(key_file)}
    with served_bento(built, store, tmp_path_factory.mktemp("log"), settings) as server:
        answers = [server.client.post("/predict", json=one).json() for one in CUSTOMERS[:20]]
        body = {"customers": CUSTOMERS[20:]}
        answers += server.client.post("/predict/batch", json=body).json()["predictions"]
        ids = [one["prediction_id"] for one in answers]
        lines = server.prediction_lines(set(ids))
    return [lines[one] for one in ids]


def rescored(bento: Path, key_file: Path, lines: list[Line], fewest: int = 1) -> tuple[int, Line]:
    """Exit code and result of the command."""
    file = key_file.with_name("lines.jsonl")
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    options = {"--bento": bento, "--lines": file, "--id-key": key_file, "--fewest": fewest}
    done = CliRunner().invoke(main, [str(part) for pair in options.items() for part in pair])
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}


def test_the_lines_of_the_service_are_those_of_its_bento(
    bento: Path, key_file: Path, logged: list[Line]
) -> None:
    code, found = rescored(bento, key_file, logged, fewest=120)
    assert code == 0
    assert found == {
        "judged": 120,
        "not_judged": {},
        "differing": 0,
        "largest_difference": 0.0,
        "samples": [],
    }


def test_lines_of_the_fallback_are_scored_by_the_fallback(
    bento: Path, key_file: Path, logged: list[Line]
) -> None:
    row = features(request_model(CONTRACT)(**CUSTOMERS[0]), CONTRACT)
    main_score, score = SCORER.score_one(row), FALLBACK.score_one(row)
    degraded = logged[0] | {"degraded": True}
    assert rescored(bento, key_file, [degraded | {"churn_probability": score}])[0] == 0
    assert rescored(bento, key_file, [degraded | {"churn_probability": main_score}])[0] == 3


def test_lines_that_a_degraded_service_wrote_are_those_of_its_fallback(
    bento: Path, built: BuiltBento, key_file: Path, tmp_path: Path
) -> None:
    def truncate(model: Path) -> None:
        (model / "scorer.npz").write_bytes(b"")

    log = tmp_path / "predictions"
    options = {"prediction_log": log, "id_key_file": key_file}
    with server_process(built, tmp_path, prepare=truncate, **options) as server:
        for one in CUSTOMERS[:10]:
            assert server.request("/predict", one).json()["degraded"]
        assert server.request("/predict/batch", {"customers": CUSTOMERS[10:]}).json()["degraded"]
        lines = eventually(lambda: complete(log, len(CUSTOMERS)))
    assert {line["degraded"] for line in lines} == {True}
    code, found = rescored(bento, key_file, lines, fewest=120)
    assert (code, found["judged"], found["largest_difference"]) == (0, 120, 0.0)


def complete(log: Path, count: int) -> list[Line] | None:
    """All lines of a log, once there are as many as wanted."""
    texts = [text for file in log.rglob("*.jsonl") for text in file.read_text().splitlines(True)]
    lines = [json.loads(text) for text in texts if text.endswith("\n")]
    return lines if len(lines) == count else None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda line: {"churn_probability": line["churn_probability"] + TOLERANCE / 2}, 0),
        (lambda line: {"churn_probability": line["churn_probability"] + TOLERANCE * 2}, 3),
        (lambda line: {"churn_probability": line["churn_probability"] - 0.05}, 3),
        (lambda line: {"model_version": "4"}, 3),
    ],
)
def test_one_line_that_differs_is_enough(
    bento: Path, key_file: Path, logged: list[Line], change: Change, code: int
) -> None:
    lines = [*logged[:50], logged[50] | change(logged[50]), *logged[51:]]
    found_code, found = rescored(bento, key_file, lines, fewest=120)
    assert found_code == code
    assert found["differing"] == bool(code)
    ids = [sample["prediction_id"] for sample in found["samples"]]
    assert ids == [logged[50]["prediction_id"]] * bool(code)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda line: {"features": line["features"] | {"age": "0" * 32}},
            "the pseudonym of age is of none of 93 values, by this key",
        ),
        (
            lambda line: {"features": {"tenure_months": 3}},
            f"the line has no feature {CONTRACT.features[0].name}",
        ),
        (
            # A city that training never saw.
            lambda line: {"features": line["features"] | {"location": "0" * 32}},
            f"the pseudonym of location is of none of {len(KNOWN) - 1} values, by this key",
        ),
        (lambda line: {"features": "torn"}, "the line is no prediction"),
    ],
)
def test_a_line_that_cannot_be_compared_is_never_equal(
    bento: Path, key_file: Path, logged: list[Line], change: Change, reason: str
) -> None:
    lines = [line | change(line) for line in logged[:10]]
    code, found = rescored(bento, key_file, lines)
    assert code == 2
    assert found["not_judged"] == {reason: 10}


@pytest.mark.parametrize(
    "features",
    [
        {"tenure_months": 3},
        {column.name: "0" * 32 for column in CONTRACT.features},
    ],
)
def test_a_line_of_another_model_differs_though_it_cannot_be_scored(
    bento: Path, key_file: Path, logged: list[Line], features: dict[str, Any]
) -> None:
    other = logged[0] | {"model_version": "4", "features": features}
    code, found = rescored(bento, key_file, [*logged[1:], other], fewest=100)
    assert code == 3
    assert found == {
        "judged": 120,
        "not_judged": {},
        "differing": 1,
        "largest_difference": 0.0,
        "samples": [
            {
                "prediction_id": other["prediction_id"],
                "model_version": "4",
                "logged": other["churn_probability"],
                "computed": None,
            }
        ],
    }


def test_lines_of_another_key_are_not_judged(
    bento: Path, key_file: Path, logged: list[Line]
) -> None:
    other = key_file.with_name("other.key")
    other.write_text(KEY[::-1])
    code, found = rescored(bento, other, logged)
    assert (code, found["judged"]) == (2, 0)
    assert sum(found["not_judged"].values()) == 120


def test_a_torn_line_is_counted_and_the_others_are_judged(
    bento: Path, key_file: Path, logged: list[Line]
) -> None:
    file = key_file.with_name("torn.jsonl")
    whole = "".join(f"{json.dumps(line)}\n" for line in logged[1:])
    file.write_text(whole + json.dumps(logged[0])[:60])
    options = {"--bento": bento, "--lines": file, "--id-key": key_file, "--fewest": 119}
    done = CliRunner().invoke(main, [str(part) for pair in options.items() for part in pair])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["judged"]) == (0, 119)
    assert found["not_judged"] == {"the line is no prediction": 1}


@pytest.mark.parametrize(("fewest", "code"), [(119, 0), (120, 0), (121, 2)])
def test_too_few_lines_are_no_success(
    bento: Path, key_file: Path, logged: list[Line], fewest: int, code: int
) -> None:
    assert rescored(bento, key_file, logged, fewest)[0] == code


def test_a_wrong_setting_names_the_option(bento: Path, key_file: Path, logged: list[Line]) -> None:
    short = key_file.with_name("short.key")
    short.write_text("abc")
    assert rescored(bento, short, logged)[0] == 2
    assert rescored(key_file.parent, key_file, logged)[0] == 2


def test_the_bento_has_all_that_the_command_needs(
    bento: Path, key_file: Path, logged: list[Line], tmp_path: Path
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in logged))
    command = [sys.executable, "-X", "importtime", "-m", "churn_service.rescoring"]
    options = ["--bento", bento, "--lines", lines, "--id-key", key_file, "--fewest", "120"]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(bento / "src")}
    done = subprocess.run(
        [*command, *map(str, options)], env=variables, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["judged"] == 120
    assert "| pandas" not in done.stderr


@pytest.mark.parametrize("name", ["telecom", "ibm_telco"])
def test_every_personal_feature_of_the_contracts_has_a_list_of_values(name: str) -> None:
    contract = load_contract(name)
    scorer = linear_scorer(contract, 1)
    lists = {c.name: len(list(values(c, [scorer]))) for c in contract.features if c.personal}
    assert lists
    assert all(0 < count <= MOST_VALUES for count in lists.values()), lists


@pytest.mark.parametrize("name", ["telecom", "ibm_telco"])
@given(key=st.binary(min_size=KEY_BYTES[0], max_size=KEY_BYTES[1]))
def test_every_personal_value_has_a_pseudonym_of_its_own(name: str, key: bytes) -> None:
    contract = load_contract(name)
    scorer = linear_scorer(contract, 1)
    for column in (one for one in contract.features if one.personal):
        listed = list(values(column, [scorer]))
        found = {pseudonym(key, column.name, value): value for value in listed}
        assert list(found.values()) == listed
