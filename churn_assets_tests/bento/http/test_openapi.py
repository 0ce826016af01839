"""The service conforms to its OpenAPI document, by every check of Schemathesis.

Schemathesis sends requests that the document allows, and requests that it forbids. The service must
respond to both as the document says.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from churn_service.http.routes import ROUTES

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.key_files import ADMIN_KEY, ADMIN_TOKEN, replace_keys
from churn_assets_tests.bento.served_bento import ServedBento, served_bento

ROOT = Path(__file__).parents[3]

# A batch takes ten times as long to generate as a customer. Every run has the same cases.
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


@pytest.fixture(scope="module")
def with_keys(
    built: BuiltBento, store: BentoStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedBento]:
    """A server that requires a key on every route that can require one."""
    folder = tmp_path_factory.mktemp("secured")
    settings = {
        "CHURN_API_KEYS_FILE": str(replace_keys(folder, ADMIN_KEY)),
        "CHURN_API_METRICS": "admin",
        "CHURN_API_RATE_LIMIT": "100000/second",
    }
    with served_bento(built, store, folder, settings) as server:
        yield server


Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Runs Schemathesis and returns its report."""

    def run(server: ServedBento, *, cases: int, batches: int, token: str = "") -> dict[str, Any]:
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
        # Two routes for predictions, the model, health, liveness, readiness and metrics.
        assert found["operations"]["tested"] == 7
        return found

    return run


def test_two_thousand_cases_get_documented_responses(with_keys: ServedBento, check: Check) -> None:
    found = check(with_keys, cases=550, batches=80, token=ADMIN_TOKEN)
    assert found["test_cases"]["generated"] >= 2_000
    for route in ("/predict", "/predict/batch"):
        assert found["valid_rates"][f"POST {route}"]["fuzzing"]["accepted"] > 20


def test_requests_without_a_key_are_refused_as_documented(
    with_keys: ServedBento, check: Check
) -> None:
    found = check(with_keys, cases=10, batches=5)
    assert found["test_cases"]["generated"] >= 200


def test_a_service_without_keys_responds_as_documented(server: ServedBento, check: Check) -> None:
    found = check(server, cases=20, batches=10)
    assert found["test_cases"]["generated"] >= 200


def test_every_status_of_a_route_is_documented_with_its_reason(with_keys: ServedBento) -> None:
    paths = with_keys.client.get("/docs.json").json()["paths"]
    # The documentation itself is not part of the document.
    assert set(ROUTES) - set(paths) == {"/", "/docs", "/docs.json"}
    with_body = {"200", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503"}
    assert paths["/predict"]["post"]["responses"].keys() == with_body
    assert paths["/predict/batch"]["post"]["responses"].keys() == with_body
    assert paths["/model"]["get"]["responses"].keys() == {"200", "401", "403", "429", "500", "503"}
    # A probe needs no key, counts against no limit, and is answered however busy the worker is.
    assert paths["/health"]["get"]["responses"].keys() == {"200", "500", "503"}
    assert paths["/health"]["get"]["security"] == []
    assert paths["/livez"]["get"]["responses"].keys() == {"200"}
    assert paths["/readyz"]["get"]["responses"].keys() == {"200", "503"}
    assert paths["/metrics"]["get"]["responses"].keys() == {"200", "401", "403", "429", "500"}
