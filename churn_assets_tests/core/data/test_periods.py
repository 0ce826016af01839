from collections.abc import Mapping, Sequence

import pytest

from churn_assets.core.data.periods import choose_periods, training_periods_complete

KNOWN = ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05"]
FAILED = "churn_labels: every_id_known of the month"


def chosen(
    *,
    features: Sequence[str] = KNOWN,
    labels: Sequence[str] = KNOWN,
    shut: Sequence[str] = (),
    most: int = 12,
) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    tables = {"features": features, "labels": labels}
    periods = choose_periods(KNOWN, tables, {month: [FAILED] for month in shut}, most)
    return periods.used, periods.left_out


@pytest.mark.parametrize(("most", "used"), [(4, KNOWN[1:]), (5, KNOWN), (6, KNOWN)])
def test_the_latest_periods_are_used(most: int, used: list[str]) -> None:
    assert chosen(most=most) == (tuple(used), {})


@pytest.mark.parametrize("stored", [KNOWN, ["2026-01", "2026-02", "2026-04", "2026-05"]])
def test_a_period_with_a_failed_check_is_left_out_whether_published_or_not(
    stored: list[str],
) -> None:
    used, left_out = chosen(features=stored, shut=["2026-03"])
    assert used == ("2026-01", "2026-02", "2026-04", "2026-05")
    assert left_out == {"2026-03": (FAILED,)}


@pytest.mark.parametrize("month", ["2026-01", "2026-05"])
def test_the_first_and_the_last_period_can_be_left_out(month: str) -> None:
    used, left_out = chosen(shut=[month])
    assert used == tuple(other for other in KNOWN if other != month)
    assert left_out == {month: (FAILED,)}


@pytest.mark.parametrize(
    ("most", "used", "left_out"),
    [
        (2, ["2026-04", "2026-05"], []),
        (3, ["2026-02", "2026-04", "2026-05"], ["2026-03"]),
        (5, ["2026-01", "2026-02", "2026-04", "2026-05"], ["2026-03"]),
    ],
)
def test_a_failed_period_before_the_window_is_not_missed(
    most: int, used: list[str], left_out: list[str]
) -> None:
    assert chosen(shut=["2026-03"], most=most) == (tuple(used), dict.fromkeys(left_out, (FAILED,)))


def test_a_period_between_two_others_that_never_came_is_named_with_its_tables() -> None:
    used, left_out = chosen(features=["2026-02", "2026-05"], labels=["2026-02", "2026-03"])
    assert (used, left_out) == (("2026-02",), {})
    used, left_out = chosen(
        features=["2026-02", "2026-05"], labels=["2026-02", "2026-03", "2026-05"]
    )
    assert used == ("2026-02", "2026-05")
    assert left_out == {
        "2026-03": ("features was never materialised",),
        "2026-04": ("features was never materialised", "labels was never materialised"),
    }


def test_a_period_may_come_before_or_after_all_others() -> None:
    assert chosen(labels=KNOWN[1:4]) == (tuple(KNOWN[1:4]), {})


def test_without_a_usable_period_the_failed_ones_are_named() -> None:
    assert chosen(shut=["2026-02"], labels=[]) == ((), {"2026-02": (FAILED,)})
    assert chosen(features=[]) == ((), {})


def test_the_check_passes_where_no_period_is_left_out() -> None:
    verdict = training_periods_complete(choose_periods(KNOWN, {"features": KNOWN}, {}, 12))
    assert verdict.passed
    assert verdict.numbers == {"periods": 5, "periods_used": 5}
    assert verdict.description == (
        "5 of 5 periods from 2026-01 to 2026-05 are in the training set."
    )


def test_the_check_names_each_period_that_is_left_out_with_every_reason() -> None:
    shut = {"2026-02": ["first reason", "second reason"]}
    verdict = training_periods_complete(choose_periods(KNOWN, {"features": KNOWN}, shut, 12))
    assert not verdict.passed
    assert verdict.description == (
        "4 of 5 periods from 2026-01 to 2026-05 are in the training set; left out:"
        "\n  - 2026-02: first reason\n  - 2026-02: second reason"
    )
    assert verdict.numbers == {"periods": 5, "periods_used": 4}
