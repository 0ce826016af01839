"""The windows hold the last thousand customers, in whatever batches they came."""

import math
import time
from collections import Counter, deque
from collections.abc import Mapping

import numpy as np
import pytest
from churn_service.observability.instruments import WINDOW
from churn_service.observability.rolling_counts import RollingChecks, RollingScores, shares
from churn_service.problems import CHECKS
from hypothesis import given
from hypothesis import strategies as st

from churn_assets_tests.bento.metrics_processes import CARD, values


def test_ten_thousand_customers_take_milliseconds() -> None:
    window = RollingScores(CARD.scores.edges)
    probabilities = np.random.default_rng(0).random(10_000)
    high = (probabilities >= 0.4).tolist()
    started = time.process_time()
    window.extend(probabilities, high)
    assert time.process_time() - started < 0.02  # about 0.3 ms


def test_shares_of_a_text_without_windows_are_nan() -> None:
    seen = values(shares("# HELP other Another.\n# TYPE other gauge\nother 1.0\n", CARD.scores))
    assert len(seen) == 2 + len(CHECKS)
    assert all(math.isnan(share) for share in seen.values())


SCORES = st.lists(st.tuples(st.sampled_from((0.0, 0.1, 0.15, 0.2, 0.4, 1.0)), st.booleans()))


@given(st.lists(st.tuples(SCORES, st.integers(1, 700))))
def test_rolling_scores_hold_the_last_thousand_customers(
    batches: list[tuple[list[tuple[float, bool]], int]],
) -> None:
    window, last = RollingScores(CARD.scores.edges), deque[tuple[float, bool]](maxlen=WINDOW)
    for customers, times in batches:
        repeated = customers * times
        last.extend(repeated)
        if len(repeated) == 1:
            window.add(*repeated[0])
        else:
            probabilities = np.array([p for p, _ in repeated])
            window.extend(probabilities, [will_churn for _, will_churn in repeated])
    expected = Counter(
        (str(sum(p >= edge for edge in CARD.scores.edges)), str(will_churn).lower())
        for p, will_churn in last
    )
    assert {labels: count for labels, count in window.counts().items() if count} == expected


@given(st.lists(st.tuples(st.sets(st.sampled_from(CHECKS)), st.integers(1, 400))))
def test_rolling_checks_hold_the_last_thousand_customers(
    customers: list[tuple[set[str], int]],
) -> None:
    window, last = RollingChecks(), deque[set[str]](maxlen=WINDOW)
    for faults, times in customers:
        for _ in range(times):
            window.add(1, dict.fromkeys(faults, 1))
            last.append(faults)
    counts = window.counts()
    for check in CHECKS:
        faulty = sum(check in faults for faults in last)
        assert counts[check, "false"] == faulty
        assert counts[check, "true"] == len(last) - faulty


@pytest.mark.parametrize(
    ("later", "left"),
    [(0, 40), (500, 40), (501, 40 * 499 / 500), (750, 20), (999, 0.08), (1000, 0)],
)
def test_part_of_a_batch_leaves_the_window_with_its_share_of_faults(
    later: int, left: float
) -> None:
    window = RollingChecks()
    window.add(500, {"typed": 40})
    window.add(later, {})
    assert window.counts()["typed", "false"] == pytest.approx(left, rel=1e-12)


def test_batch_larger_than_the_window_keeps_its_share_of_faults() -> None:
    window = RollingChecks()
    window.add(10_000, {"typed": 500})
    assert window.counts()["typed", "false"] == 50
    assert window.counts()["typed", "true"] == 950


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.dictionaries(st.sampled_from(CHECKS), st.floats(0, 1)))
    )
)
def test_counts_of_any_batches_sum_to_the_window(
    batches: list[tuple[int, Mapping[str, float]]],
) -> None:
    window = RollingChecks()
    for customers, faulty in batches:
        window.add(
            customers, {c: math.floor(s * customers) for c, s in faulty.items() if customers}
        )
    counts = window.counts()
    total = min(WINDOW, sum(customers for customers, _ in batches))
    for check in CHECKS:
        assert counts[check, "true"] + counts[check, "false"] == pytest.approx(total)
        assert min(counts[check, "true"], counts[check, "false"]) >= -1e-9
