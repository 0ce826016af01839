"""Requests: exactly what the contract allows is accepted, with the same features as the graph."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from churn_assets.contracts.contract import (
    NUMBER_LIMIT,
    TEXT_LIMIT,
    Column,
    Contract,
    DerivedFeature,
    Economics,
)
from churn_assets.contracts.loading import SHIPPED_NAMES, load_contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.data.features import derive_features, model_frame

CONTRACTS = {name: load_contract(name) for name in SHIPPED_NAMES}
MODELS = {name: request_model(contract) for name, contract in CONTRACTS.items()}
DTYPES: dict[str, Any] = {"flag": "boolean", "category": pd.StringDtype("pyarrow")}

each_contract = pytest.mark.parametrize("name", SHIPPED_NAMES)


def column(name: str, kind: Any = "number", **fields: Any) -> Column:
    """Returns a column, by default a feature, for a test contract."""
    fields = {"role": "feature", "description": f"The {name}", **fields}
    return Column(name=name, source_name=name, kind=kind, **fields)


def contract_with(*columns: Column, derived: tuple[DerivedFeature, ...] = ()) -> Contract:
    return Contract(
        name="shop",
        version="1.0.0",
        description="Customers of the shop.",
        horizon_months=1,
        economics=Economics(value_of_kept_customer=10, cost_of_offer=1, acceptance_rate=0.5),
        columns=(
            column("number", "text", role="id"),
            column("left", "flag", role="label", nullable=True),
            column("when", "text", role="month"),
            column("note", "text", role="ignored", nullable=True),
            *columns,
        ),
        derived=derived,
        source="file",
    )


def example(model: type[BaseModel]) -> dict[str, Any]:
    return dict(model.model_json_schema()["example"])


def parse(model: type[BaseModel], body: dict[str, Any]) -> BaseModel:
    return model.model_validate_json(json.dumps(body))


def refused(model: type[BaseModel], body: dict[str, Any]) -> list[str]:
    """Returns the fields for which a body is refused."""
    with pytest.raises(ValidationError) as caught:
        parse(model, body)
    return [str(fault["loc"][0]) for fault in caught.value.errors()]


def values(field: Column) -> st.SearchStrategy[Any]:
    """Returns a strategy for all JSON values that the contract allows in a column."""
    if field.values is not None:
        allowed: st.SearchStrategy[Any] = st.sampled_from(field.values)
    elif field.kind == "flag":
        allowed = st.booleans()
    elif field.kind != "number":
        allowed = st.text(max_size=TEXT_LIMIT - 2).map(lambda text: f"x{text}x")
    else:
        low = -NUMBER_LIMIT if field.ge is None else field.ge
        high = NUMBER_LIMIT if field.le is None else field.le
        allowed = st.integers(int(low), int(high)) if field.whole else st.floats(low, high)
    return allowed | st.none() if field.nullable else allowed


def customers(contract: Contract) -> st.SearchStrategy[list[dict[str, Any]]]:
    columns = (contract.id, *contract.features)
    return st.lists(
        st.fixed_dictionaries({c.name: values(c) for c in columns}), min_size=1, max_size=6
    )


def typed_frame(rows: list[dict[str, Any]], contract: Contract) -> pd.DataFrame:
    return pd.DataFrame(
        {
            c.name: pd.Series(
                [row[c.name] for row in rows],
                dtype=DTYPES.get(c.kind, "Int64" if c.whole else "float64"),
            )
            for c in contract.features
        }
    )


@each_contract
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_features_equal_those_of_the_graph_bit_for_bit(name: str, data: st.DataObject) -> None:
    contract = CONTRACTS[name]
    rows = data.draw(customers(contract))
    frame = model_frame(derive_features(typed_frame(rows, contract), contract), contract)
    found = [features(parse(MODELS[name], row), contract) for row in rows]
    assert all(tuple(row) == contract.model_inputs for row in found)
    for number in contract.numbers:
        alone = np.array([row[number] for row in found], dtype=np.float64)
        # The bits of NaN depend on the processor; all other values must match bit for bit.
        assert np.array_equal(np.isnan(alone), frame[number].isna())
        known = ~np.isnan(alone)
        assert alone[known].tobytes() == frame[number].to_numpy()[known].tobytes()
    for category in contract.categories:
        assert [row[category] for row in found] == [
            None if pd.isna(value) else value for value in frame[category]
        ]


@each_contract
def test_fields_are_the_id_and_the_features(name: str) -> None:
    contract = CONTRACTS[name]
    assert list(MODELS[name].model_fields) == [
        contract.id.name,
        *(c.name for c in contract.features),
    ]


def test_label_month_and_ignored_columns_are_no_fields() -> None:
    assert list(request_model(contract_with(column("visits"))).model_fields) == ["number", "visits"]


@each_contract
def test_every_field_but_a_nullable_one_is_required(name: str) -> None:
    for field in (CONTRACTS[name].id, *CONTRACTS[name].features):
        body = example(MODELS[name])
        del body[field.name]
        if not field.nullable:
            assert refused(MODELS[name], body) == [field.name]
            assert refused(MODELS[name], body | {field.name: None}) == [field.name]
            continue
        missing, null = parse(MODELS[name], body), parse(MODELS[name], body | {field.name: None})
        assert missing == null
        assert features(missing, CONTRACTS[name])[field.name] is None


@each_contract
def test_limits_of_numbers_are_enforced(name: str) -> None:
    for field in CONTRACTS[name].features:
        if field.kind != "number":
            continue
        assert field.ge is not None
        assert field.le is not None
        step = 1 if field.whole else 1e-9
        for at, beyond in ((field.ge, field.ge - step), (field.le, field.le + 1e4 * step)):
            number = int if field.whole else float
            parse(MODELS[name], example(MODELS[name]) | {field.name: number(at)})
            body = example(MODELS[name]) | {field.name: number(beyond)}
            assert refused(MODELS[name], body) == [field.name]


@pytest.mark.parametrize("whole", [False, True])
def test_a_number_without_limits_has_those_of_the_platform(whole: bool) -> None:
    model = request_model(contract_with(column("debt", whole=whole)))
    limit = int(NUMBER_LIMIT)
    for allowed in (-limit, 0, limit):
        assert parse(model, {"number": "1", "debt": allowed})
    for beyond in (-limit - 1, limit + 1, 10**400):
        assert refused(model, {"number": "1", "debt": beyond}) == ["debt"]


def test_fractional_limits_of_whole_numbers() -> None:
    model = request_model(contract_with(column("visits", whole=True, ge=0.5, le=2.5)))
    for allowed in (1, 2):
        assert parse(model, {"number": "1", "visits": allowed})
    for beyond in (0, 3):
        assert refused(model, {"number": "1", "visits": beyond}) == ["visits"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customer_id", 12),
        ("customer_id", ""),
        ("customer_id", " \t"),
        ("customer_id", "x" * (TEXT_LIMIT + 1)),
        ("age", "42"),
        ("age", True),
        ("age", 42.5),
        ("age", float("nan")),
        ("age", float("inf")),
        ("gender", "male"),
        ("gender", 1),
        ("location", "\n"),
        ("location", "x" * (TEXT_LIMIT + 1)),
        ("avg_data_usage", "1.5"),
        ("avg_data_usage", False),
        ("avg_data_usage", float("nan")),
        ("avg_data_usage", float("-inf")),
        ("avg_call_minutes", float("nan")),
        ("avg_call_minutes", [1.0]),
        ("churned", True),
        ("charges_per_gigabyte", 1.0),
        ("nonsense", 1),
    ],
)
def test_values_outside_the_contract_are_refused(field: str, value: Any) -> None:
    model = MODELS["telecom"]
    assert refused(model, example(model) | {field: value}) == [field]


@pytest.mark.parametrize("value", ["true", "Yes", 1, 0.0])
def test_a_flag_is_true_or_false(value: Any) -> None:
    model = MODELS["ibm_telco"]
    assert refused(model, example(model) | {"partner": value}) == ["partner"]
    assert parse(model, example(model) | {"partner": False})


def test_whole_numbers_are_recognised_by_value_not_by_spelling() -> None:
    """In JSON Schema 12.0 is an integer, and 12 is a number."""
    model = MODELS["telecom"]
    parsed = parse(model, example(model) | {"tenure": 12.0, "avg_data_usage": 3})
    assert parsed == parse(model, example(model) | {"tenure": 12, "avg_data_usage": 3.0})
    assert features(parsed, CONTRACTS["telecom"])["tenure"] == 12.0


def test_the_longest_text_and_an_unseen_category_are_accepted() -> None:
    model = MODELS["telecom"]
    for text in ("x" * TEXT_LIMIT, "Ώ"):
        row = features(parse(model, example(model) | {"location": text}), CONTRACTS["telecom"])
        assert row["location"] == text


def test_nullable_flags_and_categories_may_be_null() -> None:
    def is_known(plan: Any) -> Any:
        return np.array([value is not None for value in plan])

    derived = DerivedFeature(
        name="known", inputs=("plan",), description="", source_code="", function=is_known
    )
    contract = contract_with(
        column("plan", "category", nullable=True),
        column("adult", "flag", nullable=True),
        derived=(derived,),
    )
    model = request_model(contract)
    nulls = features(parse(model, {"number": "1"}), contract)
    assert nulls == {"adult": None, "known": 0.0, "plan": None}
    given_both = parse(model, {"number": "1", "plan": "basic", "adult": True})
    assert features(given_both, contract) == {"adult": 1.0, "known": 1.0, "plan": "basic"}


def test_errors_do_not_repeat_values() -> None:
    model = MODELS["telecom"]
    with pytest.raises(ValidationError) as caught:
        parse(model, example(model) | {"location": 987654321})
    assert "987654321" not in str(caught.value)


@each_contract
def test_schema_documents_every_field(name: str) -> None:
    contract, schema = CONTRACTS[name], MODELS[name].model_json_schema()
    parse(MODELS[name], schema["example"])
    assert schema["description"] == contract.description
    assert schema["additionalProperties"] is False
    for field in (contract.id, *contract.features):
        documented = schema["properties"][field.name]
        assert field.description in documented["description"]
        assert field.unit in documented["description"]
        assert documented["examples"] == [schema["example"][field.name]]
        assert documented.get("nullable", False) is field.nullable
        rule = documented["anyOf"][0] if field.nullable else documented
        if field.values:
            assert rule["enum"] == list(field.values)
        if field.kind == "number":
            assert rule["type"] == ("integer" if field.whole else "number")
            assert (rule["minimum"], rule["maximum"]) == (field.ge, field.le)


def test_the_service_needs_no_pandas_to_read_a_request() -> None:
    code = (
        "import sys, churn_assets.contracts.request;"
        "print(sorted({'pandas', 'pandera', 'pyarrow', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
