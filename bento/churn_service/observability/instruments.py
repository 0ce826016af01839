"""Definitions of the service's Prometheus metrics: names, help texts, labels, buckets.

`prometheus_client` decides on its first import whether it works for several processes, and
BentoML's supervisor imports the service too. So it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING, Literal, NamedTuple

from churn_assets.contracts.card import ModelCard

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

WINDOW = 1_000
"""Number of last customers of each worker over which shares are computed."""

ENDPOINTS = ("/predict", "/predict/batch")
RISKS = ("low", "medium", "high")

LATENCY_BUCKETS = tuple(step * 10.0**power for power in range(-4, 1) for step in (1, 2, 5))
"""Seconds: 0.1 ms to 5 s in the steps 1, 2, 5."""

BATCH_BUCKETS = (*(step * 10**power for power in range(4) for step in (1, 2, 5)), 10_000)
"""Customers: 1 to 10,000 in the same steps."""

HELP = {
    "churn_model_info": "The served model and its contract; always 1.",
    "churn_model_accuracy": "Accuracy of the model on the test rows of its evaluation.",
    "churn_model_drift_score": "Population stability index of the probabilities of recent "
    "customers against the test rows: a shift is small below 0.1 and large above 0.25. "
    "NaN while these customers are few.",
    "churn_predictions_total": "Customers scored.",
    "churn_prediction_latency_seconds": "Time that the service took to answer a scored request.",
    "churn_prediction_errors_total": "Requests that were refused or failed, by type of problem.",
    "churn_input_data_quality_score": "Share of recent customers that passed a check; "
    "NaN before the first customer.",
    "churn_batch_size": "Customers scored per batch.",
    "churn_high_risk_customers_total": "Customers scored whose risk category is high.",
    "churn_predicted_rate": "Share of recent customers that were predicted to churn; "
    "NaN before the first customer.",
    "churn_degraded_predictions_total": "Customers scored in requests that used the "
    "fallback model.",
    "churn_unknown_categories_total": "Values of an open category that training never saw.",
    "churn_refusal_latency_seconds": "Time that the service took to refuse a request.",
    "churn_prediction_log_dropped_total": "Customers missing from the prediction log.",
    "churn_breaker_opened_total": "Times that the circuit breaker of the main model opened.",
    "churn_window_customers": f"The last {WINDOW} scored customers of each worker, by bin of the "
    "model card's scores, from 0 for the lowest, and by whether they were predicted to churn.",
    "churn_window_checks": f"The last {WINDOW} checked customers of each worker, by check and by "
    "whether they passed it.",
}
"""Help text of each metric, by its name."""


class Endpoint(NamedTuple):
    """Metrics of one endpoint: a look-up by labels takes longer than the count."""

    predictions: dict[str, Counter]
    latency: Histogram


def counter(name: str, *labels: str) -> Counter:
    """A registered counter of `HELP`."""
    from prometheus_client import Counter

    return Counter(name, HELP[name], labels)


def histogram(name: str, buckets: Sequence[float], *labels: str) -> Histogram:
    """A registered histogram of `HELP`."""
    from prometheus_client import Histogram

    return Histogram(name, HELP[name], labels, buckets=buckets)


def gauge(name: str, labels: Sequence[str], mode: Literal["livesum", "max"]) -> Gauge:
    """A registered gauge of `HELP`; the mode says how the values of all workers are combined."""
    from prometheus_client import Gauge

    return Gauge(name, HELP[name], labels, multiprocess_mode=mode)


def endpoints(version: str) -> dict[str, Endpoint]:
    """Metrics of every endpoint, by its route, for a model of this version."""
    latency = histogram("churn_prediction_latency_seconds", LATENCY_BUCKETS, "endpoint")
    predictions = counter("churn_predictions_total", "model_version", "endpoint", "risk_category")
    return {
        endpoint: Endpoint(
            {risk: predictions.labels(version, endpoint, risk) for risk in RISKS},
            latency.labels(endpoint),
        )
        for endpoint in ENDPOINTS
    }


def describe(card: ModelCard) -> None:
    """Sets the metrics of the card: equal in every worker, so that "max" returns any of them."""
    info = {
        "name": card.name,
        "version": card.version,
        "contract": card.contract_name,
        "contract_version": card.contract_version,
    }
    # prometheus_client's own Info does not work with several processes.
    gauge("churn_model_info", tuple(info), "max").labels(**info).set(1)
    accuracy = card.metrics["accuracy"].value
    gauge("churn_model_accuracy", (), "max").set(nan if accuracy is None else accuracy)
