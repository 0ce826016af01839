import pytest

from churn_assets.settings import Settings, SettingsError, load_settings


def test_nothing_needs_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert settings.contract == "telecom"
    assert settings.source is None
    assert settings.lake_options == {}


def test_settings_are_read_by_prefix_and_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_LIMITS__MIN_AUC", "0.7")
    monkeypatch.setenv("CHURN_LAKE_OPTIONS", '{"region": "eu"}')
    monkeypatch.setenv("CHURN_SIMULATED__SCENARIO", "dirty")
    monkeypatch.setenv("CUSTOMERS", "1")  # another program's
    settings = load_settings()
    assert settings.limits.min_auc == 0.7
    assert settings.lake_options == {"region": "eu"}
    assert settings.simulated.scenario == "dirty"
    assert settings.simulated.customers == 20_000


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CHURN_SOURCE", "fil", "CHURN_SOURCE is 'fil': Input should be 'simulated', 'file'"),
        ("CHURN_SOURCE", "file", "set CHURN_FILE__CUSTOMERS"),
        ("CHURN_FIRST_MONTH", "2026-13", "CHURN_FIRST_MONTH is '2026-13'"),
        ("CHURN_LIMITS__MAX_QUARANTINED_SHARE", "2", "less than or equal to 1"),
        ("CHURN_SIMULATED__CUSTOMERS", "many", "CHURN_SIMULATED__CUSTOMERS is 'many'"),
        ("CHURN_LAKE_OPTIONS", "{", "CHURN_LAKE_OPTIONS is '{': Invalid JSON"),
        ("CHURN_CONTRCT", "x", "CHURN_CONTRCT is not a setting; did you mean CHURN_CONTRACT?"),
        ("CHURN_LIMITS__MIN_ACU", "0.7", "did you mean CHURN_LIMITS__MIN_AUC?"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert says in str(caught.value)


def test_all_faults_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_SOURCE", "x")
    monkeypatch.setenv("CHURN_SEED", "-1")
    monkeypatch.setenv("CHURN_NONSENSE", "1")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    for variable in ("CHURN_SOURCE", "CHURN_SEED", "CHURN_NONSENSE"):
        assert variable in str(caught.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 3  # type: ignore[misc]
