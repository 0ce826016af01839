"""What is read of a body, and what is said of one that cannot be."""

import gc
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from churn_service.inference import request_parsing as reading
from churn_service.inference.request_parsing import MOST_CUSTOMERS, RequestParser
from churn_service.problems import CHECKS, Fault, Problem
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_assets_tests.bento.expected import CUSTOMER, MODEL, changed
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
    """A customer with other values in some fields, and without some."""
    body: dict[str, Any] = CUSTOMER | draw(st.dictionaries(FIELDS, VALUES, max_size=3))
    for name in draw(st.sets(st.sampled_from(list(CUSTOMER)), max_size=2)):
        del body[name]
    return body


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        PARSER.parse_customer(body)
    return caught.value


def resolve(document: Any, pointer: str) -> Any:
    """What a JSON pointer points at, by RFC 6901."""
    assert pointer == "" or pointer.startswith("/")
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key) if isinstance(document, list) else key]
    return document


def holds(fault: Fault, document: Any) -> None:
    """A fault points at what is there, or at the field that is missing from what is there."""
    assert fault.check in CHECKS
    assert fault.detail
    parent, _, name = fault.pointer.rpartition("/")
    around = resolve(document, parent)
    if fault.pointer and name in CUSTOMER and name not in around:
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
    """How many the request model finds."""
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
def test_every_fault_points_at_its_place(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    count = faults_in(text)
    if count:
        problem = refusal(text)
        assert (problem.kind, len(problem.faults)) == ("validation", count)
        for fault in problem.faults:
            holds(fault, body)
    else:
        # Nothing became something else: what was read is what was sent, and of the same kind.
        read = PARSER.parse_customer(text).model_dump()
        expected = dict.fromkeys(CUSTOMER) | body
        assert read == expected
        kinds = {name: isinstance(value, str | bool) for name, value in read.items()}
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
def test_a_fault_is_against_a_check(field: str, value: str, check: str) -> None:
    [fault] = refusal(changed(field, value)).faults
    assert (fault.pointer, fault.check) == (f"/{field}", check)


@pytest.mark.parametrize(
    ("field", "value"),
    [("age", "18"), ("age", "110"), ("age", "45.0"), ("customer_id", f'"{"x" * 100}"')],
)
def test_what_is_at_a_limit_is_read(field: str, value: str) -> None:
    assert getattr(PARSER.parse_customer(changed(field, value)), field) == json.loads(value)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"{]", b"\xff", b"{'age': 1}", b'{"age": 01}', b"{}{}", b"[" * 10_000,
     "\ufeff{}".encode(), "{}".encode("utf-16"), b'{"customer_id": "\\ud800"}', b'{"age": +1}'],
)  # fmt: skip
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    problem = refusal(body)
    assert (problem.kind, list(problem.faults)) == ("malformed", [])
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(body, skip=True)
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_json_that_is_no_object_is_a_fault_of_the_whole(body: bytes) -> None:
    [fault] = refusal(body).faults
    assert (fault.pointer, fault.check) == ("", "complete" if body == b"null" else "typed")


def test_a_text_is_read_where_the_graph_would_not_trim_it() -> None:
    """The service and the graph mean the same by a space, in all of Unicode."""
    characters = [chr(code) for code in range(1, 0x3100)] + ["\ufeff", "\U0001f600"]
    trimmed = pc.utf8_trim_whitespace(pa.array(characters)).to_pylist()
    spaces = {character for character, left in zip(characters, trimmed, strict=True) if not left}
    assert {" ", "\t", "\x1c", "\x85", "\u3000"} < spaces

    def refused(text: str) -> bool:
        try:
            PARSER.parse_customer(changed("location", json.dumps(text)))
        except Problem:
            return True
        return False

    for pattern in ("{}", "x{}", "{}x"):
        assert {c for c in characters if refused(pattern.format(c))} == spaces
    assert not any(refused(f"x{space}x") for space in spaces)


@st.composite
def batches(draw: st.DrawFn) -> list[Any]:
    good = st.sampled_from(customers(5))
    return draw(st.lists(good | bodies() | VALUES, min_size=1, max_size=6))


