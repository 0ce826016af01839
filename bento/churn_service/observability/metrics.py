"""Prometheus metrics of the service, under the names in the bento's README."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from churn_assets.contracts.card import ModelCard
from churn_service.observability.instruments import (
    BATCH_BUCKETS,
    LATENCY_BUCKETS,
    WINDOW,
    counter,
    describe,
    endpoints,
    histogram,
)
from churn_service.observability.rolling_counts import (
    CHECKED,
    SCORED,
    PublishedCounts,
    RollingChecks,
    RollingScores,
    remove_dead_workers,
    reserve_disk,
    shares,
)
from churn_service.problems import STATUS

FLUSH_SECONDS = 0.5
"""Longest time after which a worker publishes its windows, unless it is scraped."""

DROP_REASONS = ("queue", "disk", "error", "closed")

NOTHING: Mapping[str, int] = MappingProxyType({})
UNKNOWN_CATEGORY: Mapping[str, int] = MappingProxyType({"known_categories": 1})


class Metrics:
    """Metrics of one worker; one instance per process.

    Only `dropped` and `render` may be called outside the thread of the worker's event loop.
    """

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._high_risk = counter("churn_high_risk_customers_total")
        self._degraded = counter("churn_degraded_predictions_total")
        self._unknown = counter("churn_unknown_categories_total", "column")
        self._errors = counter("churn_prediction_errors_total", "error_type")
        self._dropped = counter("churn_prediction_log_dropped_total", "reason")
        self._breaker_opened = counter("churn_breaker_opened_total")
        self._batch_size = histogram("churn_batch_size", BATCH_BUCKETS)
        self._refusals = histogram("churn_refusal_latency_seconds", LATENCY_BUCKETS)
        self._endpoints = endpoints(card.version)
        for labels, counted in ((STATUS, self._errors), (DROP_REASONS, self._dropped)):
            for label in labels:
                counted.labels(label)  # a rate needs a zero before the first count
        self._scores, self._checks = RollingScores(card.scores.edges), RollingChecks()
        self._published = (
            PublishedCounts(self._scores, SCORED, ("score_bin", "will_churn")),
            PublishedCounts(self._checks, CHECKED, ("check_type", "passed")),
        )
        # Now, because a dead process with the same process id may have left its counts.
        self.flush()
        describe(card)
        reserve_disk()

    def predicted(
        self,
        endpoint: str,
        probability: float,
        risk: str,
        will_churn: bool,
        *,
        degraded: bool,
        seconds: float,
        unknown: Sequence[str] = (),
    ) -> None:
        """Counts a request for one customer that was answered.

        Args:
            endpoint: One of `ENDPOINTS`.
            degraded: Whether the fallback model scored the customer.
            seconds: Time that the request took.
            unknown: Columns with an open category that training never saw.
        """
        predictions, latency = self._endpoints[endpoint]
        predictions[risk].inc()
        latency.observe(seconds)
        if risk == "high":
            self._high_risk.inc()
        if degraded:
            self._degraded.inc()
        for column in unknown:
            self._unknown.labels(column).inc()
        self._scores.add(probability, will_churn)
        self._checks.add(1, UNKNOWN_CATEGORY if unknown else NOTHING)
        if not self._flush_is_due:
            self._flush_soon()

    def predicted_batch(
        self,
        endpoint: str,
        probabilities: NDArray[np.float64],
        risks: Sequence[str],
        *,
        degraded: bool,
        seconds: float,
        unknown: Mapping[str, int],
    ) -> None:
        """Counts a batch that was answered; customers at high risk are predicted to churn.

        Args:
            probabilities: Probabilities of the scored customers, shape (n,).
            risks: Risk categories of the same customers.
            degraded: Whether the fallback model scored at least some of the customers.
            seconds: Time that the request took.
            unknown: Number of values of open categories that training never saw, by column. One
                customer may have several: the data quality assumes the greatest overlap.
        """
        predictions, latency = self._endpoints[endpoint]
        for risk, count in Tally(risks).items():
            predictions[risk].inc(count)
        latency.observe(seconds)
        self._batch_size.observe(len(risks))
        self._high_risk.inc(risks.count("high"))
        if degraded:
            self._degraded.inc(len(risks))
        for column, count in unknown.items():
            self._unknown.labels(column).inc(count)
        self._scores.extend(probabilities, [risk == "high" for risk in risks[-WINDOW:]])
        most = max(unknown.values(), default=0)
        self.checked({"known_categories": most} if most else NOTHING, len(risks))

    def refused(
        self,
        error_type: str,
        seconds: float | None = None,
        faults: Mapping[str, int] = NOTHING,
        customers: int = 0,
    ) -> None:
        """Counts a request that was refused or failed.

        Args:
            error_type: Kind of the problem, a key of `problems.STATUS`.
            seconds: Time that the request took, where it is known.
            faults: Number of customers with a fault, by check type.
            customers: Number of checked customers, including the valid ones of a refused batch; at
                least as many as had the most common fault.
        """
        self._errors.labels(error_type).inc()
        if seconds is not None:
            self._refusals.observe(seconds)
        if faults or customers:
            self.checked(faults, customers)

    def checked(self, faults: Mapping[str, int], customers: int = 0) -> None:
        """Counts customers for the data quality alone, such as those that a batch skips.

        The arguments are those of `refused`.
        """
        self._checks.add(max(customers, *faults.values(), 0), dict(faults))
        if not self._flush_is_due:
            self._flush_soon()

    def dropped(self, reason: str, count: int) -> None:
        """Counts customers whose predictions were not logged, by one of `DROP_REASONS`."""
        self._dropped.labels(reason).inc(count)

    def breaker_opened(self) -> None:
        self._breaker_opened.inc()

    def before_scrape(self) -> None:
        """Publishes the windows of this worker, and removes those of dead workers.

        Call it before BentoML collects the metrics. Otherwise the shares are up to `FLUSH_SECONDS`
        old and include the last windows of killed workers.
        """
        self.flush()
        remove_dead_workers()

    def render(self, text: str) -> str:
        """BentoML's text over all workers, and the metrics that are computed from it.

        Args:
            text: Metrics in Prometheus' text format, as BentoML's hook `__metrics__` gets them.
        """
        return text + shares(text, self._card.scores)

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # there is no event loop to relieve
            self.flush()
        else:
            loop.call_later(FLUSH_SECONDS, self.flush)
            self._flush_is_due = True

    def flush(self) -> None:
        """Publishes the windows."""
        self._flush_is_due = False
        for published in self._published:
            published.write()
