from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from churn_assets.settings import Settings, latest_closed_month, load_settings
from churn_assets_tests.documents import ROOT
from churn_assets_tests.settings_messages import settings_message


def test_every_setting_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert settings.contract == "telecom"
    assert settings.source is None
    assert settings.lake_options == {}


def test_settings_are_read_from_variables_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
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
    ("variable", "value", "expected"),
    [
        ("CHURN_SOURCE", "fil", "CHURN_SOURCE is 'fil': Input should be 'simulated', 'file'"),
        ("CHURN_SOURCE", "file", "set CHURN_FILE__CUSTOMERS"),
        ("CHURN_FIRST_MONTH", "2026-13", "CHURN_FIRST_MONTH is '2026-13'"),
        ("CHURN_LIMITS__MAX_QUARANTINED_SHARE", "2", "less than or equal to 1"),
        ("CHURN_SIMULATED__CUSTOMERS", "many", "CHURN_SIMULATED__CUSTOMERS is 'many'"),
        ("CHURN_LAKE_OPTIONS", "{", "CHURN_LAKE_OPTIONS is (hidden): Invalid JSON"),
        ("CHURN_SIMULATED", "foo", "CHURN_SIMULATED is 'foo': set its parts instead: CHURN_SIMUL"),
        ("CHURN_FILE__ENCODING", "utf-9", "CHURN_FILE__ENCODING is 'utf-9': unknown encoding"),
        ("CHURN_FILE__ENCODING", "base64", "is not a text encoding"),
        ("CHURN_FILE__SEPARATOR", "", "CHURN_FILE__SEPARATOR is '': must be one character"),
        ("CHURN_FILE__SEPARATOR", ";;", "CHURN_FILE__SEPARATOR is ';;': must be one character"),
        ("CHURN_LIMITS__MIN_LABEL_RATE", "0.7", "RATE is 0.7, above CHURN_LIMITS__MAX_LABEL_RATE"),
        ("CHURN_FIRST_MONTH", "2999-01", "CHURN_FIRST_MONTH is '2999-01': the month is not over"),
        ("CHURN_SNAPSHOT_MONTH", "2999-01", "CHURN_SNAPSHOT_MONTH is '2999-01': the month is not"),
        ("CHURN_CONTRCT", "x", "CHURN_CONTRCT is not a setting; did you mean CHURN_CONTRACT?"),
        ("CHURN_LIMITS__MIN_ACU", "0.7", "did you mean CHURN_LIMITS__MIN_AUC?"),
    ],
)
def test_a_wrong_setting_is_reported_with_its_rule(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    assert expected in settings_message(load_settings, monkeypatch, **{variable: value})


def test_all_faults_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"CHURN_SOURCE": "x", "CHURN_SEED": "-1", "CHURN_NONSENSE": "1"}
    message = settings_message(load_settings, monkeypatch, **wrong)
    assert all(variable in message for variable in wrong)


def test_a_missing_path_is_reported_beside_other_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"CHURN_SOURCE": "file", "CHURN_SEED": "-1", "CHURN_LIMITS": "low"}
    message = settings_message(load_settings, monkeypatch, **wrong)
    for fault in ("CHURN_FILE__CUSTOMERS", "CHURN_SEED", "CHURN_LIMITS is 'low'"):
        assert fault in message


def test_the_current_month_is_not_closed_and_the_previous_one_is() -> None:
    now = pd.Period(datetime.now(UTC).strftime("%Y-%m"), freq="M")
    assert latest_closed_month() == str(now - 1)
    assert Settings(first_month=str(now - 1)).first_month == str(now - 1)
    with pytest.raises(ValueError, match=f"latest closed one is {now - 1}"):
        Settings(first_month=str(now))


