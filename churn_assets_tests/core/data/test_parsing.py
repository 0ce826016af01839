import math
import string

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contracts.contract import Column
from churn_assets.contracts.schemas import TEXT
from churn_assets.core.data.parsing import parse_column, parse_label

NUMBER = Column(name="x", source_name="x", role="feature", kind="number", description="x")
WHOLE = NUMBER.model_copy(update={"whole": True})
FLAG = NUMBER.model_copy(update={"kind": "flag"})
CATEGORY = NUMBER.model_copy(update={"kind": "category"})
CLOSED = CATEGORY.model_copy(update={"values": ("Male", "Female")})
ID = NUMBER.model_copy(update={"kind": "text", "role": "id"})
IGNORED = NUMBER.model_copy(update={"kind": "text", "role": "ignored"})


def parse(text: str | None, column: Column) -> tuple[object, list[str]]:
    values, faults = parse_column(pd.Series([text], dtype=TEXT), column)
    broken = [rule for rule, mask in faults.items() if mask[0]]
    return (None if pd.isna(values[0]) else values[0]), broken


@pytest.mark.parametrize(
    ("text", "column", "value", "broken"),
    [
        ("12", NUMBER, 12.0, []),
        (" 1e3 ", NUMBER, 1000.0, []),
        ("+.5", NUMBER, 0.5, []),
        ("-0.0", NUMBER, -0.0, []),
        ("", NUMBER, None, []),
        ("  ", NUMBER, None, []),
        (None, NUMBER, None, []),
        ("NaN", NUMBER, None, ["must be a number"]),
        ("+Inf", NUMBER, None, ["must be a number"]),
        ("12,5", NUMBER, None, ["must be a number"]),
        ("1_000", NUMBER, None, ["must be a number"]),
        ("0x10", NUMBER, None, ["must be a number"]),
        ("2024-01-31", NUMBER, None, ["must be a number"]),
        ("true", NUMBER, None, ["must be a number"]),
        ("1e15", NUMBER, 1e15, []),
        ("1.1e15", NUMBER, None, ["must lie within 1e+15 of zero"]),
        ("1e300", NUMBER, None, ["must lie within 1e+15 of zero"]),
        ("1e999", NUMBER, None, ["must lie within 1e+15 of zero"]),
        ("7.0", WHOLE, 7, []),
        ("7.5", WHOLE, None, ["must be a whole number"]),
        ("Yes", FLAG, True, []),
        ("0", FLAG, False, []),
        ("TRUE", FLAG, True, []),
        ("2", FLAG, None, ["must be true or false"]),
        ("", FLAG, None, []),
        ("1.0", FLAG, True, []),
        ("0.0", FLAG, False, []),
        ("Male", CATEGORY, "Male", []),
        (" Male", CATEGORY, None, ["must have no spaces around it"]),
        (" Male", CLOSED, " Male", []),  # not one of its values: pandera reports it
        ("0001", ID, "0001", []),
        ("0001 ", ID, None, ["must have no spaces around it"]),
        ("\t0001", ID, None, ["must have no spaces around it"]),
        (None, ID, None, []),
        (" ", ID, None, []),
        (" a ", IGNORED, " a ", []),
        ("", CATEGORY, None, []),
        (" ", CATEGORY, None, []),
    ],
)
def test_text_is_read_or_refused_never_changed(
    text: str | None, column: Column, value: object, broken: list[str]
) -> None:
    assert parse(text, column) == (value, broken)


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_every_number_reads_back_as_itself(value: float) -> None:
    read, broken = parse(repr(value), NUMBER)
    assert broken == []
    assert math.copysign(1, read) == math.copysign(1, value)  # type: ignore[arg-type]
    assert read == value


@given(st.text(string.printable, max_size=20))
def test_any_text_is_a_number_or_null_or_a_fault(text: str) -> None:
    value, broken = parse(text, NUMBER)
    assert (value is not None) + (text.strip() == "") + bool(broken) == 1


def test_an_empty_column_has_no_faults() -> None:
    values, faults = parse_column(pd.Series([], dtype=TEXT), NUMBER)
    assert values.empty
    assert not any(mask.any() for mask in faults.values())


def test_an_unreadable_label_is_a_fault_and_a_blank_one_is_unknown() -> None:
    values, faults = parse_label(pd.Series(["Yes", "no", "", "maybe"], dtype=TEXT))
    assert values.isna().tolist() == [False, False, True, True]
    assert faults["must be true or false"].tolist() == [False, False, False, True]
