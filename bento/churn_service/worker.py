"""One worker process of the service: everything it holds from its start to its end."""

import gc
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from churn_assets.contracts.contract import Contract
from churn_service.access.api_keys import KeyRing
from churn_service.access.authentication import AccessControl
from churn_service.access.rate_limits import RateLimiter
from churn_service.graceful_shutdown import accept_connections, drain_on_sigterm
from churn_service.inference.predictions import Predictor
from churn_service.inference.request_parsing import MOST_CUSTOMERS, RequestParser
from churn_service.inference.served_model import ServedModel
from churn_service.observability.logs import RequestLog
from churn_service.observability.metrics import Metrics
from churn_service.observability.prediction_log import PredictionLog
from churn_service.problems import Problem
from churn_service.settings import ServiceSettings

LOG = logging.getLogger("churn.service")

CLOSING_SECONDS = 10.0
"""Longest time for which each log may write its queue when the worker ends."""

READINESS_SECONDS = 1.0
"""Time for which one result of the golden rows answers readiness probes."""


class ConcurrencyLimit:
    """Context manager that refuses more than `limit` requests at a time."""

    def __init__(self, limit: int, noun: str) -> None:
        self._limit, self._noun, self._in_progress = limit, noun, 0

    def __enter__(self) -> None:
        """Counts one more.

        Raises:
            Problem: `overloaded`; the limit is reached.
        """
        if self._in_progress >= self._limit:
            detail = f"{self._limit} {self._noun} are in progress, which is the limit"
            raise Problem("overloaded", detail, headers={"Retry-After": "1"})
        self._in_progress += 1

    def __exit__(self, *_: object) -> None:
        self._in_progress -= 1


class Worker:
    """One worker's model, keys, logs and metrics.

    Attributes:
        concurrency: Limit of requests in progress.
        batch_concurrency: Limit of large batches in progress.
        since: Time at which the worker was created.
        openapi_json: Cached response of GET /docs.json; None before the first request.
        draining: Whether the worker has received SIGTERM and serves the last requests.
        name: Prefix of the request ids that this worker generates.
    """

    def __init__(self, settings: ServiceSettings, contract: Contract, folder: Path) -> None:
        """Loads the model.

        Args:
            folder: Folder of the model in the bento.
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
        self.parser = RequestParser(contract)
        self.access = AccessControl(
            KeyRing(settings.keys_file) if settings.keys_file else None,
            RateLimiter(settings.rate_limit, settings.workers),
        )
        self.request_log = RequestLog(settings.log_level)
        self._prediction_log = _prediction_log(settings, contract, self.metrics)
        self.predictor = Predictor(contract, self.model, self.metrics, self._prediction_log)
        self.since = datetime.now(UTC)
        self.openapi_json: bytes | None = None
        self.draining = False
        self.name = os.urandom(4).hex()
        self._next_check, self._passes = 0.0, False
        self.concurrency = ConcurrencyLimit(settings.max_concurrency, "requests")
        self.batch_concurrency = ConcurrencyLimit(settings.max_batches, "large batches")

    def start(self) -> None:
        """Starts the logs, checks the model, and installs the graceful shutdown."""
        self.request_log.start()
        if self._prediction_log:
            self._prediction_log.start()
        if not self.ready():
            LOG.error("neither scorer passes its golden rows: no request will be answered")
        if not self.settings.keys_file:
            LOG.warning(
                "CHURN_API_KEYS_FILE is not set: the service is open to everyone on this machine, "
                "and to no other machine"
            )
        accept_connections()
        drain_on_sigterm(self.settings.drain_seconds, self._start_draining)
        # Imported objects live as long as the process: to scan them takes 100 ms each time.
        gc.collect()
        gc.freeze()

    def _start_draining(self) -> None:
        self.draining = True

    def close(self) -> None:
        """Writes the queues of both logs."""
        if self._prediction_log:
            self._prediction_log.close(CLOSING_SECONDS)
        self.request_log.close(CLOSING_SECONDS)

    def ready(self) -> bool:
        """Whether the worker should get requests; the model is checked once a second at most."""
        if (now := monotonic()) >= self._next_check:
            self._next_check = now + READINESS_SECONDS
            self._passes = self.model.ready()
        return self._passes and not self.draining

    def health(self) -> dict[str, Any]:
        """The body of GET /health."""
        usable, degraded = self.model.usable, self.model.degraded
        status = "ok" if usable and not degraded else "degraded" if usable else "unavailable"
        return {
            "status": "draining" if self.draining else status,
            "model_version": self.model.card.version,
            "since": self.since.isoformat(timespec="seconds"),
            "degraded": degraded,
        }

    def model_info(self) -> dict[str, Any]:
        """The body of GET /model."""
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
        file_seconds=settings.prediction_log_file_seconds,
        pod_info=settings.pod_info,
    )
