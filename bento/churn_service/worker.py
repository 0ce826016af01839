"""Everything that a worker holds while it serves."""

import gc
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from churn_assets.contracts.contract import Contract
from churn_service.access.api_keys import KeyRing
from churn_service.access.authentication import Access
from churn_service.access.rate_limits import RateLimiter
from churn_service.graceful_shutdown import drain_before_stopping, take_connections
from churn_service.http.request import Deadline
from churn_service.inference.predictions import Answers
from churn_service.inference.request_parsing import MOST_CUSTOMERS, Reader
from churn_service.inference.served_model import ServedModel
from churn_service.observability.logs import RequestLog
from churn_service.observability.metrics import Metrics
from churn_service.observability.prediction_log import PredictionLog
from churn_service.problems import Problem
from churn_service.settings import ServiceSettings

LOG = logging.getLogger("churn.service")

CLOSING_SECONDS = 10.0
"""For which logs may go on writing what waits when the worker ends."""

TRY_SECONDS = 1.0
"""How long the golden rows of one readiness probe stand for those that follow."""


class Turns:
    """What may be in hand at once: entered for each, and left when it is answered."""

    def __init__(self, limit: int, noun: str) -> None:
        self._limit, self._noun, self._taken = limit, noun, 0

    def __enter__(self) -> None:
        """Takes a turn.

        Raises:
            Problem: overloaded, where none is left.
        """
        if self._taken >= self._limit:
            detail = f"{self._limit} {self._noun} are in hand, and more do not fit"
            raise Problem("overloaded", detail, headers={"Retry-After": "1"})
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1


class Desk:
    """One worker's model, keys, logs and metrics, from the start of the service to its end.

    Attributes:
        turns: of requests.
        batches: turns of large ones.
        deadline: of what a caller has to bring.
        since: when it was opened.
        documented: what GET /docs.json answers, once it was asked for.
        draining: the worker was told to stop, and takes the last requests.
        name: of this worker, in the ids of its requests.
    """

    def __init__(self, settings: ServiceSettings, contract: Contract, folder: Path) -> None:
        """Opens it.

        Args:
            folder: of the model in the bento.
        """
        self.settings, self.contract = settings, contract
        self.model = ServedModel(
            folder,
            contract,
            failures=settings.breaker_failures,
            seconds=settings.breaker_seconds,
            opened=lambda: self.metrics.breaker_opened(),
        )
        self.metrics = Metrics(self.model.card)
        self.reader = Reader(contract)
        self.access = Access(
            KeyRing(settings.keys_file) if settings.keys_file else None,
            RateLimiter(settings.rate_limit, settings.workers),
        )
        self.requests = RequestLog(settings.log_level)
        self._predictions = _prediction_log(settings, contract, self.metrics)
        self.answers = Answers(contract, self.model, self.metrics, self._predictions)
        self.since = datetime.now(UTC)
        self.documented: bytes | None = None
        self.draining = False
        self.name = os.urandom(4).hex()
        self._try_at, self._passes = 0.0, False
        self.deadline = Deadline(settings.timeout)
        self.turns = Turns(settings.max_concurrency, "requests")
        self.batches = Turns(settings.max_batches, "large batches")

    def start(self) -> None:
        """Starts the logs, tries the model, and has a signal to stop wait for the last requests."""
        self.requests.start()
        if self._predictions:
            self._predictions.start()
        if not self.ready():
            LOG.error("neither scorer passes its golden rows: no request will be answered")
        if not self.settings.keys_file:
            LOG.warning("no CHURN_API_KEYS_FILE: open to everyone on this machine, and to no other")
        take_connections()
        drain_before_stopping(self.settings.drain_seconds, self._begin_to_drain)
        # What was imported lives as long as the process: looking through it takes 100 ms at a time.
        gc.collect()
        gc.freeze()

    def _begin_to_drain(self) -> None:
        self.draining = True

    def close(self) -> None:
        """Writes what waits."""
        if self._predictions:
            self._predictions.close(CLOSING_SECONDS)
        self.requests.close(CLOSING_SECONDS)

    def ready(self) -> bool:
        """Whether requests should be sent here; the model is tried once a second at most."""
        if (now := monotonic()) >= self._try_at:
            self._try_at = now + TRY_SECONDS
            self._passes = self.model.ready()
        return self._passes and not self.draining

    def health(self) -> dict[str, Any]:
        """The answer of GET /health."""
        usable, degraded = self.model.usable, self.model.degraded
        status = "ok" if usable and not degraded else "degraded" if usable else "unavailable"
        return {
            "status": "draining" if self.draining else status,
            "model_version": self.model.card.version,
            "since": self.since.isoformat(timespec="seconds"),
            "degraded": degraded,
        }

    def about(self) -> dict[str, Any]:
        """The answer of GET /model."""
        contract, settings = self.contract, self.settings
        return self.model.card.model_dump(mode="json", exclude={"scores"}) | {
            "contract": {
                "name": contract.name,
                "version": contract.version,
                "description": contract.description,
                "predicts": contract.label.description,
                "horizon_months": contract.horizon_months,
                "inputs": {column.name: column.limits for column in contract.features},
                "derived": {feature.name: feature.description for feature in contract.derived},
            },
            "limits": {
                "customers_in_a_batch": MOST_CUSTOMERS,
                "body_bytes": settings.max_body_bytes,
                "seconds": settings.timeout,
                "rate": settings.rate_limit,
            },
        }


def _prediction_log(
    settings: ServiceSettings, contract: Contract, metrics: Metrics
) -> PredictionLog | None:
    if settings.prediction_log is None:
        LOG.warning("CHURN_API_PREDICTION_LOG is none: predictions cannot be traced")
        return None
    return PredictionLog(
        settings.prediction_log,
        contract,
        settings.id_key(),
        file_bytes=settings.prediction_log_file_bytes,
        files=settings.prediction_log_files,
        queue=settings.prediction_log_queue,
        dropped=metrics.dropped,
    )
