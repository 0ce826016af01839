"""The service without a server: its parts in this process, over real files."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, linear_scorer, model_card


def model_folder(
    folder: Path, scorer: Scorer = SCORER, fallback: Scorer = FALLBACK, rows: int = 32
) -> Path:
    """Writes what a bento has of a model."""
    scorer.save(folder)
    fallback.save(folder / "fallback")
    golden = golden_rows(CONTRACT, scorer, fallback, rows=rows)
    (folder / "golden.json").write_text(golden.model_dump_json(), encoding="utf-8")
    (folder / "card.json").write_text(model_card().model_dump_json(), encoding="utf-8")
    return folder


def nan_in(city: str, seed: int) -> LinearScorer:
    """A scorer that knows what is no probability of those who live there."""
    scorer = linear_scorer(CONTRACT, seed)
    assert isinstance(scorer, LinearScorer)
    scorer.weights[scorer.codes["location"][city]] = np.nan
    given = scorer._arrays()
    return LinearScorer(scorer.numbers, scorer.codes, scorer.slope, scorer.offset, **given)


@contextmanager
def registered() -> Iterator[None]:
    """Has Prometheus forget in the end what was registered: it knows a name once a process."""
    before = set(REGISTRY._collector_to_names)
    try:
        yield
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


@contextmanager
def counting(card: ModelCard) -> Iterator[Metrics]:
    """Metrics of this process."""
    with registered():
        yield Metrics(card)


def metric(name: str, **labels: str) -> float | None:
    """A sample's value; None where there is none."""
    return REGISTRY.get_sample_value(name, labels)


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def body_messages(*parts: bytes) -> list[Message]:
    """What a server hands on of a body that came in parts."""
    return [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]


async def ask(
    app: ASGIApp,
    method: str,
    path: str,
    messages: Sequence[Message] = (),
    *,
    query: bytes = b"",
    server: str = "127.0.0.1",
    **headers: str,
) -> Answered | None:
    """One request of an ASGI app; None where it gives no answer.

    Args:
        messages: from the server; once they are used up, it waits for ever.
        headers: `x_api_key` is X-API-Key.
    """
    waiting, sent = list(messages), []

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

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
    await app(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    assert [part["type"] for part in rest] == ["http.response.body"]
    given = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    assert len(dict(given)) == len(given), "a header is there twice"
    return Answered(start["status"], dict(given), rest[0]["body"])


async def bentoml(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands behind the door, with an answer that nobody else gives."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@dataclass
class House:
    """A door with a real worker behind it.

    Attributes:
        log: file of the request log.
    """

    worker: Worker
    dispatcher: Dispatcher
    log: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **told: Any) -> Answered:
        """One request; a body is JSON."""
        answer = asyncio.run(self.begin(method, path, body, **told))
        assert answer is not None
        return answer

    async def begin(
        self, method: str, path: str, body: bytes | None = None, **told: Any
    ) -> Answered | None:
        if body is not None:
            about = {"content_type": "application/json", "content_length": str(len(body))}
            told = {"messages": body_messages(body), **about} | told
        return await ask(self.dispatcher, method, path, **told)

    def post(self, path: str, body: Any, **told: Any) -> Answered:
        return self.ask("POST", path, json.dumps(body).encode(), **told)

    def lines(self) -> list[dict[str, Any]]:
        """The request log, which is closed by that."""
        self.worker.request_log.close(5)
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


@contextmanager
def house(tmp_path: Path, **settings: Any) -> Iterator[House]:
    folder = tmp_path / "model"
    if not folder.exists():
        model_folder(folder)
    log = tmp_path / "requests.jsonl"
    with registered(), log.open("w", encoding="utf-8") as stream:
        worker = Worker(ServiceSettings(**{"prediction_log": None} | settings), CONTRACT, folder)
        worker.request_log = RequestLog("INFO", stream)
        worker.request_log.start()
        worker.ready()
        yield House(worker, Dispatcher(bentoml, lambda: worker), log)
        worker.close()


def problem(answer: Answered, status: int, kind: str) -> list[dict[str, Any]]:
    """Holds a refusal against RFC 9457, and returns its faults."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    about = answer.json
    assert (about["type"], about["status"]) == (f"urn:churn:problem:{kind}", status)
    faults: list[dict[str, Any]] = about.get("problems", [])
    return faults
