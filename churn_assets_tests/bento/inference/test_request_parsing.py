"""Bodies are parsed into customers, or refused with every fault."""

import gc
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from churn_service.inference import request_parsing
from churn_service.inference.request_parsing import MOST_CUSTOMERS, RequestParser
from churn_service.problems import CHECKS, Fault, Problem
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_assets_tests.bento.expected_responses import CUSTOMER, MODEL, customer_json_with
from churn_assets_tests.bentos import CONTRACT, customers

PARSER = RequestParser(CONTRACT)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=101)
    | st.sampled_from([12, "12", 12.0, 12.5, True, "true", "Male", "", " Paris", 18, 110, 111])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(), SCALARS, max_size=2)
FIELDS = st.sampled_from([*CUSTOMER, "nonsense", "a/b~c", ""])


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A customer with other values in some fields, and with some fields missing."""
    body: dict[str, Any] = CUSTOMER | draw(st.dictionaries(FIELDS, VALUES, max_size=3))
    for name in draw(st.sets(st.sampled_from(list(CUSTOMER)), max_size=2)):
        del body[name]
    return body


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        PARSER.parse_customer(body)
    return caught.value


def resolve(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer, by RFC 6901."""
    assert pointer == "" or pointer.startswith("/")
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key) if isinstance(document, list) else key]
    return document


def assert_fault_matches(fault: Fault, document: Any) -> None:
    """A fault has the pointer and the value of a field, or the pointer of a missing field."""
    assert fault.check in CHECKS
    assert fault.detail
    parent, _, name = fault.pointer.rpartition("/")
    container = resolve(document, parent)
    if fault.pointer and name in CUSTOMER and name not in container:
        assert (fault.check, fault.value) == ("complete", None)
    else:
        value = resolve(document, fault.pointer)
        if isinstance(value, str):
            assert fault.value == value[:100] + "…" * (len(value) > 100)
        elif isinstance(value, list | dict) or (
            not isinstance(value, bool | None) and abs(value) > 1e18
        ):
            assert fault.value is None
        else:
            assert fault.value == value
            assert isinstance(fault.value, bool) == isinstance(value, bool)


def faults_in(body: bytes) -> int:
    """Number of faults that the request model finds."""
    try:
        MODEL.model_validate_json(body)
    except ValidationError as error:
        return error.error_count()
    return 0


