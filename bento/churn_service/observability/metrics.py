"""What Prometheus is told of the service, under the names of the bento's README."""

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
"""How long a worker may keep new counts to itself, unless it is scraped."""

TOGETHER = 64
"""Requests that are counted at once: less than half a millisecond of the event loop."""

LOSSES = ("queue", "disk", "error", "closed")

NOTHING: Mapping[str, int] = MappingProxyType({})
UNKNOWN_CATEGORY: Mapping[str, int] = MappingProxyType({"known_categories": 1})


class Metrics:
    """Counts what a worker does; one instance a process.

    Everything but `dropped` and `render` belongs to the thread of the worker's event loop.
    """

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._uncounted: list[tuple[str, float, str, bool, bool, float, Sequence[str]]] = []
        self._high_risk = counter("churn_high_risk_customers_total")
        self._degraded = counter("churn_degraded_predictions_total")
        self._unknown = counter("churn_unknown_categories_total", "column")
        self._errors = counter("churn_prediction_errors_total", "error_type")
        self._dropped = counter("churn_prediction_log_dropped_total", "reason")
        self._breaker_opened = counter("churn_breaker_opened_total")
        self._batch_size = histogram("churn_batch_size", BATCH_BUCKETS)
        self._refusals = histogram("churn_refusal_latency_seconds", LATENCY_BUCKETS)
        self._endpoints = endpoints(card.version)
        for labels, counted in ((STATUS, self._errors), (LOSSES, self._dropped)):
            for label in labels:
                counted.labels(label)  # a rate needs the zero before the first
        self._scores, self._checks = RollingScores(card.scores.edges), RollingChecks()
        self._published = (
            PublishedCounts(self._scores, SCORED, ("score_bin", "will_churn")),
            PublishedCounts(self._checks, CHECKED, ("check_type", "passed")),
        )
        # At once: a dead process with this one's number may have left its counts.
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
            endpoint: one of `ENDPOINTS`.
            degraded: the fallback model answered.
            seconds: that the request took.
            unknown: columns with an open category that training never saw.
        """
        # Together they are counted in a third of the time.
        self._uncounted.append(
            (endpoint, probability, risk, will_churn, degraded, seconds, unknown)
        )
        if len(self._uncounted) == TOGETHER:
            self._count()
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
        """Counts a batch that was answered; will churn who is at high risk.

        Args:
            probabilities: of the customers that were scored, shape (n,).
            risks: categories of the same customers.
            degraded: the fallback model answered for some of them at least.
            seconds: that the request took.
            unknown: values of open categories that training never saw, by column. Which ones met
                in one customer is not known: the data quality takes it that all did.
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
            error_type: type of the problem, a key of `problems.STATUS`.
            seconds: that the request took, where it is known.
            faults: number of customers with a fault, by check type.
            customers: that were checked, the good ones of a refused batch among them; at least
                as many as had the most common fault.
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
        """Counts customers whose predictions were not logged; the reason is one of `LOSSES`."""
        self._dropped.labels(reason).inc(count)

    def breaker_opened(self) -> None:
        self._breaker_opened.inc()

    def before_scrape(self) -> None:
        """Makes all counts exact for this worker, and forgets dead workers.

        To be called before BentoML collects. Otherwise its sums are up to `FLUSH_SECONDS` old,
        and hold the last windows of workers that were killed.
        """
        self.flush()
        remove_dead_workers()

    def render(self, text: str) -> str:
        """BentoML's text over all workers, and the metrics that are computed from it.

        Args:
            text: in Prometheus' text format, as BentoML's hook `__metrics__` has it.
        """
        return text + shares(text, self._card.scores)

    def _count(self) -> None:
        for endpoint, probability, risk, will_churn, degraded, seconds, unknown in self._uncounted:
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
        self._uncounted.clear()

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no loop, nothing to spare it
            self.flush()
        else:
            loop.call_later(FLUSH_SECONDS, self.flush)
            self._flush_is_due = True

    def flush(self) -> None:
        """Counts what is not counted yet, and publishes the windows."""
        self._flush_is_due = False
        self._count()
        for published in self._published:
            published.write()
