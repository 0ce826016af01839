import threading
import time

import pytest
from churn_service.access.rate_limits import RateLimiter, _Windows
from hypothesis import given
from hypothesis import strategies as st
from limits import parse
from limits.strategies import FixedWindowRateLimiter


def granted(limiter: RateLimiter, key_id: str, requests: int) -> int:
    """Number of requests that the limiter allows."""
    return [limiter.retry_after(key_id) for _ in range(requests)].count(None)


@given(limit=st.integers(1, 50), workers=st.integers(1, 64), requests=st.integers(0, 60))
def test_a_worker_grants_its_share_and_at_least_one(
    limit: int, workers: int, requests: int
) -> None:
    limiter = RateLimiter(f"{limit}/hour", workers)
    assert granted(limiter, "crm", requests) == min(requests, max(1, limit // workers))


@given(limit=st.integers(1, 50), workers=st.integers(1, 64))
def test_all_workers_together_grant_no_more_than_the_limit(limit: int, workers: int) -> None:
    each = granted(RateLimiter(f"{limit}/hour", workers), "crm", limit + 1)
    assert each * workers <= max(limit, workers)


def test_requests_above_the_limit_are_refused() -> None:
    limiter = RateLimiter("3/hour", 1)
    waits = [limiter.retry_after("crm") for _ in range(4)]
    assert waits[:3] == [None, None, None]
    assert waits[3] == 3600


def test_each_key_has_a_limit_of_its_own() -> None:
    limiter = RateLimiter("2/hour", 1)
    assert granted(limiter, "crm", 5) == 2
    assert granted(limiter, "web", 5) == 2
    assert granted(limiter, "", 5) == 2  # the id of all requests without keys


@pytest.mark.parametrize(
    ("limit", "seconds"), [("1/second", 1), ("1/5 seconds", 5), ("1 per minute", 60)]
)
def test_a_refusal_returns_the_whole_seconds_to_wait(limit: str, seconds: int) -> None:
    limiter = RateLimiter(limit, 1)
    limiter.retry_after("crm")
    again = limiter.retry_after("crm")
    assert isinstance(again, int)
    assert again == seconds


def test_after_the_wait_requests_are_allowed_despite_earlier_refusals() -> None:
    limiter = RateLimiter("2/second", 1)
    assert granted(limiter, "crm", 100) == 2
    wait = limiter.retry_after("crm")
    assert wait is not None
    time.sleep(wait)
    assert granted(limiter, "crm", 3) == 2


def test_counting_starts_no_threads() -> None:
    limiter, threads = RateLimiter("100000/minute", 1), set(threading.enumerate())
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        limiter.retry_after("crm")
        assert set(threading.enumerate()) == threads


def test_the_windows_are_a_storage_of_the_library() -> None:
    strategy, limit = FixedWindowRateLimiter(_Windows()), parse("2/hour")
    assert strategy.storage.check()
    assert [strategy.hit(limit, "crm", cost=2), strategy.test(limit, "crm")] == [True, False]
    assert strategy.get_window_stats(limit, "crm").remaining == 0
    strategy.clear(limit, "crm")
    assert strategy.test(limit, "crm")
    strategy.hit(limit, "crm")
    assert strategy.storage.reset() == 1
    assert strategy.get_window_stats(limit, "crm").remaining == 2