@given(bodies())
@example(CUSTOMER | {"a/b~c": None})
@example(CUSTOMER | {"age": True})
@example(CUSTOMER | {"age": "45"})
@example(CUSTOMER | {"tenure": 12.5})
@example(CUSTOMER | {"avg_data_usage": 10**19})
@settings(max_examples=500)
def test_every_fault_has_the_pointer_of_its_field(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    count = faults_in(text)
    if count:
        problem = refusal(text)
        assert (problem.kind, len(problem.faults)) == ("validation", count)
        for fault in problem.faults:
            assert_fault_matches(fault, body)
    else:
        # Nothing is coerced: the parsed values and their types are those of the body.
        parsed = PARSER.parse_customer(text).model_dump()
        expected = dict.fromkeys(CUSTOMER) | body
        assert parsed == expected
        kinds = {name: isinstance(value, str | bool) for name, value in parsed.items()}
        assert kinds == {name: isinstance(value, str | bool) for name, value in expected.items()}


@pytest.mark.parametrize(
    ("field", "value", "check"),
    [
        ("age", '"45"', "typed"),
        ("age", "true", "typed"),
        ("age", "45.5", "typed"),
        ("age", "17", "in_range"),
        ("age", "111", "in_range"),
        ("age", "null", "complete"),
        ("age", "NaN", "typed"),
        ("age", "1e30", "in_range"),
        ("age", "9" * 400, "in_range"),
        ("avg_data_usage", "NaN", "in_range"),
        ("avg_data_usage", "Infinity", "in_range"),
        ("avg_data_usage", "-Infinity", "in_range"),
        ("avg_data_usage", "1e400", "in_range"),
        ("avg_data_usage", '"1"', "typed"),
        ("avg_data_usage", "[1]", "typed"),
        ("gender", '"male"', "known_categories"),
        ("gender", "1", "known_categories"),
        ("customer_id", "1", "typed"),
        ("customer_id", '""', "in_range"),
        ("customer_id", '" C-1"', "in_range"),
        ("customer_id", f'"{"x" * 101}"', "in_range"),
        ("nonsense", "1", "known_fields"),
        ("nonsense", "null", "known_fields"),
    ],
)
def test_each_fault_breaks_one_check(field: str, value: str, check: str) -> None:
    [fault] = refusal(customer_json_with(field, value)).faults
    assert (fault.pointer, fault.check) == (f"/{field}", check)


@pytest.mark.parametrize(
    ("field", "value"),
    [("age", "18"), ("age", "110"), ("age", "45.0"), ("customer_id", f'"{"x" * 100}"')],
)
def test_values_at_a_limit_are_accepted(field: str, value: str) -> None:
    assert getattr(PARSER.parse_customer(customer_json_with(field, value)), field) == json.loads(
        value
    )


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"{]", b"\xff", b"{'age': 1}", b'{"age": 01}', b"{}{}", b"[" * 10_000,
     "\ufeff{}".encode(), "{}".encode("utf-16"), b'{"customer_id": "\\ud800"}', b'{"age": +1}'],
)  # fmt: skip
def test_invalid_json_is_malformed(body: bytes) -> None:
    problem = refusal(body)
    assert (problem.kind, list(problem.faults)) == ("malformed", [])
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(body, skip=True)
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_json_that_is_not_an_object_is_a_fault_of_the_whole_body(body: bytes) -> None:
    [fault] = refusal(body).faults
    assert (fault.pointer, fault.check) == ("", "complete" if body == b"null" else "typed")


def test_texts_that_the_graph_would_trim_are_refused() -> None:
    """The service and the graph treat the same Unicode characters as spaces."""
    characters = [chr(code) for code in range(1, 0x3100)] + ["\ufeff", "\U0001f600"]
    trimmed = pc.utf8_trim_whitespace(pa.array(characters)).to_pylist()
    spaces = {character for character, rest in zip(characters, trimmed, strict=True) if not rest}
    assert {" ", "\t", "\x1c", "\x85", "\u3000"} < spaces

    def refused(text: str) -> bool:
        try:
            PARSER.parse_customer(customer_json_with("location", json.dumps(text)))
        except Problem:
            return True
        return False

    for pattern in ("{}", "x{}", "{}x"):
        assert {c for c in characters if refused(pattern.format(c))} == spaces
    assert not any(refused(f"x{space}x") for space in spaces)


@st.composite
def batches(draw: st.DrawFn) -> list[Any]:
    valid = st.sampled_from(customers(5))
    return draw(st.lists(valid | bodies() | VALUES, min_size=1, max_size=6))


def batch_body(rows: list[Any]) -> bytes:
    return json.dumps({"customers": rows}).encode()


@given(batches())
@settings(max_examples=300)
def test_a_batch_is_parsed_like_its_single_customers(rows: list[Any]) -> None:
    """Each customer is valid or faulty on its own; skipping keeps exactly the valid ones."""
    valid, faults = [], []
    for i, row in enumerate(rows):
        try:
            valid.append(PARSER.parse_customer(json.dumps(row).encode()))
        except Problem as problem:
            for fault in problem.faults:
                faults.append((f"/customers/{i}{fault.pointer}", fault.check, fault.value))
                assert_fault_matches(
                    Fault(faults[-1][0], "-", fault.check, fault.value), {"customers": rows}
                )
    if faults:
        with pytest.raises(Problem) as caught:
            PARSER.parse_batch(batch_body(rows), skip=False)
        assert [(f.pointer, f.check, f.value) for f in caught.value.faults] == faults
        assert caught.value.customers == len(rows)
    else:
        assert PARSER.parse_batch(batch_body(rows), skip=False).customers == valid
    if valid:
        batch = PARSER.parse_batch(batch_body(rows), skip=True)
        assert batch.customers == valid
        assert [(f.pointer, f.check, f.value) for f in batch.faults] == faults
        assert batch.skipped == len(rows) - len(valid)
    else:
        with pytest.raises(Problem):
            PARSER.parse_batch(batch_body(rows), skip=True)


