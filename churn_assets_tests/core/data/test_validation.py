import json
from typing import Any

import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.loading import contract_of, load_contract
from churn_assets.contracts.schemas import feature_schema
from churn_assets.core.data.validation import validate
from churn_assets_tests.core.raw_rows import GOOD, raw

TELECOM = load_contract("telecom")


def reasons(*changes: dict[str, Any]) -> dict[str, list[tuple[str, str | None, str]]]:
    quarantined = validate(raw(*changes), TELECOM, "2026-01").quarantined
    return {
        name: [(r["column"], r["value"], r["rule"]) for r in json.loads(text)]
        for name, text in zip(quarantined["customer_id"], quarantined["reasons"], strict=True)
    }


def test_good_rows_are_accepted_typed_and_with_derived_features() -> None:
    validation = validate(raw({}, {"avg_call_minutes": ""}), TELECOM, "2026-01")
    assert validation.quarantined.empty
    row = validation.accepted.iloc[0]
    assert (row["age"], row["avg_data_usage"], row["month"]) == (30, 3.5, "2026-01")
    assert row["charges_per_gigabyte"] == 35.5 / 3.5
    assert pd.isna(validation.accepted["avg_call_minutes"][1])
    feature_schema(TELECOM).validate(validation.accepted)


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("age", "17", "must be whole number from 18 up to 110"),
        ("age", "111", "must be whole number from 18 up to 110"),
        ("age", "30,5", "must be a number"),
        ("age", "", "must not be null"),
        ("tenure", "-1", "must be whole number from 0 up to 720"),
        ("usage_days", "2.5", "must be a whole number"),
        ("avg_data_usage", "+Inf", "must be a number"),
        ("avg_data_usage", "NaN", "must be a number"),
        ("avg_data_usage", "1e300", "must lie within 1e+15 of zero"),
        ("avg_data_usage", "2024-01-01", "must be a number"),
        ("gender", "male", "must be one of Male, Female, Other"),
        ("gender", None, "must not be null"),
        ("location", "x" * 300, "must be text of 1 to 100 characters"),
    ],
)
def test_a_broken_value_is_named_with_its_rule(column: str, value: str | None, rule: str) -> None:
    shown = value[:80] if value else value
    assert reasons({column: value}) == {"c0": [(column, shown, rule)]}


def test_a_row_carries_every_rule_it_broke() -> None:
    found = reasons({"age": "17", "gender": "?", "tenure": "x"}, {})
    assert {column for column, _, _ in found["c0"]} == {"age", "gender", "tenure"}
    assert set(found) == {"c0"}


def test_the_last_row_of_a_repeated_id_is_kept() -> None:
    validation = validate(
        raw({"customer_id": "a", "age": "30"}, {"customer_id": "a", "age": "40"}),
        TELECOM,
        "2026-01",
    )
    assert validation.accepted["age"].tolist() == [40]
    assert validation.quarantined["source_row"].tolist() == [0]
    assert "a later row has the same" in validation.quarantined["reasons"][0]


def test_a_superseded_row_does_not_come_back_when_the_last_one_is_broken() -> None:
    validation = validate(
        raw({"customer_id": "a"}, {"customer_id": "a", "age": "1"}), TELECOM, "2026-01"
    )
    assert validation.accepted.empty
    assert len(validation.quarantined) == 2


def test_source_order_decides_not_the_order_of_storage() -> None:
    rows = raw({"customer_id": "a", "age": "30"}, {"customer_id": "a", "age": "40"})[::-1]
    assert validate(rows, TELECOM, "2026-01").accepted["age"].tolist() == [40]


def test_the_summary_counts_rows_by_rule() -> None:
    validation = validate(raw({"age": "1"}, {"age": "2"}, {"gender": "?"}), TELECOM, "2026-01")
    summary = validation.failures_by_rule()
    assert summary[["column", "rows", "example"]].to_numpy().tolist() == [
        ["age", 2, "1"], ["gender", 1, "?"],
    ]  # fmt: skip
    assert validation.quarantined_share == 1.0


def test_an_empty_snapshot_gives_empty_tables() -> None:
    validation = validate(raw(), TELECOM, "2026-01")
    assert (len(validation.accepted), len(validation.quarantined)) == (0, 0)
    assert validation.quarantined_share == 0.0


def test_checks_that_a_contract_adds_are_applied() -> None:
    class Stricter(TELECOM.model):  # type: ignore[name-defined, misc]
        """Telecom with two more rules."""

        @pa.check("location")
        def not_nowhere(cls, values: pd.Series) -> pd.Series:  # noqa: N805
            return values != "Nowhere"

        @pa.dataframe_check
        def payers_use_it(cls, frame: pd.DataFrame) -> pd.Series:  # noqa: N805
            return (frame["usage_days"] > 0) | (frame["late_payments"] == 0)

    contract = contract_of(Stricter, "stricter")
    rows = raw({}, {"location": "Nowhere"}, {"usage_days": "0", "late_payments": "3"})
    found = validate(rows, contract, "2026-01").quarantined
    assert [json.loads(text)[0]["column"] for text in found["reasons"]] == ["location", "(row)"]
    assert [json.loads(text)[0]["rule"] for text in found["reasons"]] == [
        "must pass not_nowhere", "must pass payers_use_it",
    ]  # fmt: skip


VALUES = st.sampled_from(
    ["", " ", "NaN", "inf", "-1", "5", "1e300", "x" * 300, "Male", "12,5", "2024-01-01", "😀", None]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES, max_size=4), max_size=6))
def test_every_row_is_accepted_or_quarantined_with_reasons_and_none_is_lost(
    changes: list[dict[str, Any]],
) -> None:
    rows = raw(*changes)
    validation = validate(rows, TELECOM, "2026-01")
    assert len(validation.accepted) + len(validation.quarantined) == len(rows)
    assert all(json.loads(text) for text in validation.quarantined["reasons"])
    delivered = rows.set_index("source_row").loc[validation.quarantined["source_row"]]
    kept = validation.quarantined.set_index("source_row")[list(delivered.columns)]
    pd.testing.assert_frame_equal(kept, delivered, check_index_type=False)
    feature_schema(TELECOM).validate(validation.accepted)
