"""Environment and files that the Makefile sets up for the service."""

import os
from pathlib import Path

import pytest
from churn_service.access.api_keys import KeyRing
from churn_service.settings import load_settings

from churn_assets_tests.documents import bash, native


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
