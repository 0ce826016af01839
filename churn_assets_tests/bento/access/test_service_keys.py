"""Who is let in, how often, and on which terms the service starts at all."""

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
from churn_assets_tests.bento.expected import CUSTOMER, prediction, problem
from churn_assets_tests.bento.served import Served, served

LIMIT = 5
OPEN = ("/health", "/livez", "/readyz", "/docs", "/docs.json")
STARTED_AT_ALL = 30.0


@dataclass
class Keys:
    """A file of many keys, so that each test has some whose requests nobody has counted yet."""

    file: Path
    stored: list[Key] = field(default_factory=list)
    tokens: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, role: Role, days: float, name: str | None = None) -> None:
        token, key = new_key(role, datetime.now(UTC) + timedelta(days=days), name)
        self.stored.append(key)
        self.tokens.setdefault(kind, []).append(token)

    def take(self, kind: str) -> str | None:
        """A token that nobody has used: predict, admin, expired or unknown; None for none."""
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
) -> Iterator[Served]:
    settings = {
        "CHURN_API_KEYS_FILE": str(keys.file),
        "CHURN_API_METRICS": "admin",
        "CHURN_API_RATE_LIMIT": f"{LIMIT}/minute",
        "CHURN_API_LOG_LEVEL": "DEBUG",
    }
    with served(built, store, tmp_path_factory.mktemp("log"), settings) as server:
        yield server


def ask(server: Served, route: str, headers: dict[str, str]) -> httpx.Response:
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
def test_a_route_needs_its_key(server: Served, keys: Keys, way: Way, route: str, kind: str) -> None:
    answer = ask(server, route, way(keys.take(kind)))
    if kind in ("none", "unknown", "expired"):
        assert problem(answer, 401, "unauthorized") == []
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    elif kind == "predict" and route == "/metrics":
        assert problem(answer, 403, "forbidden") == []
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("route", OPEN)
@pytest.mark.parametrize("kind", ["none", "unknown"])
def test_probes_and_documentation_are_open(
    server: Served, keys: Keys, route: str, kind: str
) -> None:
    assert ask(server, route, bearer(keys.take(kind))).status_code == 200


def test_a_route_that_is_not_there_tells_a_stranger_no_more(server: Served) -> None:
    assert problem(ask(server, "/nothing", {}), 404, "not-found") == []


def test_a_stranger_is_told_before_the_body_is_looked_at(server: Served) -> None:
    assert problem(server.client.post("/predict", content=b"{"), 401, "unauthorized") == []


@pytest.mark.parametrize(
    "form",
    ["Basic {}", "{}", "Bearer", "Bearer{}", "Token {}", "Bearer x {}", "Bearer {}x"],
)
def test_a_key_comes_as_a_bearer(server: Served, keys: Keys, form: str) -> None:
    token = keys.take("predict")
    answer = ask(server, "/predict", {"Authorization": form.format(token)})
    assert problem(answer, 401, "unauthorized") == []


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer  {}"])
def test_the_scheme_may_be_written_in_any_case(server: Served, keys: Keys, form: str) -> None:
    token = keys.take("predict")
    assert ask(server, "/predict", {"Authorization": form.format(token)}).status_code == 200


def test_a_key_may_ask_as_often_as_its_limit_says(server: Served, keys: Keys) -> None:
    headers = bearer(keys.take("predict"))
    routes = ["/predict", "/predict/batch", "/model", "/predict", "/predict"]
    assert len(routes) == LIMIT
    assert [ask(server, route, headers).status_code for route in routes] == [200] * LIMIT
    for route in ("/predict", "/predict/batch", "/model"):
        answer = ask(server, route, headers)
        assert problem(answer, 429, "rate-limited") == []
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert ask(server, "/health", headers).status_code == 200
    assert ask(server, "/predict", bearer(keys.take("predict"))).status_code == 200


