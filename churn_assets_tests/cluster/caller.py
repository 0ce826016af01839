"""Steady traffic through the gateway, each answer compared with the model's own."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import httpx
import numpy as np

RATE = 200.0
"""Requests a second, half of them over kept connections and half over new ones."""

FEWEST = 10_000
"""Requests that each disturbance has to see."""

TIMEOUT = 30.0


@dataclass
class Traffic:
    """What the callers saw.

    Attributes:
        lost: Number of requests without an answer of status 200, by what came instead.
        lost_at: When these requests were sent, in seconds since the start.
        wrong: Number of answers with another probability than the model's.
        versions: Number of answers by the version of their model.
        ids: Ids of the predictions that were answered.
        seconds: Time of each answered request.
    """

    lost: Counter[str] = field(default_factory=Counter)
    lost_at: list[float] = field(default_factory=list)
    wrong: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.seconds) + self.lost.total()

    def lose(self, reason: str, sent: float) -> None:
        """Counts a request that was sent so many seconds after the start."""
        self.lost[reason] += 1
        self.lost_at.append(sent)

    @property
    def outage(self) -> float:
        """Seconds between the first and the last request that was lost."""
        return max(self.lost_at) - min(self.lost_at) if self.lost_at else 0.0

    def milliseconds(self, share: float) -> float:
        return float(np.quantile(self.seconds, share) * 1_000)


@dataclass
class Caller:
    """Sends requests at a fixed rate, whether or not the earlier ones are answered.

    Attributes:
        url: Address of the gateway.
        host: Host of the route.
        key: API key; it may be replaced at any time.
        expected: Customers with the probabilities of the model.
    """

    url: str
    host: str
    key: str
    expected: Sequence[tuple[Mapping[str, Any], float]]

    @contextmanager
    def calling(self, fewest: int = FEWEST) -> Iterator[Traffic]:
        """Sends requests during the block, and goes on until there were enough."""
        traffic, ended = Traffic(), threading.Event()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._call(traffic, ended, fewest)), name="caller"
        )
        thread.start()
        try:
            yield traffic
        finally:
            ended.set()
            thread.join()

    async def _call(self, traffic: Traffic, ended: threading.Event, fewest: int) -> None:
        # No limit of connections: a request that hangs must not keep others from being sent.
        kept, new = (httpx.Limits(max_keepalive_connections=most) for most in (None, 0))
        async with self._client(kept) as over_kept, self._client(new) as over_new:
            clients = over_kept, over_new
            async with asyncio.TaskGroup() as tasks:
                began = perf_counter()
                for number in count():
                    if ended.is_set() and number >= fewest:
                        return
                    await asyncio.sleep(max(0.0, began + number / RATE - perf_counter()))
                    tasks.create_task(self._send(traffic, clients[number % 2], began))

    def _client(self, limits: httpx.Limits) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT, verify=False, limits=limits)

    async def _send(self, traffic: Traffic, client: httpx.AsyncClient, began: float) -> None:
        # At random: a gateway that divides by turns would send some customers to one version only.
        customer, probability = random.choice(self.expected)
        headers = {"Host": self.host, "X-API-Key": self.key}
        sent = perf_counter()
        try:
            response = await client.post("/predict", json=customer, headers=headers)
        except httpx.HTTPError as error:
            traffic.lose(repr(error), sent - began)
            return
        if response.status_code != httpx.codes.OK:
            traffic.lose(f"{response.status_code} {response.text[:200]}", sent - began)
            return
        traffic.seconds.append(perf_counter() - sent)
        answer = response.json()
        traffic.wrong += answer["churn_probability"] != probability
        traffic.versions[answer["model_version"]] += 1
        traffic.ids.add(answer["prediction_id"])

    def status(self, key: str) -> int:
        """Status of one request with a key, over a new connection."""
        headers = {"Host": self.host, "X-API-Key": key}
        with httpx.Client(base_url=self.url, timeout=TIMEOUT, verify=False) as client:
            return client.post("/predict", json=self.expected[0][0], headers=headers).status_code
