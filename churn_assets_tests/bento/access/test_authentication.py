"""Who may come in, and how often."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from churn_service.access.api_keys import KeyFile, KeyRing, Role, new_key
from churn_service.access.authentication import AccessControl, is_loopback
from churn_service.access.rate_limits import RateLimiter
from churn_service.problems import Problem
from hypothesis import given
from hypothesis import strategies as st

SOON = datetime.now(UTC) + timedelta(hours=1)
PREDICT, PREDICT_KEY = new_key("predict", SOON, "crm")
ADMIN, ADMIN_KEY = new_key("admin", SOON, "ops")
STRANGER, _ = new_key("admin", SOON, "crm")
LOCAL = {"server": ("127.0.0.1", 3000)}


def limited(limit: str = "100000/minute") -> RateLimiter:
    return RateLimiter(limit, 1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(KeyFile(keys=(PREDICT_KEY, ADMIN_KEY)).model_dump_json(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def access(keys: Path) -> AccessControl:
    return AccessControl(KeyRing(keys), limited())


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {token}".encode()}


def refused(access: AccessControl, headers: dict[bytes, bytes], role: Role = "predict") -> Problem:
    with pytest.raises(Problem) as caught:
        access.authorize(LOCAL, headers, role)
    return caught.value


@pytest.mark.parametrize(
    "headers",
    [
        bearer(PREDICT),
        {b"x-api-key": PREDICT.encode()},
        {b"authorization": f"bearer {PREDICT}".encode()},
        {b"authorization": f"BEARER   {PREDICT} ".encode()},
        {b"x-api-key": PREDICT.encode(), b"authorization": b"Basic of a proxy"},
    ],
)
def test_a_key_lets_in_however_it_is_shown(
    access: AccessControl, headers: dict[bytes, bytes]
) -> None:
    assert access.authorize(LOCAL, headers, "predict") == "crm"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": f"Basic {PREDICT}".encode()},
        {b"authorization": PREDICT.encode()},
        {b"x-api-key": b""},
        {b"x-api-key": b"", b"authorization": f"Bearer {PREDICT}".encode()},
        {b"x-api-key": f"Bearer {PREDICT}".encode()},
        bearer(PREDICT[:-1]),
        bearer(PREDICT + "x"),
        bearer(PREDICT.upper()),
        bearer(STRANGER),
        bearer("\xff"),
    ],
)
def test_without_a_key_of_the_file_nobody_comes_in(
    access: AccessControl, headers: dict[bytes, bytes]
) -> None:
    problem = refused(access, headers)
    assert problem.kind == "unauthorized"
    assert problem.headers == {"WWW-Authenticate": 'Bearer realm="churn"'}
    assert PREDICT not in problem.detail


@given(st.binary(max_size=80), st.sampled_from([b"authorization", b"x-api-key"]))
def test_no_bytes_are_taken_for_a_key(access: AccessControl, value: bytes, name: bytes) -> None:
    assert refused(access, {name: value}).kind == "unauthorized"
    assert refused(access, {name: b"Bearer " + value}).kind == "unauthorized"


def test_a_role_may_do_what_it_may(access: AccessControl) -> None:
    assert access.authorize(LOCAL, bearer(ADMIN), "admin") == "ops"
    assert access.authorize(LOCAL, bearer(ADMIN), "predict") == "ops"
    problem = refused(access, bearer(PREDICT), "admin")
    assert (problem.kind, problem.headers) == ("forbidden", {})


def test_each_key_has_so_many_requests(keys: Path) -> None:
    access = AccessControl(KeyRing(keys), limited("2/hour"))
    for _ in range(2):
        access.authorize(LOCAL, bearer(PREDICT), "predict")
    problem = refused(access, bearer(PREDICT))
    assert problem.kind == "rate-limited"
    assert 3595 <= int(problem.headers["Retry-After"]) <= 3600
    assert access.authorize(LOCAL, bearer(ADMIN), "predict") == "ops", "another key has its own"


def test_who_is_refused_uses_nothing_up(keys: Path) -> None:
    access = AccessControl(KeyRing(keys), limited("1/hour"))
    for _ in range(3):
        refused(access, bearer(PREDICT), "admin")
        refused(access, bearer(STRANGER))
    assert access.authorize(LOCAL, bearer(PREDICT), "predict") == "crm"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_without_keys_this_machine_is_let_in(host: str) -> None:
    access = AccessControl(None, limited("1/hour"))
    assert access.authorize({"server": (host, 80)}, {}, "predict") == ""
    assert access.authorize({"server": (host, 80)}, {}, "admin") == ""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "server", [("0.0.0.0", 80), ("10.0.0.1", 80), ("::", 80), ("churn.example", 80), None]
)
def test_without_keys_no_other_machine_is_let_in(server: Any) -> None:
    with pytest.raises(Problem) as caught:
        AccessControl(None, limited()).authorize({"server": server}, {}, "predict")
    assert caught.value.kind == "forbidden"
    assert "CHURN_API_KEYS_FILE" in caught.value.detail


def test_with_keys_a_loopback_address_is_no_key(access: AccessControl) -> None:
    assert refused(access, {}).kind == "unauthorized"
