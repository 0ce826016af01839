"""Environment and files that the Makefile sets up for the service."""

import os
import subprocess
from pathlib import Path

import pytest
from churn_service.access.api_keys import KeyRing
from churn_service.settings import load_settings

from churn_assets_tests.documents import ROOT, bash, native


def test_the_home_has_a_log_of_predictions_and_a_key_for_its_pseudonyms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = native(tmp_path)
    assert variables["CHURN_API_PREDICTION_LOG"] == str(tmp_path / "predictions")
    assert "CHURN_API_KEYS_FILE" not in variables
    key = tmp_path / "id.key"
    assert variables["CHURN_API_ID_KEY_FILE"] == str(key)
    assert key.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("CHURN_API_ID_KEY_FILE", str(key))
    secret = load_settings().id_key()
    assert len(secret) == 64
    native(tmp_path)
    assert load_settings().id_key() == secret


@pytest.mark.parametrize(
    ("set_before", "url"),
    [({}, "http://127.0.0.1:4567"),
     ({"CHURN_ALERTS__UI_URL": "https://ui.example.org"}, "https://ui.example.org")],
)  # fmt: skip
def test_alerts_link_to_the_webserver_of_make_dev(
    tmp_path: Path, set_before: dict[str, str], url: str
) -> None:
    shows = tmp_path / "shows.mk"
    shows.write_text("include Makefile\ndev: ; @printenv CHURN_ALERTS__UI_URL\n")
    here = os.environ | {"CHURN_HOME": str(tmp_path / "home")} | set_before
    output = bash(f"make -s -o home -f {shows} dev PORT=4567", here)
    assert output.strip() == url


def test_the_service_requires_keys_once_one_is_created(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    here = os.environ | {"CHURN_HOME": str(tmp_path)}
    tokens = [
        bash(f"make -s -o setup api-key {how}", here).strip()
        for how in ("ID=crm", "ID=prometheus ROLE=admin DAYS=1")
    ]
    keys = [KeyRing(file).identify(token) for token in tokens]
    assert [(key.id, key.role) for key in keys if key] == [
        ("crm", "predict"), ("prometheus", "admin")
    ]  # fmt: skip
    assert native(tmp_path)["CHURN_API_KEYS_FILE"] == str(file)


def test_a_home_may_have_blanks_quotes_and_dollars_in_its_path(tmp_path: Path) -> None:
    home = tmp_path / "it's a $5 $(x); b&ü"
    variables = native(home)
    assert variables["CHURN_HOME"] == str(home)
    assert variables["DAGSTER_HOME"] == str(home / "dagster")
    assert variables["BENTOML_HOME"] == str(home / "bentoml")
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{home}/mlflow.db"
    assert variables["CHURN_API_ID_KEY_FILE"] == str(home / "id.key")
    assert variables["PATH"].startswith(f"{ROOT}/.venv/bin:")
    assert {path.name for path in tmp_path.iterdir()} == {home.name}
    assert (home / "dagster" / "dagster.yaml").read_bytes() == (ROOT / "dagster.yaml").read_bytes()
    keys = home / "my keys.json"
    here = os.environ | {"CHURN_HOME": str(home), "THE_KEYS": str(keys)}
    token = bash('make -s -o setup api-key ID=crm KEYS="$THE_KEYS"', here).strip()
    assert KeyRing(keys).identify(token)


@pytest.mark.parametrize("given", ["rel ative", "./rel ative/", "x/../rel ative"])
def test_a_home_is_an_absolute_path(given: str) -> None:
    show = r"""printf 'show:\n\t@echo "$$DAGSTER_HOME"\n' | make -s -f Makefile -f - show"""
    assert bash(show, os.environ | {"CHURN_HOME": given}) == f"{ROOT}/rel ative/dagster\n"


@pytest.mark.parametrize("name", ["a#b", "a[b]", "a%41b", "a|b c", "a\tb", "a\nb"])
def test_a_home_that_cannot_be_used_is_refused_before_it_is_made(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        ["make", "-s", "-o", "setup", "env"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"CHURN_HOME": str(tmp_path / name)},
    )  # fmt: skip
    assert done.returncode != 0
    assert f"CHURN_HOME is {str(tmp_path / name)!r}: " in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_scenario_of_a_home_stays_the_same(tmp_path: Path) -> None:
    month = "CHURN_SIMULATED__SCENARIO_MONTH"
    assert native(tmp_path)["CHURN_SIMULATED__SCENARIO"] == "price_shock"
    stored = tmp_path / "operator.mk"
    assert f"export {month} ?= 20" in stored.read_text()
    stored.write_text(f"export CHURN_SIMULATED__SCENARIO ?= dirty\nexport {month} ?= 2026-01\n")
    variables = native(tmp_path)
    assert (variables["CHURN_SIMULATED__SCENARIO"], variables[month]) == ("dirty", "2026-01")
