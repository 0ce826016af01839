"""Every metric has the expected value after a known sequence of requests in real processes."""

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from churn_service.observability.instruments import BATCH_BUCKETS, HELP, LATENCY_BUCKETS, WINDOW
from churn_service.observability.rolling_counts import LEAST_FOR_DRIFT, RESERVED_BYTES, SCORED
from churn_service.problems import CHECKS, STATUS
from prometheus_client.parser import text_string_to_metric_families

from churn_assets.contracts.card import Estimate
from churn_assets_tests.bento.metrics_processes import (
    CARD,
    INHERIT,
    PREDICT,
    PREDICT_BATCH,
    MetricsProcess,
    Values,
    collected,
    metrics_processes,
    scrape,
    value,
    values,
)

FIRST = [0.05, 0.1, 0.19, 0.2, 0.39, 0.4, 0.9]
SECOND = [0.39, 0.41]
BATCH = [0.01] * 100 + [0.3] * 60 + [0.95] * 40


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The metrics after a known sequence in three processes, scraped from the idle one."""
    folder = tmp_path_factory.mktemp("prometheus")
    with metrics_processes(folder, 3) as (first, second, idle):
        first.predict(*FIRST, seconds=0.0001)
        first.predict(0.05, degraded=True, unknown=["location", "device"], seconds=0.00011)
        first.call("refused", "validation", 0.003, {"in_range": 1, "typed": 1})
        first.call("refused", "unauthorized")
        first.call("dropped", "queue", 5)
        second.predict(*SECOND, seconds=6.0)
        second.predict_batch(BATCH, unknown={"location": 4}, seconds=0.02)
        second.predict_batch([0.5], degraded=True)
        second.call("refused", "validation", None, {"complete": 2, "in_range": 1}, 10)
        second.call("refused", "rate-limited", 0.00005)
        second.call("checked", {"known_fields": 3}, 3)
        second.call("dropped", "queue", 1)
        second.call("dropped", "disk", 64)
        for worker in (first, second):
            worker.call("breaker_opened")
            worker.call("before_scrape")
        yield scrape(folder, idle)


@pytest.fixture(scope="module")
def seen(text: str) -> Values:
    return values(text)


def test_model_is_named_with_its_contract(seen: Values) -> None:
    assert (
        value(
            seen,
            "churn_model_info",
            name="churn_telecom",
            version="7",
            contract="telecom",
            contract_version="1.2.0",
        )
        == 1
    )


def test_accuracy_comes_from_the_card(seen: Values) -> None:
    assert value(seen, "churn_model_accuracy") == 0.875


@pytest.mark.parametrize(
    ("endpoint", "risk", "count"),
    [
        (PREDICT, "low", 4),  # 0.05, 0.1, 0.19 and the degraded prediction
        (PREDICT, "medium", 3),  # 0.2, 0.39 twice
        (PREDICT, "high", 3),
        (PREDICT_BATCH, "low", 100),
        (PREDICT_BATCH, "medium", 60),
        (PREDICT_BATCH, "high", 41),
    ],
)
def test_predictions_are_counted_by_customer(
    seen: Values, endpoint: str, risk: str, count: int
) -> None:
    labels = {"model_version": "7", "endpoint": endpoint, "risk_category": risk}
    assert value(seen, "churn_predictions_total", **labels) == count


def test_high_risk_customers_are_counted(seen: Values) -> None:
    assert value(seen, "churn_high_risk_customers_total") == 44


def test_degraded_predictions_are_counted(seen: Values) -> None:
    assert value(seen, "churn_degraded_predictions_total") == 2


def test_unknown_categories_are_counted_by_column(seen: Values) -> None:
    assert value(seen, "churn_unknown_categories_total", column="location") == 5
    assert value(seen, "churn_unknown_categories_total", column="device") == 1


def test_latency_is_counted_by_request(seen: Values) -> None:
    """Latencies below, at and above a bucket's bound; 6 s is above all bounds."""
    name, bounds = "churn_prediction_latency_seconds", [str(bound) for bound in LATENCY_BUCKETS]
    buckets = {le: value(seen, f"{name}_bucket", endpoint=PREDICT, le=le) for le in bounds}
    assert buckets == {"0.0001": 7} | dict.fromkeys(bounds[1:], 8)
    assert value(seen, f"{name}_bucket", endpoint=PREDICT, le="+Inf") == 10
    assert value(seen, f"{name}_count", endpoint=PREDICT) == 10
    assert value(seen, f"{name}_sum", endpoint=PREDICT) == pytest.approx(7e-4 + 1.1e-4 + 12)
    assert value(seen, f"{name}_count", endpoint=PREDICT_BATCH) == 2
    assert value(seen, f"{name}_sum", endpoint=PREDICT_BATCH) == pytest.approx(0.03)


