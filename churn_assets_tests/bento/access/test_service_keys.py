"""Keys, roles and rate limits over HTTP, and settings with which the service does not start."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from churn_service.access.api_keys import Key, Role, new_key, write_keys

from churn_assets.adapters.bentos import BentoError, BentoStore, BuiltBento, serving
from churn_assets.adapters.serving import environment
from churn_assets_tests.bento.expected_responses import (
    CUSTOMER,
    expected_prediction,
    problem_faults,
)
from churn_assets_tests.bento.served_bento import ServedBento, served_bento

LIMIT = 5
OPEN = ("/health", "/livez", "/readyz", "/docs", "/docs.json")
START_SECONDS = 30.0


@dataclass
class Keys:
    """A file of many keys, so that each test has keys whose rate limit is untouched."""

    file: Path
    stored: list[Key] = field(default_factory=list)
    tokens: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, role: Role, days: float, name: str | None = None) -> None:
        token, key = new_key(role, datetime.now(UTC) + timedelta(days=days), name)
        self.stored.append(key)
        self.tokens.setdefault(kind, []).append(token)

    def take(self, kind: str) -> str | None:
        """Returns an unused token of a kind: predict, admin, expired, unknown, or none for None."""
        return None if kind == "none" else self.tokens[kind].pop()

    def write(self) -> None:
        write_keys(self.file, tuple(self.stored))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    keys = Keys(tmp_path_factory.mktemp("keys") / "keys.json")
    for _ in range(40):
        keys.add("predict", "predict", days=1)
        keys.add("admin", "admin", days=1)
        keys.add("expired", "admin", days=-1)
    keys.write()
    known = list(keys.stored)
    for _ in range(20):
        keys.add("unknown", "admin", days=1)
    keys.stored = known
    return keys


@pytest.fixture(scope="module")
def server(
    built: BuiltBento, store: BentoStore, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedBento]:
    settings = {
        "CHURN_API_KEYS_FILE": str(keys.file),
        "CHURN_API_METRICS": "admin",
        "CHURN_API_RATE_LIMIT": f"{LIMIT}/minute",
        "CHURN_API_LOG_LEVEL": "DEBUG",
    }
    with served_bento(built, store, tmp_path_factory.mktemp("log"), settings) as server:
        yield server


def send(server: ServedBento, route: str, headers: dict[str, str]) -> httpx.Response:
    bodies = {"/predict": CUSTOMER, "/predict/batch": {"customers": [CUSTOMER]}}
    method = "POST" if route in bodies else "GET"
    return server.client.request(method, route, json=bodies.get(route), headers=headers)


Way = Callable[[str | None], dict[str, str]]


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def x_api_key(token: str | None) -> dict[str, str]:
    return {"X-API-Key": token} if token else {}


@pytest.mark.parametrize("way", [bearer, x_api_key])
@pytest.mark.parametrize("route", ["/predict", "/predict/batch", "/model", "/metrics"])
@pytest.mark.parametrize("kind", ["none", "unknown", "expired", "predict", "admin"])
def test_a_route_needs_its_key(
    server: ServedBento, keys: Keys, way: Way, route: str, kind: str
) -> None:
    response = send(server, route, way(keys.take(kind)))
    if kind in ("none", "unknown", "expired"):
        assert problem_faults(response, 401, "unauthorized") == []
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    elif kind == "predict" and route == "/metrics":
        assert problem_faults(response, 403, "forbidden") == []
    else:
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("route", OPEN)
@pytest.mark.parametrize("kind", ["none", "unknown"])
def test_probes_and_documentation_are_open(
    server: ServedBento, keys: Keys, route: str, kind: str
) -> None:
    assert send(server, route, bearer(keys.take(kind))).status_code == 200


def test_an_unknown_path_is_not_found_without_a_key(server: ServedBento) -> None:
    assert problem_faults(send(server, "/nothing", {}), 404, "not-found") == []


def test_the_key_is_checked_before_the_body(server: ServedBento) -> None:
    assert problem_faults(server.client.post("/predict", content=b"{"), 401, "unauthorized") == []


@pytest.mark.parametrize(
    "form",
    ["Basic {}", "{}", "Bearer", "Bearer{}", "Token {}", "Bearer x {}", "Bearer {}x"],
)
def test_other_forms_of_the_authorization_header_are_refused(
    server: ServedBento, keys: Keys, form: str
) -> None:
    token = keys.take("predict")
    response = send(server, "/predict", {"Authorization": form.format(token)})
    assert problem_faults(response, 401, "unauthorized") == []


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer  {}"])
def test_the_scheme_is_case_insensitive(server: ServedBento, keys: Keys, form: str) -> None:
    token = keys.take("predict")
    assert send(server, "/predict", {"Authorization": form.format(token)}).status_code == 200


def test_a_key_has_one_rate_limit_for_all_routes(server: ServedBento, keys: Keys) -> None:
    headers = bearer(keys.take("predict"))
    routes = ["/predict", "/predict/batch", "/model", "/predict", "/predict"]
    assert len(routes) == LIMIT
    assert [send(server, route, headers).status_code for route in routes] == [200] * LIMIT
    for route in ("/predict", "/predict/batch", "/model"):
        response = send(server, route, headers)
        assert problem_faults(response, 429, "rate-limited") == []
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert send(server, "/health", headers).status_code == 200
    assert send(server, "/predict", bearer(keys.take("predict"))).status_code == 200


def test_keys_are_rotated_while_the_service_runs(server: ServedBento, keys: Keys) -> None:
    old = keys.take("predict")
    assert send(server, "/predict", bearer(old)).status_code == 200
    keys.add("new", "predict", days=1)
    new = keys.take("new")
    assert problem_faults(send(server, "/predict", bearer(new)), 401, "unauthorized") == []
    keys.write()
    time.sleep(1.1)  # the service checks the file once a second
    assert [send(server, "/predict", bearer(key)).status_code for key in (new, old)] == [200, 200]
    assert old
    keys.stored = [key for key in keys.stored if key.id != old.split("_")[1]]
    keys.write()
    time.sleep(1.1)
    assert [send(server, "/predict", bearer(key)).status_code for key in (new, old)] == [200, 401]


def test_logs_contain_the_id_of_the_key_and_never_its_token(
    server: ServedBento, keys: Keys
) -> None:
    for kind in ("predict", "expired", "unknown"):
        for way in (bearer, x_api_key):
            token = keys.take(kind)
            assert token
            response = send(server, "/predict", way(token))
            line = server.request_line(response.headers["X-Request-ID"])
            name, secret = token.split("_", 2)[1:]
            assert line["key_id"] == (name if kind == "predict" else "")
            if kind == "predict":
                given = response.json()
                assert given == expected_prediction(CUSTOMER, given)
                [logged] = server.prediction_lines({given["prediction_id"]}).values()
                assert logged["key_id"] == name
            written = server.log.read_text() + _prediction_log(server)
            assert secret not in written
    assert not [key.id for key in keys.stored if key.hash in written or key.salt in written]


def _prediction_log(server: ServedBento) -> str:
    return "".join(file.read_text() for file in server.predictions.rglob("*.jsonl"))


def test_refusals_are_counted_and_logged_by_kind(server: ServedBento, keys: Keys) -> None:
    response = send(server, "/predict", {})
    line = server.request_line(response.headers["X-Request-ID"])
    assert (line["status"], line["error_type"], line["key_id"]) == (401, "unauthorized", "")
    text = send(server, "/metrics", bearer(keys.take("admin"))).text
    assert 'churn_prediction_errors_total{error_type="unauthorized"}' in text


def test_the_documentation_shows_how_to_send_a_key(server: ServedBento) -> None:
    document = server.client.get("/docs.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, method in (("/predict", "post"), ("/predict/batch", "post"), ("/model", "get")):
        operation = document["paths"][path][method]
        assert operation["security"] == [{"bearer": []}, {"key": []}]
        assert {"401", "429"} <= operation["responses"].keys()
    assert document["paths"]["/metrics"]["get"]["security"]
    assert not document["paths"]["/health"]["get"]["security"]


# Start


@pytest.mark.parametrize(
    ("host", "options", "variables"),
    [("0.0.0.0", ["--host", "0.0.0.0"], {}), ("::", [], {"BENTOML_HOST": "::"})],
)
def test_a_service_without_keys_starts_only_on_a_loopback_address(
    built: BuiltBento,
    store: BentoStore,
    tmp_path: Path,
    host: str,
    options: list[str],
    variables: dict[str, str],
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", built.tag, *options],
        env=environment(store.home, variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert ended.returncode != 0
    message = f"CHURN_API_KEYS_FILE is not set, and the address {host} is not a loopback address"
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_settings_end_the_start_with_all_faults(built: BuiltBento, store: BentoStore) -> None:
    wrong = {
        "CHURN_API_WORKERS": "0",
        "CHURN_API_RATE_LIMIT": "often",
        "CHURN_API_KEYS_FILE": "/nowhere/keys.json",
        "CHURN_API_METRIC": "admin",
    }
    with pytest.raises(BentoError) as caught, serving(built.tag, store.home, settings=wrong):
        pytest.fail("the server started with wrong settings")
    message = str(caught.value)
    assert "the server ended" in message
    assert "Traceback" not in message
    for variable, value in wrong.items():
        assert f"{variable} is {value!r}: " in message or f"{variable} is not a setting" in message
    assert "did you mean CHURN_API_METRICS?" in message
