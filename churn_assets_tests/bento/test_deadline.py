import asyncio
import time

import pytest
from churn_service.deadline import Deadline

SECONDS = 0.1


async def seconds_until_timeout(deadline: Deadline, seconds: float) -> float | None:
    """Sleeps under a deadline; returns None where the deadline does not interrupt the sleep."""
    began = time.perf_counter()
    try:
        with deadline:
            await asyncio.sleep(seconds)
    except TimeoutError:
        return time.perf_counter() - began
    return None


def test_a_task_within_the_deadline_is_not_interrupted() -> None:
    assert asyncio.run(seconds_until_timeout(Deadline(30), 0.01)) is None


def test_a_task_that_waits_too_long_is_interrupted() -> None:
    waited = asyncio.run(seconds_until_timeout(Deadline(SECONDS), 30))
    assert waited is not None
    assert SECONDS <= waited < 5


def test_the_deadline_of_each_task_begins_with_its_own_start() -> None:
    async def wait_staggered() -> list[float | None]:
        deadline = Deadline(SECONDS)
        tasks = []
        for _ in range(3):
            tasks.append(asyncio.create_task(seconds_until_timeout(deadline, 30)))
            await asyncio.sleep(SECONDS / 2)
        return await asyncio.gather(*tasks)

    for waited in asyncio.run(wait_staggered()):
        assert waited is not None
        assert SECONDS <= waited < 5


def test_a_task_may_wait_again_after_a_timeout() -> None:
    async def wait_twice() -> list[float | None]:
        deadline = Deadline(SECONDS)
        return [await seconds_until_timeout(deadline, seconds) for seconds in (30, 0)]

    first, second = asyncio.run(wait_twice())
    assert first is not None
    assert second is None


def test_a_cancellation_is_not_turned_into_a_timeout() -> None:
    async def cancel() -> None:
        task = asyncio.create_task(seconds_until_timeout(Deadline(30), 30))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