def test_batches_are_counted_by_size(seen: Values) -> None:
    sizes = {
        le: value(seen, "churn_batch_size_bucket", le=le)
        for le in ("1.0", "100.0", "200.0", "+Inf")
    }
    assert sizes == {"1.0": 1, "100.0": 1, "200.0": 2, "+Inf": 2}
    assert value(seen, "churn_batch_size_sum") == 201
    assert value(seen, "churn_batch_size_count") == 2


def test_every_type_of_error_is_counted_from_zero(seen: Values) -> None:
    counts = {
        kind: value(seen, "churn_prediction_errors_total", error_type=kind) for kind in STATUS
    }
    expected = {"validation": 2, "unauthorized": 1, "rate-limited": 1}
    assert counts == dict.fromkeys(STATUS, 0) | expected


def test_refusals_are_timed_where_the_time_is_known(seen: Values) -> None:
    assert value(seen, "churn_refusal_latency_seconds_count") == 2
    assert value(seen, "churn_refusal_latency_seconds_sum") == pytest.approx(0.00305)


def test_losses_of_the_prediction_log_are_counted(seen: Values) -> None:
    assert value(seen, "churn_prediction_log_dropped_total", reason="queue") == 6
    assert value(seen, "churn_prediction_log_dropped_total", reason="disk") == 64
    assert value(seen, "churn_breaker_opened_total") == 2


def test_predicted_rate_covers_all_workers(seen: Values) -> None:
    assert value(seen, "churn_predicted_rate") == pytest.approx(44 / 211, rel=1e-12)


def all_probabilities() -> list[float]:
    return [*FIRST, 0.05, *SECOND, *BATCH, 0.5]


def test_drift_covers_all_workers(seen: Values) -> None:
    served = Counter(int(np.digitize(p, CARD.scores.edges)) for p in all_probabilities())
    counts = tuple(served[number] for number in range(4))
    assert counts == (102, 2, 63, 44)
    expected = sum(
        (count / 211 - share) * math.log(count / 211 / share)
        for count, share in zip(counts, CARD.scores.shares, strict=True)
    )
    assert value(seen, "churn_model_drift_score") == pytest.approx(expected, rel=1e-12)


def test_data_quality_covers_all_checked_customers(seen: Values) -> None:
    """225 customers: 211 scored, 1 and 10 refused, 3 skipped."""
    faulty = {"complete": 2, "typed": 1, "in_range": 2, "known_fields": 3, "known_categories": 5}
    found = {
        check: value(seen, "churn_input_data_quality_score", check_type=check) for check in CHECKS
    }
    assert found == pytest.approx({c: 1 - faulty[c] / 225 for c in CHECKS}, rel=1e-12)


def test_text_is_well_formed(text: str) -> None:
    """As for `promtool check metrics`: help and type once each, units, suffixes."""
    families = list(text_string_to_metric_families(text))
    assert text.endswith("\n")
    assert len({family.name for family in families}) == len(families)
    for family in families:
        counted = family.name + "_total" if family.type == "counter" else family.name
        assert family.documentation == HELP[counted]
        assert family.documentation.endswith(".")
        assert (family.type == "counter") == (f"\n# TYPE {counted} counter\n" in "\n" + text)
        assert not counted.endswith(("_count", "_sum", "_bucket"))
        assert family.type == "counter" or not counted.endswith("_total")
        assert all("pid" not in sample.labels for sample in family.samples)
    assert {name.removesuffix("_total") for name in HELP} == {family.name for family in families}


def test_buckets_cover_the_latencies_and_batch_sizes_of_the_service() -> None:
    assert (LATENCY_BUCKETS[0], LATENCY_BUCKETS[-1]) == (0.0001, 5.0)
    assert (BATCH_BUCKETS[0], BATCH_BUCKETS[-1]) == (1, 10_000)
    for buckets in (LATENCY_BUCKETS, BATCH_BUCKETS):
        assert all(1.5 < high / low < 3 for low, high in pairwise(buckets))


def test_shares_are_nan_before_the_first_request(tmp_path: Path) -> None:
    undefined = CARD.model_copy(update={"metrics": {"accuracy": Estimate(value=None)}})
    with metrics_processes(tmp_path, 1, undefined) as (worker,):
        seen = values(scrape(tmp_path, worker))
    for name in ("churn_model_drift_score", "churn_predicted_rate", "churn_model_accuracy"):
        assert math.isnan(value(seen, name))
    for check in CHECKS:
        assert math.isnan(value(seen, "churn_input_data_quality_score", check_type=check))
    labels = {"model_version": "7", "endpoint": PREDICT, "risk_category": "high"}
    assert value(seen, "churn_predictions_total", **labels) == 0