def test_skipping_keeps_every_number_to_the_bit() -> None:
    exact = ["0.1", "1e-300", "5e-324", "999.9999999999999", "123.45678901234567", "7"]
    rows = [customer_json_with("avg_data_usage", text).decode() for text in [*exact, "-1"]]
    batch = PARSER.parse_batch(('{"customers": [' + ", ".join(rows) + "]}").encode(), skip=True)
    parsed = [customer.avg_data_usage for customer in batch.customers]  # type: ignore[attr-defined]
    assert parsed == [float(text) for text in exact]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/customers"),
        ({"customers": []}, "/customers"),
        ({"customers": {}}, "/customers"),
        ({"customers": None}, "/customers"),
        ({"customers": [CUSTOMER], "on_error": "skip"}, "/on_error"),
        ([CUSTOMER], ""),
    ],
)
def test_an_invalid_batch_is_refused_as_a_whole(body: Any, pointer: str, skip: bool) -> None:
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(json.dumps(body).encode(), skip=skip)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
    assert caught.value.kind == "validation"


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("number", [MOST_CUSTOMERS - 1, MOST_CUSTOMERS, MOST_CUSTOMERS + 1])
def test_number_of_customers_in_a_batch_is_limited(number: int, skip: bool) -> None:
    body = batch_body([CUSTOMER] * number)
    if number <= MOST_CUSTOMERS:
        assert len(PARSER.parse_batch(body, skip=skip).customers) == number
    else:
        with pytest.raises(Problem) as caught:
            PARSER.parse_batch(body, skip=skip)
        assert [fault.pointer for fault in caught.value.faults] == ["/customers"]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("most", "listed"), [(4, 4), (5, 5), (6, 5)])
def test_number_of_listed_faults_is_limited(
    most: int, listed: int, skip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_parsing, "MOST_FAULTS", most)
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(batch_body([CUSTOMER | {"age": 1}] * 5), skip=skip)
    assert len(caught.value.faults) == listed
    assert "5 problems" in caught.value.detail


def test_very_many_unknown_fields_are_refused_without_a_fault_each() -> None:
    columns = len(PARSER.customer_model.model_fields)
    allowed = {f"x{i}": 0 for i in range(2 * columns - 1)}
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(batch_body([allowed]), skip=False)
    assert any(fault.check == "known_fields" for fault in caught.value.faults)
    with pytest.raises(Problem, match="validation") as caught:
        PARSER.parse_batch(
            batch_body([allowed | {f"y{i}": 0 for i in range(99)} | allowed]), skip=True
        )
    assert not caught.value.faults
    assert f"1 customers have {2 * columns - 1 + 99 + 1} fields" in caught.value.detail


def test_colons_in_texts_do_not_count_as_fields() -> None:
    colons = CUSTOMER | {"location": ":" * 90}
    assert len(PARSER.parse_batch(batch_body([colons] * 3), skip=False).customers) == 3


def test_refusals_are_freed_without_the_garbage_collector() -> None:
    def count_problems() -> int:
        return sum(isinstance(one, Problem) for one in gc.get_objects())

    before = count_problems()
    gc.disable()
    try:
        for skip in (False, True):
            with pytest.raises(Problem):
                PARSER.parse_batch(batch_body([CUSTOMER | {"age": 1}] * 3), skip=skip)
        after = count_problems()
    finally:
        gc.enable()
    assert after == before
