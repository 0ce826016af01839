"""A wrong contract fails on loading, with one message that lists every fault."""

from pathlib import Path

import numpy as np
import pytest

from churn_assets.contracts.loading import SHIPPED_NAMES, ContractError, load_contract

GOOD = '''
import numpy as np
from churn_assets.contracts.vocabulary import *

second_id = customer_id

def visits_a_day(visits):
    """Visits on a day."""
    return visits / 30.0

class Shop(CustomerContract):
    """Customers of a shop."""

    customer_id: str = customer_id("Number")
    visits: int = number("Visits", ge=0, le=500)
    plan: str = category("Tariff", "basic", "plus")
    note: str = ignored("Anything")
    churned: bool = label("Closed the account")

    __terms__ = Terms(
        economics=Economics(value_of_kept_customer=200, cost_of_offer=10, acceptance_rate=0.3),
        derived=(visits_a_day,),
    )
'''


def faults_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "shop.py"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        load_contract(str(path))
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def test_a_teams_own_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(GOOD)
    contract = load_contract(str(tmp_path / "shop.py"))
    assert contract.name == "shop"
    assert contract.model_inputs == ("visits", "visits_a_day", "plan")
    assert [column.name for column in contract.snapshot] == [
        "customer_id",
        "visits",
        "plan",
        "note",
    ]
    assert contract.source == "file"


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_shipped_contracts_survive_json(name: str) -> None:
    contract = load_contract(name)
    again = type(contract).model_validate_json(contract.model_dump_json())
    assert again.columns == contract.columns
    assert again.economics == contract.economics


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_derived_features_are_the_same_when_built_from_copied_source(name: str) -> None:
    contract = load_contract(name)
    module = type("module", (), {})()
    exec(contract.derived_module(), vars(module))  # as the bento does, from a file
    again = type(contract).model_validate_json(contract.model_dump_json()).with_functions(module)
    row = {column.name: np.float64(7.0) for column in contract.features}
    assert again.derive(row) == contract.derive(row)


def test_derived_features_of_a_contract_without_functions_are_an_error() -> None:
    contract = load_contract("telecom")
    bare = type(contract).model_validate_json(contract.model_dump_json())
    with pytest.raises(ValueError, match="with_functions"):
        bare.derive({column.name: 1.0 for column in contract.features})


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("note: str = ignored", "other: str = second_id", "2 id columns, one allowed"),
        ("    churned: bool = label(\"Closed the account\")\n", "", "no label column"),
        ("    customer_id: str = customer_id(\"Number\")\n", "", "no id column"),
        ("note: str = ignored(\"Anything\")", "m: str = month('a')\n    n: str = month('b')",
         "2 month columns, one allowed: m, n"),
        ("def visits_a_day(visits)", "def visits_a_day(visit)", "column 'visit' does not exist"),
        ("def visits_a_day(visits)", "def visits_a_day(churned)", "'churned' is not a feature"),
        ("visits / 30.0", "visits / visits.max()",
         "different values for a row alone and in a column"),
        ("visits / 30.0", "float(np.sum(visits))", "returns shape ()"),
        ("visits / 30.0", "visits / undefined", "uses 'undefined'"),
        ("visits / 30.0", "visits[0] + int('x')", "raises"),
        ('    """Visits on a day."""\n', "", "no docstring"),
        ("derived=(visits_a_day,)", "derived=(lambda visits: visits,)", "function with a name"),
        ("derived=(visits_a_day,)", "derived=(visits_a_day, visits_a_day)", "name is taken"),
        ('"basic", "plus"', '"basic", ge=3', "ge=3 does not apply to a category"),
        ('"basic", "plus"', '"basic", "basic"', "'basic' is listed twice"),
        ('"basic", "plus"', "*map(str, range(201))", "201 values"),
        ("plan: str", "plan: float", "a category must be annotated str, not float"),
        ("visits: int", "visits: str", "a number must be annotated int or float, not str"),
        ("ge=0, le=500", "ge=501, le=500", "ge=501 is above le=500"),
        ("ge=0, le=500", "bands=(3, 2)", "bands=(3, 2) must increase"),
        ("ge=0, le=500", "sensitive=True", "a sensitive number needs bands"),
        ('number("Visits"', 'number(""', "has no description"),
        ("visits: int", "split: int", "reserved"),
        ('ignored("Anything")', 'ignored("Anything", source_name="plan")', "is read by 2 columns"),
        ('ignored("Anything")', "3", "must be declared with a helper"),
        ("acceptance_rate=0.3", "acceptance_rate=3", "acceptance_rate is 3"),
        ("derived=(", "horizon_months=0, derived=(", "horizon_months is 0"),
        ('    """Customers of a shop."""\n', "", "no docstring: say what one row is"),
        ("class Shop(CustomerContract)", "class Shop", "one subclass of CustomerContract"),
        ("import numpy as np", "import nunpy as np", "No module named 'nunpy'"),
    ],
)  # fmt: skip
def test_each_fault_is_named(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in GOOD
    found = faults_of(tmp_path, GOOD.replace(old, new))
    assert any(fault in text for text in found), found


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("note: str = ignored", "other: str = second_id")
    text = text.replace("visits: int", "visits: str").replace('"plus"', "le=1")
    text = text.replace("economics=Economics(", "version=str(").replace(
        "value_of_kept_customer=200, cost_of_offer=10, acceptance_rate=0.3", "1"
    )
    found = faults_of(tmp_path, text)
    for part in ("2 id columns", "'visits'", "le=1 does not apply", "no economics"):
        assert any(part in fault for fault in found), (part, found)


def test_unknown_contract_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ContractError, match="ibm_telco, telecom"):
        load_contract("telecon")


def test_file_name_must_be_an_identifier(tmp_path: Path) -> None:
    (tmp_path / "my-shop.py").write_text(GOOD)
    with pytest.raises(ContractError, match="'my-shop'"):
        load_contract(str(tmp_path / "my-shop.py"))