def test_drift_needs_enough_customers_of_all_workers(tmp_path: Path) -> None:
    with metrics_processes(tmp_path, 2) as (one, other):
        one.predict(*[0.3] * (LEAST_FOR_DRIFT // 2))
        other.predict(*[0.3] * (LEAST_FOR_DRIFT // 2 - 1))
        other.call("before_scrape")
        below = values(scrape(tmp_path, one))
        one.predict(0.3)
        at = values(scrape(tmp_path, one))
        one.predict(0.3)
        above = values(scrape(tmp_path, one))
    assert math.isnan(value(below, "churn_model_drift_score"))
    expected = CARD.scores.stability_index((0, 0, LEAST_FOR_DRIFT, 0))
    assert value(at, "churn_model_drift_score") == expected
    assert value(above, "churn_model_drift_score") == expected


def test_windows_hold_the_last_thousand_customers_of_each_worker(tmp_path: Path) -> None:
    with metrics_processes(tmp_path, 2) as (one, other):
        other.predict_batch([0.9] * 500 + [0.0] * WINDOW)
        other.call("before_scrape")
        one.predict(*[0.9] * WINDOW)
        full = values(scrape(tmp_path, one))
        one.predict(0.0)
        beyond = values(scrape(tmp_path, one))
    assert value(full, "churn_predicted_rate") == 0.5
    assert value(beyond, "churn_predicted_rate") == 999 / 2000


def test_counters_of_other_workers_are_current_and_their_windows_less_than_a_second_late(
    tmp_path: Path,
) -> None:
    with metrics_processes(tmp_path, 2) as (busy, scraped):
        busy.predict(0.9)
        early = values(scrape(tmp_path, scraped))
        time.sleep(0.7)
        late = values(scrape(tmp_path, scraped))
        busy.predict(0.1)
        time.sleep(0.7)
        again = values(scrape(tmp_path, scraped))
    assert value(early, "churn_high_risk_customers_total") == 1
    assert math.isnan(value(early, "churn_predicted_rate"))
    assert value(late, "churn_predicted_rate") == 1
    assert value(again, "churn_predicted_rate") == 0.5


@pytest.mark.parametrize("reaped", [False, True])
def test_killed_worker_keeps_its_counts_and_leaves_the_shares(tmp_path: Path, reaped: bool) -> None:
    with metrics_processes(tmp_path, 2) as (victim, survivor):
        victim.predict(*[0.9] * 300)
        victim.call("before_scrape")
        survivor.predict(0.9, 0.1)
        before = values(scrape(tmp_path, survivor))
        os.kill(victim.process.pid, signal.SIGKILL)
        # A killed process is a zombie until its parent waits for it.
        waited = os.WEXITED if reaped else os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, victim.process.pid, waited)
        with metrics_processes(tmp_path, 1) as (successor,):
            successor.predict(0.1)
            successor.call("before_scrape")
            after = values(scrape(tmp_path, survivor))
    assert value(before, "churn_predicted_rate") == pytest.approx(301 / 302)
    assert value(after, "churn_predicted_rate") == pytest.approx(1 / 3)
    assert math.isnan(value(after, "churn_model_drift_score"))
    assert value(after, "churn_high_risk_customers_total") == 301
    assert not list(tmp_path.glob(f"gauge_live*_{victim.process.pid}.db"))
    assert list(tmp_path.glob(f"counter_{victim.process.pid}.db"))


def test_worker_with_the_process_id_of_a_dead_one_starts_with_empty_windows(tmp_path: Path) -> None:
    """Process ids are reused; then `prometheus_client` continues in the old files."""
    with metrics_processes(tmp_path, 1) as (dead,):
        dead.predict(*[0.9] * 300)
        dead.call("before_scrape")
    heir = MetricsProcess(tmp_path, before=INHERIT)
    try:
        untouched = values(collected(tmp_path))
        heir.predict(0.1)
        seen = values(scrape(tmp_path, heir))
    finally:
        heir.close()
    assert not any(count for (name, _), count in untouched.items() if name == SCORED)
    assert value(seen, "churn_predicted_rate") == 0
    assert value(seen, "churn_high_risk_customers_total") == 300
    assert len(list(tmp_path.glob("counter_*.db"))) == 1


def test_disk_space_for_the_metrics_is_reserved_at_the_start(tmp_path: Path) -> None:
    """A process is killed if it writes to a mapped file for which the disk has no room."""
    with metrics_processes(tmp_path, 1):
        files = [file.stat() for file in tmp_path.glob("*.db")]
    assert len(files) == 4
    assert all(file.st_blocks * 512 >= RESERVED_BYTES for file in files)
