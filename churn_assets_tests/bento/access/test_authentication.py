from pathlib import Path
from typing import Any

import pytest
from churn_service.access.api_keys import KeyRing, Role, new_key
from churn_service.access.authentication import AccessControl, is_loopback
from churn_service.access.rate_limits import RateLimiter
from churn_service.problems import Problem
from hypothesis import given
from hypothesis import strategies as st

from churn_assets_tests.bento.key_files import (
    ADMIN_KEY,
    ADMIN_TOKEN,
    IN_AN_HOUR,
    PREDICT_KEY,
    PREDICT_TOKEN,
    replace_keys,
)

UNKNOWN_TOKEN, _ = new_key("admin", IN_AN_HOUR, "crm")
"""Token with the id of a key in the file, but with another secret."""

LOCAL = {"server": ("127.0.0.1", 3000)}


def limited(limit: str = "100000/minute") -> RateLimiter:
    return RateLimiter(limit, 1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replace_keys(tmp_path_factory.mktemp("keys"), PREDICT_KEY, ADMIN_KEY)


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
        bearer(PREDICT_TOKEN),
        {b"x-api-key": PREDICT_TOKEN.encode()},
        {b"authorization": f"bearer {PREDICT_TOKEN}".encode()},
        {b"authorization": f"BEARER   {PREDICT_TOKEN} ".encode()},
        {b"x-api-key": PREDICT_TOKEN.encode(), b"authorization": b"Basic of a proxy"},
    ],
)
def test_a_key_is_accepted_in_both_headers(
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
        {b"authorization": f"Basic {PREDICT_TOKEN}".encode()},
        {b"authorization": PREDICT_TOKEN.encode()},
        {b"x-api-key": b""},
        {b"x-api-key": b"", b"authorization": f"Bearer {PREDICT_TOKEN}".encode()},
        {b"x-api-key": f"Bearer {PREDICT_TOKEN}".encode()},
        bearer(PREDICT_TOKEN[:-1]),
        bearer(PREDICT_TOKEN + "x"),
        bearer(PREDICT_TOKEN.upper()),
        bearer(UNKNOWN_TOKEN),
        bearer("\xff"),
    ],
)
def test_only_keys_of_the_file_are_accepted(
    access: AccessControl, headers: dict[bytes, bytes]
) -> None:
    problem = refused(access, headers)
    assert problem.kind == "unauthorized"
    assert problem.headers == {"WWW-Authenticate": 'Bearer realm="churn"'}
    assert PREDICT_TOKEN not in problem.detail


@given(st.binary(max_size=80), st.sampled_from([b"authorization", b"x-api-key"]))
def test_random_bytes_are_not_a_key(access: AccessControl, value: bytes, name: bytes) -> None:
    assert refused(access, {name: value}).kind == "unauthorized"
    assert refused(access, {name: b"Bearer " + value}).kind == "unauthorized"


def test_only_an_admin_key_may_do_everything(access: AccessControl) -> None:
    assert access.authorize(LOCAL, bearer(ADMIN_TOKEN), "admin") == "ops"
    assert access.authorize(LOCAL, bearer(ADMIN_TOKEN), "predict") == "ops"
    problem = refused(access, bearer(PREDICT_TOKEN), "admin")
    assert (problem.kind, problem.headers) == ("forbidden", {})


def test_each_key_has_a_rate_limit(keys: Path) -> None:
    access = AccessControl(KeyRing(keys), limited("2/hour"))
    for _ in range(2):
        access.authorize(LOCAL, bearer(PREDICT_TOKEN), "predict")
    problem = refused(access, bearer(PREDICT_TOKEN))
    assert problem.kind == "rate-limited"
    assert 3595 <= int(problem.headers["Retry-After"]) <= 3600
    assert access.authorize(LOCAL, bearer(ADMIN_TOKEN), "predict") == "ops", (
        "another key has a limit of its own"
    )


def test_refused_requests_do_not_count_against_the_limit(keys: Path) -> None:
    access = AccessControl(KeyRing(keys), limited("1/hour"))
    for _ in range(3):
        refused(access, bearer(PREDICT_TOKEN), "admin")
        refused(access, bearer(UNKNOWN_TOKEN))
    assert access.authorize(LOCAL, bearer(PREDICT_TOKEN), "predict") == "crm"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_without_keys_a_loopback_address_is_served(host: str) -> None:
    access = AccessControl(None, limited("1/hour"))
    assert access.authorize({"server": (host, 80)}, {}, "predict") == ""
    assert access.authorize({"server": (host, 80)}, {}, "admin") == ""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "server", [("0.0.0.0", 80), ("10.0.0.1", 80), ("::", 80), ("churn.example", 80), None]
)
def test_without_keys_no_other_address_is_served(server: Any) -> None:
    with pytest.raises(Problem) as caught:
        AccessControl(None, limited()).authorize({"server": server}, {}, "predict")
    assert caught.value.kind == "forbidden"
    assert "CHURN_API_KEYS_FILE" in caught.value.detail


def test_with_keys_a_loopback_address_needs_a_key_too(access: AccessControl) -> None:
    assert refused(access, {}).kind == "unauthorized"
