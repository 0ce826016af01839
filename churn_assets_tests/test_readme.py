"""The README agrees with the code."""

import re
from pathlib import Path

from churn_assets.contracts.loading import load_contract
from churn_assets.definitions import build
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings
from churn_assets_tests.documents import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_short_and_names_both_commands() -> None:
    assert len(README.splitlines()) < 200
    assert "make demo" in README
    assert "make test" in README


def test_the_contract_in_the_readme_loads(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "shop.py").write_text(code)
    contract = load_contract(str(tmp_path / "shop.py"))
    assert contract.id.source_name == "CustomerNo"
    assert contract.horizon_months == 3
    assert "spend_per_visit" in contract.model_inputs


def test_the_table_in_the_readme_names_every_asset_and_check() -> None:
    definitions = build(Platform.of(Settings()))
    table = {
        cells[1].strip(" `"): cells[4].lower()
        for line in README.splitlines()
        if len(cells := line.split("|")) == 6
    }
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        assert key.to_user_string() in table
    for key in graph.asset_check_keys:
        words = key.name.replace("_", " ")
        assert words in table[key.asset_key.to_user_string()], key
