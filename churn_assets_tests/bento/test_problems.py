"""Problem details by RFC 9457."""

import json
from http import HTTPStatus
from typing import Any

import pytest
from churn_service.problems import STATUS, Fault, Problem, fault, faulty_customers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError


@pytest.mark.parametrize("kind", STATUS)
def test_a_body_describes_the_problem(kind: str) -> None:
    problem = Problem(kind, "it went wrong")
    status = STATUS[kind]
    assert json.loads(problem.body()) == {
        "type": f"urn:churn:problem:{kind}",
        "title": status.phrase,
        "status": status,
        "detail": "it went wrong",
    }
    assert problem.status == status >= HTTPStatus.BAD_REQUEST


def test_a_body_lists_every_fault() -> None:
    faults = [Fault("/age", "too old", "in_range", 111), Fault("", "no object", "typed")]
    assert json.loads(Problem("validation", "2 problems", faults).body())["problems"] == [
        {"pointer": "/age", "detail": "too old", "check": "in_range", "value": 111},
        {"pointer": "", "detail": "no object", "check": "typed", "value": None},
    ]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int


def shown(value: Any) -> Any:
    """The refused value as the fault repeats it."""
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"number": 1, "other": value})
    [error] = caught.value.errors()
    return fault(error).value


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "x", "x" * 100, 10**18, -(10**18), 1e18, "<script>", "Ώ"]
)
def test_a_short_value_is_repeated(value: Any) -> None:
    assert (shown(value), type(shown(value))) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "repeated"),
    [
        ("x" * 101, "x" * 100 + "…"),
        (10**18 + 1, None),
        (10**400, None),
        (1e19, None),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_long_and_nested_values_are_not_repeated(value: Any, repeated: Any) -> None:
    assert shown(value) == repeated


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_pointer_is_escaped(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"number": 1, name: 1} if name != "number" else {"number": "x"})
    [error] = caught.value.errors()
    pointer = fault(error).pointer
    assert pointer[0] == "/"
    assert "/" not in pointer[1:]
    assert pointer[1:].replace("~1", "/").replace("~0", "~") == name


def test_customers_are_counted_once_for_each_check() -> None:
    places = [
        ("/customers/0/age", "typed"),
        ("/customers/0/tenure", "typed"),
        ("/customers/0/gender", "known_categories"),
        ("/customers/10/age", "typed"),
        ("/customers/1", "typed"),
        ("/customers/11/age", "typed"),
    ]
    faults = [Fault(pointer, "-", check) for pointer, check in places]  # type: ignore[arg-type]
    assert faulty_customers(faults) == {"typed": 4, "known_categories": 1}
    assert faulty_customers([]) == {}


def test_a_single_customer_counts_as_one() -> None:
    faults = [Fault("/age", "-", "typed"), Fault("/tenure", "-", "typed"), Fault("", "-", "typed")]
    assert faulty_customers(faults) == {"typed": 1}
