"""Authentication, authorization and rate limit of each request."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from churn_service.access.api_keys import Key, KeyRing, Role
from churn_service.access.rate_limits import RateLimiter
from churn_service.problems import Problem

BEARER = b"bearer "
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="churn"'}


class AccessControl:
    """Decides which requests the service answers, by their API keys.

    Args:
        keys: The valid API keys; None opens the service to everyone on a loopback address.
        limiter: Rate limit of each key.
    """

    def __init__(self, keys: KeyRing | None, limiter: RateLimiter) -> None:
        self._keys, self._limiter = keys, limiter

    def authorize(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], role: Role
    ) -> str:
        """Checks one request and counts it against the rate limit of its key.

        Args:
            scope: ASGI scope of the request.
            headers: Values by lower-case name.
            role: Role that the key must have; an admin key may do everything.

        Returns:
            The id of the key; "" where the service needs no keys.

        Raises:
            Problem: `unauthorized`, `forbidden` or `rate-limited`.
        """
        if self._keys is None:
            _require_loopback(scope)
            return ""
        key = self._authenticate(self._keys, headers)
        if role == "admin" and key.role != "admin":
            raise Problem("forbidden", f"the key has the role {key.role}, this needs admin")
        if (seconds := self._limiter.retry_after(key.id)) is not None:
            raise Problem(
                "rate-limited",
                f"the key has used up its requests; more in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        return key.id

    def _authenticate(self, keys: KeyRing, headers: Mapping[bytes, bytes]) -> Key:
        token = headers.get(b"x-api-key")
        if token is None:
            given = headers.get(b"authorization", b"")
            token = given[len(BEARER) :].strip() if given[: len(BEARER)].lower() == BEARER else None
        if not token:
            detail = "an API key is needed: Authorization: Bearer <key>, or X-API-Key: <key>"
            raise Problem("unauthorized", detail, headers=CHALLENGE)
        key = keys.identify(token.decode("latin-1"))
        if key is None:
            raise Problem(
                "unauthorized", "the API key is unknown or has expired", headers=CHALLENGE
            )
        return key


def _require_loopback(scope: Mapping[str, Any]) -> None:
    server = scope.get("server")
    if server is None or not is_loopback(server[0]):
        raise Problem(
            "forbidden",
            "without API keys the service answers on a loopback address only: set "
            "CHURN_API_KEYS_FILE",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
