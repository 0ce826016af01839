"""The environment of a served bento."""

from pathlib import Path

import pytest

from churn_assets.adapters.serving import environment


def test_a_trial_gets_only_the_given_service_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHURN_API_KEYS_FILE", "/production/keys.json")
    monkeypatch.setenv("CHURN_SEED", "3")
    assert not any(name.startswith("CHURN_API_") for name in environment(tmp_path))
    variables = environment(tmp_path, {"CHURN_API_WORKERS": "2"})
    assert variables["CHURN_API_WORKERS"] == "2"
    assert variables["CHURN_SEED"] == "3"
    assert variables["BENTOML_HOME"] == str(tmp_path)
    assert "CHURN_API_KEYS_FILE" not in variables
