"""Every metric of a real server has the expected value after known requests.

One test has one worker and checks after several steps; the other has two workers.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from churn_service.observability.instruments import BATCH_BUCKETS, LATENCY_BUCKETS
from churn_service.problems import CHECKS, STATUS
from prometheus_client.parser import text_string_to_metric_families

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.expected_responses import (
    customer_json_with,
    expected_probability,
    faulty_batch,
)
from churn_assets_tests.bento.served_bento import JSON, ServedBento, served_bento
from churn_assets_tests.bentos import SCORER, customers, model_card

PREDICT, PREDICT_BATCH, SKIP_FAULTY = "/predict", "/predict/batch", "/predict/batch?on_error=skip"
CARD = model_card()
SEEN = set(SCORER.codes["location"])
WINDOW, LEAST_FOR_DRIFT = 1_000, 200

TYPES = {
    "churn_model_info": "gauge",
    "churn_model_accuracy": "gauge",
    "churn_model_drift_score": "gauge",
    "churn_predictions": "counter",
    "churn_prediction_latency_seconds": "histogram",
    "churn_prediction_errors": "counter",
    "churn_input_data_quality_score": "gauge",
    "churn_batch_size": "histogram",
    "churn_high_risk_customers": "counter",
    "churn_predicted_rate": "gauge",
}

Sample = tuple[str, frozenset[tuple[str, str]]]
Request = tuple[str, str, bytes]


def sample(name: str, /, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def scrape(server: ServedBento) -> dict[Sample, float]:
    """Every sample of /metrics."""
    text = server.client.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    assert TYPES.items() <= {family.name: family.type for family in families}.items()
    assert all(family.documentation for family in families if family.name in TYPES)
    found = [one for family in families for one in family.samples]
    read = {sample(one.name, **one.labels): one.value for one in found}
    assert len(read) == len(found), "a series came twice"
    return read


@dataclass
class Tally:
    """The expected metrics after the requests so far.

    Attributes:
        risks: Number of scored customers, by endpoint and risk category.
        requests: Number of requests with predictions, by endpoint.
        batches: Number of scored customers in each batch.
        unknown: Number of scored customers with an unknown location.
        errors: Number of refused requests, by type of problem.
        probabilities: Probabilities of the scored customers.
        checked: Failed checks of every checked customer.
    """

    risks: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    batches: list[int] = field(default_factory=list)
    unknown: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    probabilities: list[float] = field(default_factory=list)
    checked: list[set[str]] = field(default_factory=list)

    def scored(self, endpoint: str, customers: list[dict[str, Any]]) -> None:
        """Counts a request whose customers were all scored."""
        probabilities = [expected_probability(customer) for customer in customers]
        self.risks.update((endpoint, CARD.risk_category(one)) for one in probabilities)
        self.requests[endpoint] += 1
        self.batches += [len(customers)] if endpoint == PREDICT_BATCH else []
        unknown = [customer["location"] not in SEEN for customer in customers]
        self.unknown += sum(unknown)
        self.probabilities += probabilities
        self.checked += [{"known_categories"} if one else set() for one in unknown]

    def refused(self, kind: str, *customers: set[str]) -> None:
        """Counts a refused request, and the checks that each of its customers failed."""
        self.errors[kind] += 1
        self.checked += customers

    def totals(self) -> dict[Sample, float]:
        """Expected values of the counters, the counts and the model's gauges."""
        high = sum(count for (_, risk), count in self.risks.items() if risk == "high")
        info = {"name": CARD.name, "version": CARD.version}
        contract = {"contract": CARD.contract_name, "contract_version": CARD.contract_version}
        return (
            {
                sample("churn_model_info", **info, **contract): 1,
                sample("churn_model_accuracy"): 0.9,
                sample("churn_high_risk_customers_total"): high,
                sample("churn_batch_size_count"): len(self.batches),
                sample("churn_batch_size_sum"): sum(self.batches),
                sample("churn_degraded_predictions_total"): 0,
                sample("churn_breaker_opened_total"): 0,
                sample("churn_prediction_log_dropped_total", reason="queue"): 0,
                sample("churn_prediction_log_dropped_total", reason="disk"): 0,
            }
            | {
                sample(
                    "churn_predictions_total",
                    model_version="3",
                    endpoint=endpoint,
                    risk_category=risk,
                ): self.risks[endpoint, risk]
                for endpoint in (PREDICT, PREDICT_BATCH)
                for risk in ("low", "medium", "high")
            }
            | {
                sample("churn_prediction_latency_seconds_count", endpoint=endpoint): count
                for endpoint, count in (
                    (PREDICT, self.requests[PREDICT]),
                    (PREDICT_BATCH, self.requests[PREDICT_BATCH]),
                )
            }
            | {
                sample("churn_prediction_errors_total", error_type=kind): self.errors[kind]
                for kind in STATUS
            }
        )

    def shares(self) -> dict[Sample, float]:
        """Expected values of the shares over the last thousand customers."""
        probabilities, checked = self.probabilities[-WINDOW:], self.checked[-WINDOW:]
        low, high = CARD.scores.edges
        bins = Counter((one >= low) + (one >= high) for one in probabilities)
        enough = len(probabilities) >= LEAST_FOR_DRIFT
        drift = CARD.scores.stability_index((bins[0], bins[1], bins[2])) if enough else math.nan
        churning = sum(one >= CARD.threshold for one in probabilities)
        return {
            sample("churn_model_drift_score"): drift,
            sample("churn_predicted_rate"): churning / len(probabilities)
            if probabilities
            else math.nan,
        } | {
            sample("churn_input_data_quality_score", check_type=check): (
                sum(check not in faults for faults in checked) / len(checked)
                if checked
                else math.nan
            )
            for check in CHECKS
        }

    def differences(self, read: dict[Sample, float]) -> dict[Sample, Any]:
        """Scraped and expected value of each sample where they differ."""
        return {
            key: (read.get(key), value)
            for key, value in (self.totals() | self.shares()).items()
            if read.get(key) != pytest.approx(value, rel=1e-12, nan_ok=True)
        }


