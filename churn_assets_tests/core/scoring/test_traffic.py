"""Served traffic: each prediction once, known customers by name, and the limit of what is read."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.traffic import (
    Place,
    Window,
    as_traffic,
    each_line_once,
    each_once,
    places,
    predictions_readable,
    shortened,
    traffic_dtypes,
    with_customers,
)
from churn_assets_tests.core.typed_rows import TEXT

CONTRACT = load_contract("telecom")
KEY = bytes(range(32))


def traffic(*ids: str, file: str = "a", end: int = 10, customer: str = "x") -> pd.DataFrame:
    rows = pd.DataFrame({"prediction_id": ids, "file": file, "end": end, "customer": customer})
    rows["time"] = pd.date_range("2026-03-01", periods=len(rows), tz="UTC")
    return as_traffic(rows, CONTRACT, "2026-02")


def test_a_month_is_that_in_which_it_was_the_latest_closed_one() -> None:
    window = Window.after("2025-12")
    assert window.start is not None
    assert window.end is not None
    assert window.start.isoformat() == "2026-01-01T00:00:00+00:00"
    assert window.end.isoformat() == "2026-02-01T00:00:00+00:00"


def test_predictions_count_once_and_the_first_reading_stands() -> None:
    held = traffic("p1", "p2")
    rows = each_once(held, traffic("p2", "p3", "p3", file="copy"))
    assert sorted(rows["prediction_id"]) == ["p1", "p2", "p3"]
    assert rows.set_index("prediction_id")["file"].to_dict() == {"p1": "a", "p2": "a", "p3": "copy"}
    assert rows.dtypes.to_dict() == traffic_dtypes(CONTRACT)
    pd.testing.assert_frame_equal(each_once(rows, traffic()), rows)


def test_a_file_is_read_on_from_its_last_line() -> None:
    held = pd.concat([traffic("p1", end=10), traffic("p2", end=30), traffic("p3", file="b", end=7)])
    first = datetime(2026, 3, 1, tzinfo=UTC)
    assert places(held) == {"a": Place(30, first), "b": Place(7, first)}
    assert places(traffic()) == {}


def test_rejected_lines_are_kept_once() -> None:
    read = pd.DataFrame({"file": ["a", "b"], "line": ["x", "y"], "reason": ["no", "no"]})
    held = each_line_once(pd.DataFrame(), read.head(1), "2026-02")
    kept = each_line_once(held, read, "2026-02")
    assert kept["line"].tolist() == ["x", "y"]
    assert set(kept["month"]) == {"2026-02"}


def test_customers_are_found_by_their_pseudonyms() -> None:
    features = pd.DataFrame({"customer_id": pd.array(["C1", "C2"], dtype=TEXT)})
    rows = traffic("p1", customer=pseudonym(KEY, "customer_id", "C2"))
    assert with_customers(rows, features, CONTRACT, KEY)["customer_id"].tolist() == ["C2"]
    for key in (None, bytes(16)):
        assert with_customers(rows, features, CONTRACT, key)["customer_id"].isna().all()


def test_who_was_known_by_an_earlier_key_stays_known() -> None:
    features = pd.DataFrame({"customer_id": pd.array(["C1", "C2"], dtype=TEXT)})
    other = bytes(16)
    old, new = (traffic("p1", customer=pseudonym(k, "customer_id", "C2")) for k in (KEY, other))
    rows = with_customers(old, features, CONTRACT, KEY)
    rows = with_customers(pd.concat([rows, new], ignore_index=True), features, CONTRACT, other)
    assert rows["customer_id"].tolist() == ["C2", "C2"]
    assert with_customers(rows, features, CONTRACT, None).equals(rows)


def test_a_long_line_is_shown_by_its_beginning() -> None:
    rejected = pd.DataFrame({"line": pd.array(["x" * 10**6, "y"], dtype=TEXT)})
    assert shortened(rejected)["line"].str.len().tolist() == [500, 1]


@pytest.mark.parametrize(("unread", "passed"), [(0, True), (9, True), (10, True), (11, False)])
def test_a_few_lines_may_be_unreadable(unread: int, passed: bool) -> None:
    rejected = pd.DataFrame({"line": ["x"] * unread, "reason": ["Invalid JSON"] * unread})
    verdict = predictions_readable(10_000 - unread, rejected, Limits())
    assert verdict.passed is passed
    assert verdict.numbers["value"] == unread / 10_000
    assert verdict.numbers["limit"] == 0.001
    assert ("Invalid JSON" in verdict.description) is bool(unread)


def test_no_lines_are_readable() -> None:
    assert predictions_readable(0, pd.DataFrame({"reason": []}), Limits()).passed
