"""The service in the test's own process: ASGI middleware and worker, without a server."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from churn_service.http.middleware import Dispatcher
from churn_service.http.request import ASGIApp, Message, Receive, Scope, Send
from churn_service.observability.logs import RequestLog
from churn_service.observability.metrics import Metrics
from churn_service.settings import ServiceSettings
from churn_service.worker import Worker
from prometheus_client import REGISTRY

from churn_assets.contracts.card import ModelCard
from churn_assets.core.modelling.golden import golden_rows
from churn_assets.core.modelling.scorer import LinearScorer, Scorer
from churn_assets_tests.bento.expected_responses import received
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, model_card
from churn_assets_tests.core.modelling.linear_scorers import linear_scorer

DISCONNECT: Message = {"type": "http.disconnect"}
"""The message that a server passes on when the client has closed the connection."""


def model_folder(
    folder: Path, scorer: Scorer = SCORER, fallback: Scorer = FALLBACK, rows: int = 32
) -> Path:
    """Writes the files of a model as a bento has them."""
    scorer.save(folder)
    fallback.save(folder / "fallback")
    golden = golden_rows(CONTRACT, scorer, fallback, rows=rows)
    (folder / "golden.json").write_text(golden.model_dump_json(), encoding="utf-8")
    (folder / "card.json").write_text(model_card().model_dump_json(), encoding="utf-8")
    return folder


def nan_scorer(city: str, seed: int) -> LinearScorer:
    """A scorer whose probability is NaN for the customers of one city."""
    scorer = linear_scorer(CONTRACT, seed)
    assert isinstance(scorer, LinearScorer)
    scorer.weights[scorer.codes["location"][city]] = np.nan
    given = scorer._arrays()
    return LinearScorer(scorer.numbers, scorer.codes, scorer.slope, scorer.offset, **given)


@contextmanager
def isolated_registry() -> Iterator[None]:
    """Unregisters the block's Prometheus collectors: a process can register a name only once."""
    before = set(REGISTRY._collector_to_names)
    try:
        yield
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


@contextmanager
def isolated_metrics(card: ModelCard) -> Iterator[Metrics]:
    """Metrics that are registered in this process until the block ends."""
    with isolated_registry():
        yield Metrics(card)


def metric_value(name: str, **labels: str) -> float | None:
    """The value of a sample; None where the sample does not exist."""
    return REGISTRY.get_sample_value(name, labels)


def body_messages(*parts: bytes) -> list[Message]:
    """The ASGI messages of a body that arrives in parts."""
    return [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]


def receiver(messages: Sequence[Message]) -> Receive:
    """An ASGI `receive` that returns the messages, and then waits for ever."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


async def send_request(
    app: ASGIApp,
    method: str,
    path: str,
    messages: Sequence[Message] = (),
    *,
    query: bytes = b"",
    server: str = "127.0.0.1",
    **headers: str,
) -> httpx.Response | None:
    """Sends one request to an ASGI app; returns None where the app sends no response.

    Args:
        messages: ASGI messages of the server. Once they are used up, nothing more arrives.
        headers: By name in snake case: `x_api_key` is X-API-Key.
    """
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    named = [(n.replace("_", "-").encode(), v.encode("latin-1")) for n, v in headers.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": named,
        "server": (server, 3000),
    }
    await app(scope, receiver(messages), send)
    if not sent:
        return None
    start, *rest = sent
    assert [part["type"] for part in rest] == ["http.response.body"]
    given = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    assert len(dict(given)) == len(given), "the response has a header twice"
    return received(start["status"], given, rest[0]["body"])


async def bentoml_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands in for BentoML's application: responds with the path and a status of its own."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@dataclass
class InProcessService:
    """The middleware and the worker behind it.

    Attributes:
        log: File of the request log.
    """

    worker: Worker
    dispatcher: Dispatcher
    log: Path

    def request(
        self, method: str, path: str, body: bytes | None = None, **options: Any
    ) -> httpx.Response:
        """Sends one request that must be answered.

        Args:
            body: JSON; sent with its content type and length.
            options: Of `send_request`; they override those of the body.
        """
        response = asyncio.run(self.send(method, path, body, **options))
        assert response is not None
        return response

    async def send(
        self, method: str, path: str, body: bytes | None = None, **options: Any
    ) -> httpx.Response | None:
        """Sends one request as `request` does, but may be run beside other tasks."""
        if body is not None:
            about = {"content_type": "application/json", "content_length": str(len(body))}
            options = {"messages": body_messages(body), **about} | options
        return await send_request(self.dispatcher, method, path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("POST", path, json.dumps(body).encode(), **options)

    def log_lines(self) -> list[dict[str, Any]]:
        """Closes the request log and returns its lines."""
        self.worker.request_log.close(5)
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


@contextmanager
def in_process_service(tmp_path: Path, **settings: Any) -> Iterator[InProcessService]:
    """Starts a worker, with the prediction log off unless `settings` say otherwise."""
    folder = tmp_path / "model"
    if not folder.exists():
        model_folder(folder)
    log = tmp_path / "requests.jsonl"
    with isolated_registry(), log.open("w", encoding="utf-8") as stream:
        worker = Worker(ServiceSettings(**{"prediction_log": None} | settings), CONTRACT, folder)
        worker.request_log = RequestLog("INFO", stream)
        worker.request_log.start()
        worker.ready()
        yield InProcessService(worker, Dispatcher(bentoml_app, lambda: worker), log)
        worker.close()