def known_requests(tally: Tally) -> Iterator[Request]:
    """Yields requests of every kind, and counts each in `tally`."""
    remaining = iter(customers(400))
    for _ in range(169):
        customer = next(remaining)
        tally.scored(PREDICT, [customer])
        yield "POST", PREDICT, json.dumps(customer).encode()
    for size in (30, 1, 2, 48):
        batch = [next(remaining) for _ in range(size)]
        tally.scored(PREDICT_BATCH, batch)
        yield "POST", PREDICT_BATCH, json.dumps({"customers": batch}).encode()
    for name, value, check in (
        ("age", '"42"', "typed"),
        ("age", "17", "in_range"),
        ("avg_data_usage", "1e999", "in_range"),
        ("tenure", "null", "complete"),
        ("gender", '"?"', "known_categories"),
        ("nonsense", "1", "known_fields"),
    ):
        tally.refused("validation", {check})
        yield "POST", PREDICT, customer_json_with(name, value)
    tally.refused("validation", {"complete"})
    yield "POST", PREDICT, b"{}"
    batch = faulty_batch()["customers"]
    failed_checks = {"in_range", "typed"}, {"known_fields"}
    tally.refused("validation", *failed_checks, set(), set(), set())
    yield "POST", PREDICT_BATCH, json.dumps({"customers": batch}).encode()
    tally.scored(PREDICT_BATCH, batch[::2])
    tally.checked += failed_checks
    yield "POST", SKIP_FAULTY, json.dumps({"customers": batch}).encode()
    for kind, *request in (
        ("malformed", "POST", PREDICT, b"{"),
        ("too-large", "POST", PREDICT, b" " * (2**16 + 1)),
        ("not-found", "POST", "/nothing", b""),
        ("method-not-allowed", "PUT", PREDICT, b""),
        ("method-not-allowed", "POST", "/model", b""),
    ):
        tally.refused(str(kind))
        yield tuple(request)  # type: ignore[misc]


def buckets(read: dict[Sample, float], name: str, **labels: str) -> dict[float, float]:
    """Cumulative counts of the histogram with these labels, by upper bound."""
    found = {
        float(dict(found_labels)["le"]): value
        for (series, found_labels), value in read.items()
        if series == f"{name}_bucket" and labels.items() <= dict(found_labels).items()
    }
    return dict(sorted(found.items()))


def check_histograms(tally: Tally, read: dict[Sample, float]) -> None:
    for endpoint in (PREDICT, PREDICT_BATCH):
        counts = buckets(read, "churn_prediction_latency_seconds", endpoint=endpoint)
        assert tuple(counts) == (*LATENCY_BUCKETS, math.inf)
        assert all(one <= next_ for one, next_ in pairwise(counts.values()))
        assert counts[math.inf] == tally.requests[endpoint]
        total = read[sample("churn_prediction_latency_seconds_sum", endpoint=endpoint)]
        assert 0 < total < 60
    bounds = (*BATCH_BUCKETS, math.inf)
    assert buckets(read, "churn_batch_size") == {
        bound: sum(size <= bound for size in tally.batches) for bound in bounds
    }


def test_every_metric_has_the_expected_value(
    built: BuiltBento, store: BentoStore, tmp_path: Path
) -> None:
    with served_bento(built, store, tmp_path) as server:
        tally = Tally()
        assert tally.differences(scrape(server)) == {}
        for method, route, body in known_requests(tally):
            server.client.request(method, route, content=body, headers=JSON)
            # After the first customer, and about the number that a drift score needs.
            if len(tally.probabilities) in (1, LEAST_FOR_DRIFT - 1, LEAST_FOR_DRIFT):
                assert tally.differences(scrape(server)) == {}
        read = scrape(server)
        assert tally.differences(read) == {}
        unknown = sample("churn_unknown_categories_total", column="location")
        assert read[unknown] == tally.unknown > 0
        check_histograms(tally, read)
        # Each of these batches fills the window and pushes out all customers before it.
        rows = customers(2 * WINDOW)
        for batch in (rows[:WINDOW], rows[WINDOW:]):
            tally.scored(PREDICT_BATCH, batch)
            server.client.post(PREDICT_BATCH, json={"customers": batch})
            assert tally.differences(scrape(server)) == {}
        counted = 'bentoml_service_request_total{endpoint="/predict",http_response_code="200"'
        assert counted in server.client.get("/metrics").text


def test_metrics_cover_all_workers(built: BuiltBento, store: BentoStore, tmp_path: Path) -> None:
    with served_bento(built, store, tmp_path, {"CHURN_API_WORKERS": "2"}) as server:
        tally, workers = Tally(), Counter[str]()
        for method, route, body in known_requests(tally):
            # Each request has a new connection, which either worker may accept.
            headers = JSON | {"Connection": "close"}
            response = server.client.request(method, route, content=body, headers=headers)
            workers[response.headers["X-Request-ID"].split("-")[0]] += 1
        assert len(workers) == 2
        assert min(workers.values()) >= 5
        # The other worker publishes its windows within half a second.
        time.sleep(0.6)
        read = scrape(server)
        assert tally.differences(read) == {}
        assert read[sample("churn_unknown_categories_total", column="location")] == tally.unknown
        check_histograms(tally, read)