@pytest.mark.parametrize("options", ['{"key": "s3cret"', '{"key": ["s3cret"]}', '"s3cret"'])
def test_storage_options_are_never_shown(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    message = settings_message(load_settings, monkeypatch, CHURN_LAKE_OPTIONS=options)
    assert "CHURN_LAKE_OPTIONS is (hidden)" in message
    assert "s3cret" not in message
    monkeypatch.setenv("CHURN_LAKE_OPTIONS", '{"key": "s3cret"}')
    assert "s3cret" not in repr(load_settings())


def test_a_group_with_a_secret_in_it_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    group = '{"webhook": "https://hooks/s3cret"}'
    message = settings_message(load_settings, monkeypatch, CHURN_ALERTS=group)
    assert "CHURN_ALERTS is (hidden): set its parts instead: CHURN_ALERTS__WEBHOOK" in message
    assert "s3cret" not in message


def test_the_platform_ignores_settings_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_API_WORKERS", "2")
    monkeypatch.setenv("CHURN_API_NONSENSE", "1")  # The service reports it, not the platform.
    assert load_settings() == Settings()
    message = settings_message(load_settings, monkeypatch, CHURN_APIS="1")
    assert "CHURN_APIS is not a setting" in message


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CHURN_HOME", "/srv/a#b", "CHURN_HOME is '/srv/a#b': '#' has a meaning of its own"),
        ("CHURN_HOME", "/srv/a%41b", "'%41' has a meaning of its own in URLs"),
        ("CHURN_HOME", "", "CHURN_HOME is '': must be a path; unset the variable"),
        ("CHURN_HOME", f"{__file__}/home", f"{__file__} is a file; set a folder"),
        ("CHURN_HOME", __file__, f"{__file__} is a file; set a folder"),
        ("CHURN_LAKE", "lake[1]", "CHURN_LAKE is 'lake[1]': '[' has a meaning of its own"),
        ("CHURN_LAKE", "s3://bucket/a#b", "'#' has a meaning of its own"),
        ("CHURN_LAKE", "file:///srv/a%20b", "'%20' has a meaning of its own"),
        ("CHURN_REPORTS", "/srv/\udce9", "CHURN_REPORTS is '/srv/\\udce9': is not UTF-8 text"),
        ("CHURN_PREDICTIONS", "/srv/\udce9", "is not UTF-8 text; rename the file or folder"),
        ("CHURN_ID_KEY_FILE", " ", "CHURN_ID_KEY_FILE is ' ': must be a path"),
        ("CHURN_FILE__CUSTOMERS", "a::b.csv", "CHURN_FILE__CUSTOMERS is 'a::b.csv': '::' joins"),
        ("CHURN_FILE__LABELS", "a::b.csv", "CHURN_FILE__LABELS is 'a::b.csv': '::' joins URLs"),
        ("CHURN_MLFLOW_TRACKING_URI", "mlruns", "must be a server (https://...), databricks, or"),
        ("CHURN_MLFLOW_TRACKING_URI", "file:///srv/mlruns", "must be a server (https://...)"),
        ("CHURN_MLFLOW_TRACKING_URI", "sqlite://", "must be a server (https://...)"),
        ("CHURN_MLFLOW_TRACKING_URI", "sqlite:////srv/a%41.db", "'%41' has a meaning of its own"),
        ("DAGSTER_HOME", "/srv/a?b", "DAGSTER_HOME is '/srv/a?b': '?' has a meaning of its own"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    assert expected in settings_message(load_settings, monkeypatch, **{variable: value})


def test_the_folder_of_the_default_home_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (odd := tmp_path / "c#").mkdir()
    monkeypatch.chdir(odd)
    message = settings_message(load_settings, monkeypatch)
    assert f"CHURN_HOME is not set, and its default is in '{odd}/.churn': '#' has a" in message
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    assert load_settings().home == tmp_path / "home"


def test_paths_are_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    settings = Settings(
        home="a b/", lake="it's/lake", reports="~/r#1", predictions="s3://bucket/a#b",
        mlflow_tracking_uri="sqlite:///my.db?timeout=9", id_key_file="../id.key",
        file={"customers": "zip://a.csv::https://host/b.zip"},
    )  # fmt: skip
    assert settings.home == tmp_path / "a b"
    assert settings.lake == str(tmp_path / "it's/lake")
    assert settings.reports == str(tmp_path / "me/r#1")
    assert settings.predictions == "s3://bucket/a#b"
    assert settings.mlflow_tracking_uri == f"sqlite:///{tmp_path}/my.db?timeout=9"
    assert settings.id_key_file == tmp_path.parent / "id.key"


@pytest.mark.parametrize(
    "uri",
    ["", "https://mlflow", "databricks", "databricks://me", "postgresql+psycopg2://u:p%41@h/db"],
)
def test_servers_of_mlflow_are_accepted(uri: str) -> None:
    assert Settings(mlflow_tracking_uri=uri).mlflow_tracking_uri == uri


def test_the_template_of_the_environment_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.lake == "s3://bucket/churn/lake"
    assert settings.mlflow_tracking_uri == "https://mlflow.example.com"