def test_keys_are_exchanged_while_the_service_runs(server: Served, keys: Keys) -> None:
    old = keys.take("predict")
    assert ask(server, "/predict", bearer(old)).status_code == 200
    keys.add("new", "predict", days=1)
    new = keys.take("new")
    assert problem(ask(server, "/predict", bearer(new)), 401, "unauthorized") == []
    keys.write()
    time.sleep(1.1)  # it looks once a second
    assert [ask(server, "/predict", bearer(key)).status_code for key in (new, old)] == [200, 200]
    assert old
    keys.stored = [key for key in keys.stored if key.id != old.split("_")[1]]
    keys.write()
    time.sleep(1.1)
    assert [ask(server, "/predict", bearer(key)).status_code for key in (new, old)] == [200, 401]


def test_logs_name_the_key_and_never_hold_its_token(server: Served, keys: Keys) -> None:
    for kind in ("predict", "expired", "unknown"):
        for way in (bearer, x_api_key):
            token = keys.take(kind)
            assert token
            answer = ask(server, "/predict", way(token))
            line = server.request_line(answer.headers["X-Request-ID"])
            name, secret = token.split("_", 2)[1:]
            assert line["key_id"] == (name if kind == "predict" else "")
            if kind == "predict":
                given = answer.json()
                assert given == prediction(CUSTOMER, given)
                [logged] = server.prediction_lines({given["prediction_id"]}).values()
                assert logged["key_id"] == name
            written = server.log.read_text() + _predictions(server)
            assert secret not in written
    assert not [key.id for key in keys.stored if key.hash in written or key.salt in written]


def _predictions(server: Served) -> str:
    return "".join(file.read_text() for file in server.predictions.rglob("*.jsonl"))


def test_refusals_are_counted_and_logged_by_their_kind(server: Served, keys: Keys) -> None:
    answer = ask(server, "/predict", {})
    line = server.request_line(answer.headers["X-Request-ID"])
    assert (line["status"], line["error_type"], line["key_id"]) == (401, "unauthorized", "")
    text = ask(server, "/metrics", bearer(keys.take("admin"))).text
    assert 'churn_prediction_errors_total{error_type="unauthorized"}' in text


def test_the_documentation_shows_how_to_give_a_key(server: Served) -> None:
    document = server.client.get("/docs.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, method in (("/predict", "post"), ("/predict/batch", "post"), ("/model", "get")):
        operation = document["paths"][path][method]
        assert operation["security"] == [{"bearer": []}, {"key": []}]
        assert {"401", "429"} <= operation["responses"].keys()
    assert document["paths"]["/metrics"]["get"]["security"]
    assert not document["paths"]["/health"]["get"]["security"]


# How it starts


@pytest.mark.parametrize(
    ("host", "options", "variables"),
    [("0.0.0.0", ["--host", "0.0.0.0"], {}), ("::", [], {"BENTOML_HOST": "::"})],
)
def test_a_service_without_keys_is_for_this_machine_only(
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
        timeout=STARTED_AT_ALL,
        check=False,
    )
    assert ended.returncode != 0
    said = f"CHURN_API_KEYS_FILE is not set, and the address {host} is not a loopback one"
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_settings_end_the_start_with_every_fault(
    built: BuiltBento, store: BentoStore
) -> None:
    wrong = {
        "CHURN_API_WORKERS": "0",
        "CHURN_API_RATE_LIMIT": "often",
        "CHURN_API_KEYS_FILE": "/nowhere/keys.json",
        "CHURN_API_METRIC": "admin",
    }
    with pytest.raises(BentoError) as caught, serving(built.tag, store.home, settings=wrong):
        pytest.fail("served with wrong settings")
    said = str(caught.value)
    assert "the server ended" in said
    assert "Traceback" not in said
    for variable, value in wrong.items():
        assert f"{variable} is {value!r}: " in said or f"{variable} is not a setting" in said
    assert "did you mean CHURN_API_METRICS?" in said
