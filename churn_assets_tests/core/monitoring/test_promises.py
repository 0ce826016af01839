"""States of a month's promise, at every limit."""

from datetime import UTC, datetime, timedelta

import pytest

from churn_assets.core.monitoring.promises import Promise, State, judge

DEADLINE = datetime(2026, 9, 3, 6, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
EARLY, LATE = DEADLINE - DAY, DEADLINE + 5 * DAY
DUE = "2026-09-03 06:00 UTC"


RAW, DELIVERED = "raw_customers", "customer_deliveries"


def promise(made: datetime | None, *inputs: datetime | None, first: str = RAW) -> Promise:
    names = (first, "customer_scores")
    times = dict(zip(names, inputs, strict=False))
    return Promise(made, times, [DELIVERED], DEADLINE, time_to_follow=DAY)


@pytest.mark.parametrize(
    ("made", "inputs", "now", "state"),
    [
        # There, in time or late: the promise is kept, also after an input was wiped.
        (EARLY, [EARLY - SECOND], LATE, "kept"),
        (EARLY, [EARLY], LATE, "kept"),
        (LATE, [EARLY], LATE, "kept"),
        (EARLY, [None], LATE, "kept"),
        # Not there, with its input: below, at and above the deadline.
        (None, [EARLY], DEADLINE - SECOND, "not_due"),
        (None, [EARLY], DEADLINE, "overdue"),
        (None, [EARLY], DEADLINE + SECOND, "overdue"),
        # An input that came late leaves a day.
        (None, [LATE], LATE + DAY - SECOND, "not_due"),
        (None, [LATE], LATE + DAY, "overdue"),
        # The newest input counts.
        (None, [EARLY, LATE], LATE + DAY - SECOND, "not_due"),
        # Without its input it cannot be there: the input is late.
        (None, [None], DEADLINE - SECOND, "not_due"),
        (None, [None], DEADLINE, "waiting"),
        (None, [EARLY, None], DEADLINE, "waiting"),
        (None, [LATE, None], LATE + DAY - SECOND, "not_due"),
        (None, [LATE, None], LATE + DAY, "waiting"),
        # Older than an input.
        (EARLY, [EARLY + SECOND], DEADLINE - SECOND, "not_due"),
        (EARLY, [EARLY + SECOND], DEADLINE + SECOND, "overdue"),
        (EARLY, [LATE], LATE + DAY - SECOND, "not_due"),
        (EARLY, [LATE], LATE + DAY, "overdue"),
    ],
)
def test_the_state_of_a_month(
    made: datetime | None, inputs: list[datetime | None], now: datetime, state: State
) -> None:
    assert promise(made, *inputs).state(now) == state


def test_where_the_source_does_not_deliver_the_asset_is_what_is_late() -> None:
    one = promise(None, None, first=DELIVERED)
    assert one.state(DEADLINE - SECOND) == "not_due"
    assert one.state(DEADLINE) == "overdue"
    assert "the source did not deliver it (customer_deliveries)" in one.explain(DEADLINE)
    assert one.explain(DEADLINE, "it cannot be read").endswith("UTC: it cannot be read")


@pytest.mark.parametrize(
    ("one", "cause", "text"),
    [
        (promise(EARLY, EARLY), "", ""),
        (promise(None, LATE), "", ""),
        (promise(None, None), "", f"not there by {DUE}: it waits for raw_customers"),
        (promise(None, EARLY), "", f"not there by {DUE}: every input is there"),
        (promise(None, EARLY), "stopped by rows_present (0 rows)",
         f"not there by {DUE}: stopped by rows_present (0 rows)"),
        (promise(EARLY, EARLY + SECOND), "",
         f"older than raw_customers by {DUE}: every input is there"),
    ],
)  # fmt: skip
def test_the_text_says_what_is_late_and_why(one: Promise, cause: str, text: str) -> None:
    assert one.explain(LATE, cause) == text


@pytest.mark.parametrize(
    ("states", "texts", "outcome", "says"),
    [
        ({"2026-07": "kept", "2026-08": "kept"}, {}, "passed", "is there"),
        ({"2026-07": "kept", "2026-08": "not_due"}, {}, "passed", "is there"),
        ({"2026-08": "not_due"}, {}, "not judged", "no month was due yet"),
        ({}, {}, "not judged", "no month was due yet"),
        ({"2026-07": "kept", "2026-08": "overdue"}, {"2026-08": "not there"},
         "failed", "2026-08 is not there."),
        ({"2026-08": "waiting"}, {"2026-08": "not there"}, "failed", "2026-08 is not there."),
    ],
)  # fmt: skip
def test_the_verdict_names_the_months_that_are_late(
    states: dict[str, State], texts: dict[str, str], outcome: str, says: str
) -> None:
    verdict = judge(states, texts)
    assert verdict.outcome == outcome
    assert says in verdict.description
    assert verdict.numbers["months_late"] == (", ".join(texts) or "none")
