"""Served traffic: deduplication, read positions, customer ids, and the limit of bad lines."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.traffic import (
    ORIGIN,
    ReadPosition,
    Window,
    as_traffic,
    merge_predictions,
    merge_rejected_lines,
    predictions_readable,
    read_positions,
    traffic_dtypes,
    truncated_lines,
    with_customers,
)
from churn_assets_tests.core.typed_rows import TEXT

CONTRACT = load_contract("telecom")
KEY = bytes(range(32))


def traffic(*ids: str, file: str = "a", end: int = 10, customer: str = "x") -> pd.DataFrame:
    rows = pd.DataFrame({"prediction_id": ids, "file": file, "end": end, "customer": customer})
    rows["time"] = pd.date_range("2026-03-01", periods=len(rows), tz="UTC")
    return as_traffic(rows, CONTRACT, "2026-02")


def test_the_window_of_a_month_is_the_calendar_month_after_it() -> None:
    window = Window.after("2025-12")
    assert window.start is not None
    assert window.end is not None
    assert window.start.isoformat() == "2026-01-01T00:00:00+00:00"
    assert window.end.isoformat() == "2026-02-01T00:00:00+00:00"


def test_repeated_predictions_are_merged_and_the_first_is_kept() -> None:
    held = traffic("p1", "p2")
    rows = merge_predictions(held, traffic("p2", "p3", "p3", file="copy"))
    assert sorted(rows["prediction_id"]) == ["p1", "p2", "p3"]
    assert rows.set_index("prediction_id")["file"].to_dict() == {"p1": "a", "p2": "a", "p3": "copy"}
    assert rows.dtypes.to_dict() == traffic_dtypes(CONTRACT)
    pd.testing.assert_frame_equal(merge_predictions(rows, traffic()), rows)


def test_stored_rows_without_an_origin_have_an_empty_one() -> None:
    old = traffic("p1", "p2").drop(columns=list(ORIGIN))
    partly = traffic("p3").assign(role=pd.array([None], dtype=TEXT))
    rows = as_traffic(pd.concat([old, partly], ignore_index=True), CONTRACT, "2026-02")
    assert (rows[list(ORIGIN)] == "").all(axis=None)
    assert rows.dtypes.to_dict() == traffic_dtypes(CONTRACT)


def test_the_read_position_is_after_the_last_stored_line() -> None:
    held = pd.concat([traffic("p1", end=10), traffic("p2", end=30), traffic("p3", file="b", end=7)])
    first = datetime(2026, 3, 1, tzinfo=UTC)
    assert read_positions(held) == {"a": ReadPosition(30, first), "b": ReadPosition(7, first)}
    assert read_positions(traffic()) == {}


def test_rejected_lines_are_kept_once() -> None:
    new = pd.DataFrame({"file": ["a", "b"], "line": ["x", "y"], "reason": ["no", "no"]})
    held = merge_rejected_lines(pd.DataFrame(), new.head(1), "2026-02")
    kept = merge_rejected_lines(held, new, "2026-02")
    assert kept["line"].tolist() == ["x", "y"]
    assert set(kept["month"]) == {"2026-02"}


def test_customers_are_matched_by_their_pseudonyms() -> None:
    features = pd.DataFrame({"customer_id": pd.array(["C1", "C2"], dtype=TEXT)})
    rows = traffic("p1", customer=pseudonym(KEY, "customer_id", "C2"))
    assert with_customers(rows, features, CONTRACT, KEY)["customer_id"].tolist() == ["C2"]
    for key in (None, bytes(16)):
        assert with_customers(rows, features, CONTRACT, key)["customer_id"].isna().all()


def test_customers_matched_with_an_earlier_key_are_kept() -> None:
    features = pd.DataFrame({"customer_id": pd.array(["C1", "C2"], dtype=TEXT)})
    other = bytes(16)
    old, new = (traffic("p1", customer=pseudonym(k, "customer_id", "C2")) for k in (KEY, other))
    rows = with_customers(old, features, CONTRACT, KEY)
    rows = with_customers(pd.concat([rows, new], ignore_index=True), features, CONTRACT, other)
    assert rows["customer_id"].tolist() == ["C2", "C2"]
    assert with_customers(rows, features, CONTRACT, None).equals(rows)


def test_a_long_line_is_truncated() -> None:
    rejected = pd.DataFrame({"line": pd.array(["x" * 10**6, "y"], dtype=TEXT)})
    assert truncated_lines(rejected)["line"].str.len().tolist() == [500, 1]


@pytest.mark.parametrize(("invalid", "passed"), [(0, True), (9, True), (10, True), (11, False)])
def test_a_few_lines_may_be_unreadable(invalid: int, passed: bool) -> None:
    rejected = pd.DataFrame({"line": ["x"] * invalid, "reason": ["Invalid JSON"] * invalid})
    verdict = predictions_readable(10_000 - invalid, rejected, Limits())
    assert verdict.passed is passed
    assert verdict.numbers["value"] == invalid / 10_000
    assert verdict.numbers["limit"] == 0.001
    assert ("Invalid JSON" in verdict.description) is bool(invalid)


def test_an_empty_log_is_readable() -> None:
    assert predictions_readable(0, pd.DataFrame({"reason": []}), Limits()).passed
