"""Parser of prediction log lines: a line is parsed or rejected with a reason, never lost."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.loading import load_contract
from churn_assets.core.scoring.log_lines import Lines, Parsed, parse_again, parse_lines
from churn_assets.core.scoring.traffic import Window
from churn_assets_tests.bentos import customers

CONTRACT = load_contract("telecom")
WINDOW = Window.after("2026-02")
BEFORE = datetime(2026, 3, 1, tzinfo=UTC)
PERSONAL = ("age", "gender", "location")


def line(number: int, **changes: Any) -> bytes:
    [body] = customers(1)
    features = {name: value for name, value in body.items() if name != "customer_id"}
    fields = {
        "prediction_id": f"p{number}", "time": "2026-03-05T12:00:00.250000Z",
        "endpoint": "/predict", "key_id": "", "trace_id": "", "model_version": "3",
        "degraded": False, "churn_probability": 0.1, "customer": "c" * 32,
        "features": features | dict.fromkeys(PERSONAL, "f" * 32),
    }  # fmt: skip
    return json.dumps(fields | changes, separators=(",", ":")).encode()


def parsed(*lines: bytes, window: Window = WINDOW, **options: Any) -> Parsed:
    return parse_lines([Lines("a", 0, lines, **{"before": BEFORE} | options)], CONTRACT, window)


def ids(found: Parsed) -> list[str]:
    return found.rows["prediction_id"].tolist()


def with_feature(name: str, value: Any) -> bytes:
    features = json.loads(line(1))["features"]
    return line(1, features=features | {name: value})


def test_a_row_has_the_fields_and_the_position_of_the_line() -> None:
    found = parsed(line(1), line(2, degraded=True))
    row = found.rows.iloc[1]
    assert ids(found) == ["p1", "p2"]
    assert row["time"].isoformat() == "2026-03-05T12:00:00.250000+00:00"
    assert (row["degraded"], row["model_version"], row["age"]) == (True, "3", "f" * 32)
    assert (row["file"], row["end"]) == ("a", len(line(1)) + len(line(2, degraded=True)) + 2)
    assert found.rejected.empty


def test_a_row_has_the_origin_of_the_line_and_an_old_line_has_none() -> None:
    origin = {"pod": "churn-1", "release": "churn", "template_hash": "abc", "role": "canary"}
    found = parsed(line(1, **origin), line(2))
    assert found.rows[list(origin)].to_numpy().tolist() == [list(origin.values()), [""] * 4]
    assert found.rejected.empty


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"no json", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (line(1, churn_probability=1.5), "churn_probability: Input should be less than"),
        (line(1, churn_probability=float("nan")), "churn_probability"),
        (line(1, time="yesterday"), "time: Input should be a valid datetime"),
        (line(1, time="2026-03-05T12:00:00"), "time: Input should have timezone info"),
        (line(1, time="0001-01-01T00:00:00Z"), "time: Input should be greater than or equal"),
        (line(1, time="9999-12-31T23:59:59Z"), "time: Input should be less than"),
        (b"[" * 10_000, "Invalid JSON: recursion limit"),
        (line(1, prediction_id=""), "prediction_id: String should have at least 1"),
        (line(1, role=1), "role: Input should be a valid string"),
        (line(1, degraded="no"), "degraded: Input should be a valid boolean"),
        (line(1, features={}), "features: age: Field required"),
        (with_feature("tenure", "12"), "features: tenure: Input should be a valid integer"),
        (with_feature("tenure", 10**30), "features: tenure: "),
        (with_feature("avg_data_usage", 1e300), "features: avg_data_usage: "),
        (with_feature("age", 34), "features: age: Input should be a valid string"),
        (line(1)[:200], "Invalid JSON: EOF"),
        (b"\0" * 50, "Invalid JSON"),
        (b'{"prediction_id":"\xff"}', "Invalid JSON"),
    ],
)
def test_an_invalid_line_is_rejected_with_the_reason(bad: bytes, reason: str) -> None:
    found = parsed(line(8), bad, line(9))
    assert ids(found) == ["p8", "p9"]
    [kept] = found.rejected.to_dict("records")
    assert kept["line"] == bad.decode("utf-8", "backslashreplace")
    assert reason in kept["reason"]


@given(st.integers(1, len(line(1)) - 1))
@settings(deadline=None, max_examples=30)
def test_a_line_after_half_a_line_is_not_lost(cut: int) -> None:
    found = parsed(line(1)[:cut] + line(2), b"\0" * cut + line(3))
    assert ids(found) == ["p2", "p3"]
    assert found.rejected["line"].tolist() == [line(1)[:cut].decode(), "\0" * cut]


def test_an_incomplete_last_line_is_not_rejected() -> None:
    found = parsed(line(1)[:99], complete=False)
    assert (ids(found), len(found.rejected), found.unfinished) == ([], 0, 1)
    assert ids(parsed(line(1), complete=False)) == ["p1"]
    assert parsed(line(1), complete=False).rows["end"].tolist() == [len(line(1))]


def test_blank_lines_are_ignored() -> None:
    found = parsed(b"", b"  ", line(1), b"")
    assert ids(found) == ["p1"]
    assert found.rejected.empty


@pytest.mark.parametrize(
    ("time", "held"),
    [
        ("2026-02-28T23:59:59.999999Z", False),
        ("2026-03-01T00:00:00Z", True),
        ("2026-03-01T00:30:00+01:00", False),
        ("2026-03-31T23:59:59.999999Z", True),
        ("2026-04-01T00:00:00Z", False),
    ],
)
def test_a_prediction_belongs_to_one_month_by_utc(time: str, held: bool) -> None:
    assert ids(parsed(line(1, time=time))) == (["p1"] if held else [])
    assert ids(parsed(line(1, time=time), window=Window())) == ["p1"]


def test_an_invalid_line_gets_the_time_of_the_line_before_it() -> None:
    later = line(2, time="2026-04-02T00:00:00Z")
    for month, expected in (("2026-02", ["first", "march"]), ("2026-03", ["april"])):
        found = parsed(b"first", line(1), b"march", later, b"april", window=Window.after(month))
        assert found.rejected["line"].tolist() == expected
    earlier = datetime(2026, 2, 27, tzinfo=UTC)
    for before, expected in ((BEFORE, ["bad"]), (earlier, [])):
        assert parsed(b"bad", before=before).rejected["line"].tolist() == expected


def test_rejected_lines_are_parsed_again() -> None:
    found = parsed(b"bad", line(1)[:50])
    again = parse_again(found.rejected, CONTRACT, WINDOW)
    assert again.rejected["line"].tolist() == found.rejected["line"].tolist()
    repaired = found.rejected.assign(line=["bad", line(1).decode()])
    again = parse_again(repaired, CONTRACT, WINDOW)
    assert (ids(again), len(again.rejected)) == (["p1"], 1)
    assert again.rows["end"].tolist() == [0], "the position in the file is unknown"
    both = parsed(line(2), b"bad") + again
    assert (ids(both), len(both.rejected)) == (["p2", "p1"], 1)


def test_a_line_with_invalid_utf_8_never_becomes_a_prediction() -> None:
    broken = line(1, endpoint="/é").replace(b"\\u00e9", b"\xc3")
    found = parsed(broken)
    assert (ids(found), len(found.rejected)) == ([], 1)
    assert ids(parse_again(found.rejected, CONTRACT, WINDOW)) == []


def test_a_repeated_rejected_line_is_kept_once() -> None:
    assert len(parsed(b"bad", b"bad", b"worse").rejected) == 2


def test_a_feature_may_have_any_name() -> None:
    names = {"tenure": "time", "usage_days": "model_fields", "late_payments": "file"}
    columns = [c.model_copy(update={"name": names.get(c.name, c.name)}) for c in CONTRACT.columns]
    contract = CONTRACT.model_copy(update={"columns": tuple(columns)})
    original = json.loads(line(1))["features"]
    features = {names.get(name, name): value for name, value in original.items()}
    found = parse_lines([Lines("a", 0, [line(1, features=features)], BEFORE)], contract, WINDOW)
    row = found.rows.iloc[0]
    assert row["time_of_customer"] == original["tenure"]
    assert row["file_of_customer"] == original["late_payments"]
    assert row["model_fields"] == original["usage_days"]
    assert row["file"] == "a"
