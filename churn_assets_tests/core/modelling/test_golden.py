"""Golden rows are valid requests, cover the values of the contract, and are reproducible."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.card import GoldenRows
from churn_assets.contracts.contract import NUMBER_LIMIT, Column, Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.request import features, request_model
from churn_assets.core.modelling.golden import UNSEEN, golden_rows
from churn_assets_tests.core.modelling.linear_scorers import linear_scorer

CONTRACTS = {name: load_contract(name) for name in ("telecom", "ibm_telco")}
CITIES = ("Aston", "Berlin", "Paris")


def golden(contract: Contract, rows: int = 32, seed: int = 0) -> GoldenRows:
    return golden_rows(
        contract,
        linear_scorer(contract, 1, CITIES),
        linear_scorer(contract, 2, CITIES),
        rows=rows,
        seed=seed,
    )


def with_column(column: Column) -> Contract:
    """Returns the telecom contract with one more feature."""
    contract = CONTRACTS["telecom"]
    return contract.model_copy(update={"columns": (*contract.columns, column)})


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
@settings(deadline=None, max_examples=25)
def test_every_body_is_a_valid_request(contract: Contract, seed: int, rows: int) -> None:
    model, found = request_model(contract), golden(contract, rows, seed)
    assert len(found.customers) == len(found.main) == len(found.fallback) == rows
    for body in found.customers:
        sent = model.model_validate_json(json.dumps(body))
        assert sent == model.model_validate(body)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_probabilities_are_those_of_the_scorers(contract: Contract) -> None:
    main, fallback = linear_scorer(contract, 1, CITIES), linear_scorer(contract, 2, CITIES)
    found, model = golden_rows(contract, main, fallback), request_model(contract)
    rows = [features(model.model_validate(body), contract) for body in found.customers]
    assert found.main == tuple(main.score_one(row) for row in rows)
    assert found.fallback == tuple(fallback.score_one(row) for row in rows)
    assert len(set(found.main)) > len(rows) / 2


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_golden_rows_round_trip_through_json(contract: Contract) -> None:
    found = golden(contract)
    read = GoldenRows.model_validate_json(found.model_dump_json())
    assert read == found
    kinds = [[type(value) for value in body.values()] for body in found.customers]
    assert [[type(value) for value in body.values()] for body in read.customers] == kinds


def test_the_same_seed_gives_the_same_rows() -> None:
    contract = CONTRACTS["telecom"]
    assert golden(contract, seed=3) == golden(contract, seed=3)
    assert golden(contract, seed=3) != golden(contract, seed=4)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_golden_rows_cover_the_values_of_the_contract(contract: Contract) -> None:
    customers = golden(contract).customers
    for column in contract.features:
        values = {body[column.name] for body in customers}
        expected: set[object]
        if column.kind == "category":
            expected = {*(column.values or (*CITIES, UNSEEN))}
        else:
            expected = {True, False} if column.kind == "flag" else {column.ge, column.le}
            expected.update(column.bands)
        assert expected <= values, column.name
        assert (None in values) is column.nullable, column.name


def test_the_unseen_category_is_kept_among_many_open_ones() -> None:
    contract, cities = CONTRACTS["telecom"], tuple(f"City {i}" for i in range(50))
    scorer = linear_scorer(contract, 1, cities)
    found = {body["location"] for body in golden_rows(contract, scorer, scorer).customers}
    assert UNSEEN in found
    assert len(found) == 32
    assert found <= {UNSEEN, *cities}


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ({}, -100, 100),
        ({"ge": 5.5}, 6, 105),
        ({"le": -3.5}, -103, -4),
        ({"bands": (10, 1000)}, -90, 1100),
        ({"ge": -1e18, "le": 1e18}, -NUMBER_LIMIT, NUMBER_LIMIT),
        ({"ge": 2.5, "le": 3.4}, 3, 3),
    ],
)
def test_missing_bounds_are_near_the_points_of_the_contract(
    bounds: dict[str, float], low: float, high: float
) -> None:
    column = Column(
        name="more", source_name="more", role="feature", kind="number", description="", whole=True,
        **bounds,
    )  # fmt: skip
    contract = with_column(column)
    values = [body["more"] for body in golden(contract).customers]
    whole = [value for value in values if type(value) is int]
    assert len(whole) == len(values)
    assert (min(whole), max(whole)) == (low, high)


def test_ids_are_synthetic() -> None:
    ids = [body["customer_id"] for body in golden(CONTRACTS["telecom"], 3).customers]
    assert ids == ["golden-1", "golden-2", "golden-3"]
