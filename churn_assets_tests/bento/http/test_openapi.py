"""The service keeps to its own OpenAPI document, by every check that Schemathesis has.

It sends what the document allows, which must be answered, and what it forbids, which must be
refused, both as the document says.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from churn_service.access.api_keys import KeyFile, new_key
from churn_service.http.routes import ROUTES

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.served import Served, served

ROOT = Path(__file__).parents[3]

# A batch takes ten times as long to invent as a customer. The same cases come at every run.
CONFIG = """
hooks = "churn_assets_tests.bento.schemathesis_hooks"
[generation]
max-examples = {cases}
deterministic = true
database = "none"
[phases.stateful]
enabled = false
[[operations]]
include-path = "/predict/batch"
generation.max-examples = {batches}
"""

TOKEN, KEY = new_key("admin", datetime.now(UTC) + timedelta(hours=1))


@pytest.fixture(scope="module")
def with_keys(
    built: BuiltBento, store: BentoStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server that wants a key everywhere it can."""
    folder = tmp_path_factory.mktemp("secured")
    keys = folder / "keys.json"
    keys.write_text(KeyFile(keys=(KEY,)).model_dump_json(), encoding="utf-8")
    settings = {
        "CHURN_API_KEYS_FILE": str(keys),
        "CHURN_API_METRICS": "admin",
        "CHURN_API_RATE_LIMIT": "100000/second",
    }
    with served(built, store, folder, settings) as server:
        yield server


@pytest.fixture(scope="module")
def without_keys(
    built: BuiltBento, store: BentoStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with served(built, store, tmp_path_factory.mktemp("open")) as server:
        yield server


Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Runs Schemathesis, and gives its report."""

    def run(server: Served, *, cases: int, batches: int, token: str = "") -> dict[str, Any]:
        config, report = tmp_path / "schemathesis.toml", tmp_path / "report.json"
        config.write_text(CONFIG.format(cases=cases, batches=batches), encoding="utf-8")
        with_key = ["--header", f"Authorization: Bearer {token}"] if token else []
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "--config-file", str(config),
                "run", f"{server.url}/docs.json", "--checks", "all", "--no-color",
                "--request-timeout", "30", "--continue-on-failure",
                "--report", "json", "--report-json-path", str(report), *with_key,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        assert found["complete"]
        assert (found["errors"], found["failures"]) == ([], [])
        # Health, liveness, readiness, metrics, the model and two ways to ask.
        assert found["operations"]["tested"] == 7
        return found

    return run


def test_two_thousand_cases_are_answered_as_documented(with_keys: Served, check: Check) -> None:
    found = check(with_keys, cases=550, batches=80, token=TOKEN)
    assert found["test_cases"]["generated"] >= 2_000
    for route in ("/predict", "/predict/batch"):
        assert found["valid_rates"][f"POST {route}"]["fuzzing"]["accepted"] > 20


def test_who_has_no_key_is_refused_as_documented(with_keys: Served, check: Check) -> None:
    found = check(with_keys, cases=10, batches=5)
    assert found["test_cases"]["generated"] >= 200


def test_a_service_without_keys_answers_as_documented(without_keys: Served, check: Check) -> None:
    found = check(without_keys, cases=20, batches=10)
    assert found["test_cases"]["generated"] >= 200


def test_every_status_of_a_route_is_documented_with_its_reason(with_keys: Served) -> None:
    paths = with_keys.client.get("/docs.json").json()["paths"]
    # What can be read without a key is described by being read.
    assert set(ROUTES) - set(paths) == {"/", "/docs", "/docs.json"}
    with_body = {"200", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503"}
    assert paths["/predict"]["post"]["responses"].keys() == with_body
    assert paths["/predict/batch"]["post"]["responses"].keys() == with_body
    assert paths["/model"]["get"]["responses"].keys() == {"200", "401", "403", "429", "500", "503"}
    # A probe asks for no key, counts against no limit, and is answered however busy the worker is.
    assert paths["/health"]["get"]["responses"].keys() == {"200", "500", "503"}
    assert paths["/health"]["get"]["security"] == []
    assert paths["/livez"]["get"]["responses"].keys() == {"200"}
    assert paths["/readyz"]["get"]["responses"].keys() == {"200", "503"}
    assert paths["/metrics"]["get"]["responses"].keys() == {"200", "401", "403", "429", "500"}