def batch_body(rows: list[Any]) -> bytes:
    return json.dumps({"customers": rows}).encode()


@given(batches())
@settings(max_examples=300)
def test_a_batch_is_read_as_its_customers_are(rows: list[Any]) -> None:
    """Each customer is good or faulty by themselves; to skip keeps exactly the good ones."""
    good, faults = [], []
    for i, row in enumerate(rows):
        try:
            good.append(PARSER.parse_customer(json.dumps(row).encode()))
        except Problem as problem:
            for fault in problem.faults:
                faults.append((f"/customers/{i}{fault.pointer}", fault.check, fault.value))
                holds(Fault(faults[-1][0], "-", fault.check, fault.value), {"customers": rows})
    if faults:
        with pytest.raises(Problem) as caught:
            PARSER.parse_batch(batch_body(rows), skip=False)
        assert [(f.pointer, f.check, f.value) for f in caught.value.faults] == faults
        assert caught.value.customers == len(rows)
    else:
        assert PARSER.parse_batch(batch_body(rows), skip=False).customers == good
    if good:
        read = PARSER.parse_batch(batch_body(rows), skip=True)
        assert read.customers == good
        assert [(f.pointer, f.check, f.value) for f in read.faults] == faults
        assert read.skipped == len(rows) - len(good)
    else:
        with pytest.raises(Problem):
            PARSER.parse_batch(batch_body(rows), skip=True)


def test_skipping_changes_no_number_by_a_bit() -> None:
    exact = ["0.1", "1e-300", "5e-324", "999.9999999999999", "123.45678901234567", "7"]
    rows = [changed("avg_data_usage", text).decode() for text in [*exact, "-1"]]
    batch = PARSER.parse_batch(('{"customers": [' + ", ".join(rows) + "]}").encode(), skip=True)
    read = [customer.avg_data_usage for customer in batch.customers]  # type: ignore[attr-defined]
    assert read == [float(text) for text in exact]


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
def test_a_batch_that_is_wrong_as_a_whole_is_refused(body: Any, pointer: str, skip: bool) -> None:
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(json.dumps(body).encode(), skip=skip)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
    assert caught.value.kind == "validation"


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("number", [MOST_CUSTOMERS - 1, MOST_CUSTOMERS, MOST_CUSTOMERS + 1])
def test_a_batch_has_so_many_customers_at_most(number: int, skip: bool) -> None:
    body = batch_body([CUSTOMER] * number)
    if number <= MOST_CUSTOMERS:
        assert len(PARSER.parse_batch(body, skip=skip).customers) == number
    else:
        with pytest.raises(Problem) as caught:
            PARSER.parse_batch(body, skip=skip)
        assert [fault.pointer for fault in caught.value.faults] == ["/customers"]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("most", "listed"), [(4, 4), (5, 5), (6, 5)])
def test_so_many_faults_are_listed_at_most(
    most: int, listed: int, skip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_FAULTS", most)
    with pytest.raises(Problem) as caught:
        PARSER.parse_batch(batch_body([CUSTOMER | {"age": 1}] * 5), skip=skip)
    assert len(caught.value.faults) == listed
    assert "5 problems" in caught.value.detail


def test_fields_that_no_customer_has_are_refused_before_each_is_a_fault() -> None:
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


def test_colons_in_texts_are_no_fields() -> None:
    colons = CUSTOMER | {"location": ":" * 90}
    assert len(PARSER.parse_batch(batch_body([colons] * 3), skip=False).customers) == 3


def test_what_was_refused_is_forgotten_at_once() -> None:
    def living() -> int:
        return sum(isinstance(one, Problem) for one in gc.get_objects())

    before = living()
    gc.disable()
    try:
        for skip in (False, True):
            with pytest.raises(Problem):
                PARSER.parse_batch(batch_body([CUSTOMER | {"age": 1}] * 3), skip=skip)
        after = living()
    finally:
        gc.enable()
    assert after == before
