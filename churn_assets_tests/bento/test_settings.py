from pathlib import Path
from typing import Any

import pytest
from churn_service.access.api_keys import write_keys
from churn_service.settings import ServiceSettings, load_settings
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_assets_tests.settings_messages import settings_message


def test_every_setting_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", "/srv/bentoml")
    settings = load_settings()
    assert settings == ServiceSettings()
    assert settings.keys_file is None
    assert settings.prediction_log == Path("/srv/bentoml/monitoring")
    assert settings.max_body_bytes == 8 * 1024 * 1024


def test_settings_are_read_from_variables_with_the_prefix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys, id_key = tmp_path / "keys.json", tmp_path / "id.key"
    write_keys(keys, ())
    id_key.write_text("0123456789abcdef")
    set_to: dict[str, Any] = {
        "KEYS_FILE": keys,
        "METRICS": "admin",
        "RATE_LIMIT": "50 per 2 seconds",
        "TIMEOUT": 2.5,
        "PREDICTION_LOG": tmp_path / "log",
        "POD_INFO": tmp_path,
        "ID_KEY_FILE": id_key,
        "LOG_LEVEL": "DEBUG",
        "OTLP_ENDPOINT": "https://collector:4318/v1/traces",
        "OTLP_SAMPLE_RATE": 0.1,
        "WORKERS": 2,
    }
    for name, value in set_to.items():
        monkeypatch.setenv(f"CHURN_API_{name}", str(value))
    monkeypatch.setenv("CHURN_SOURCE", "the platform's")
    monkeypatch.setenv("WORKERS", "another program's")
    read = load_settings().model_dump()
    assert {name: read[name.lower()] for name in set_to} == set_to


LIMITS = [
    ("max_body_bytes", 2**10, 2**28),
    ("max_concurrency", 1, 10_000),
    ("max_batches", 1, 1_000),
    ("drain_seconds", 0, 60),
    ("workers", 1, 64),
    ("prediction_log_file_bytes", 2**10, 2**34),
    ("prediction_log_files", 1, 10_000),
    ("prediction_log_queue", 1, 10_000_000),
    ("breaker_failures", 1, 1_000),
    ("otlp_sample_rate", 0, 1),
]


@pytest.mark.parametrize(("name", "low", "high"), LIMITS)
def test_numbers_have_limits(
    monkeypatch: pytest.MonkeyPatch, name: str, low: int, high: int
) -> None:
    variable = f"CHURN_API_{name.upper()}"
    for value in (low, high):
        monkeypatch.setenv(variable, str(value))
        assert getattr(load_settings(), name) == value
    for value in (low - 1, high + 1):
        assert f"{variable} is '{value}': " in settings_message(
            load_settings, monkeypatch, **{variable: value}
        )


@pytest.mark.parametrize(
    ("name", "high"),
    [("timeout", 600), ("breaker_seconds", 3_600), ("prediction_log_file_seconds", 86_400)],
)
def test_durations_are_above_zero(monkeypatch: pytest.MonkeyPatch, name: str, high: float) -> None:
    variable = f"CHURN_API_{name.upper()}"
    for value in ("0.001", str(high)):
        monkeypatch.setenv(variable, value)
        assert getattr(load_settings(), name) == float(value)
    for value in ("0", "-1", str(high + 0.001), "nan", "inf"):
        assert f"{variable} is '{value}': " in settings_message(
            load_settings, monkeypatch, **{variable: value}
        )


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CHURN_API_WORKERS", "two", "CHURN_API_WORKERS is 'two': Input should be a valid integer"),
        ("CHURN_API_WORKERS", "", "CHURN_API_WORKERS is ''"),
        ("CHURN_API_METRICS", "none", "CHURN_API_METRICS is 'none': Input should be 'open' or"),
        ("CHURN_API_LOG_LEVEL", "info", "CHURN_API_LOG_LEVEL is 'info': Input should be 'DEBUG'"),
        ("CHURN_API_RATE_LIMIT", "fast", "must be one limit, such as 600/minute"),
        ("CHURN_API_RATE_LIMIT", "", "must be one limit"),
        ("CHURN_API_RATE_LIMIT", "0/minute", "must be one limit"),
        ("CHURN_API_RATE_LIMIT", "5/fortnight", "must be one limit"),
        ("CHURN_API_RATE_LIMIT", "1/second;9/minute", "must be one limit"),
        ("CHURN_API_OTLP_ENDPOINT", "collector:4318", "must be an address such as http://"),
        ("CHURN_API_OTLP_ENDPOINT", "ftp://collector/v1", "must be an address such as http://"),
        ("CHURN_API_OTLP_ENDPOINT", "http://", "must be an address such as http://"),
        ("CHURN_API_OTLP_ENDPOINT", "", "must be an address such as http://"),
        ("CHURN_API_OTLP_ENDPOINT", "http://collector:99999", "Port out of range"),
        ("CHURN_API_KEY_FILE", "x", "CHURN_API_KEY_FILE is not a setting; did you mean CHURN"),
        ("CHURN_API_WORKER", "2", "did you mean CHURN_API_WORKERS?"),
        ("CHURN_API_", "2", "CHURN_API_ is not a setting"),
        ("CHURN_API_XYZZY", "2", "CHURN_API_XYZZY is not a setting"),
    ],
)
def test_a_wrong_setting_is_reported_with_its_rule(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    assert expected in settings_message(load_settings, monkeypatch, **{variable: value})


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("pods", "must be an absolute path, such as"),
        ("/no/pods", "does not exist or is not a fold"),
    ],
)
def test_the_folder_of_the_pods_fields_exists(
    monkeypatch: pytest.MonkeyPatch, path: str, rule: str
) -> None:
    message = settings_message(load_settings, monkeypatch, CHURN_API_POD_INFO=path)
    assert f"CHURN_API_POD_INFO is '{path}': " in message
    assert rule in message


def test_no_hint_where_no_name_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean" not in settings_message(load_settings, monkeypatch, CHURN_API_XYZZY="2")


def test_all_faults_are_reported_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = {
        "CHURN_API_KEYS_FILE": tmp_path / "none.json",
        "CHURN_API_RATE_LIMIT": "x",
        "CHURN_API_WORKERS": "0",
        "CHURN_API_NONSENSE": "1",
    }
    message = settings_message(load_settings, monkeypatch, **wrong)
    assert len(message.splitlines()) == 1 + len(wrong)
    assert all(variable in message for variable in wrong)


@pytest.mark.parametrize("name", ["none.json", "."])
def test_missing_key_file_error_says_how_to_create_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    message = settings_message(load_settings, monkeypatch, CHURN_API_KEYS_FILE=path)
    assert f"CHURN_API_KEYS_FILE is '{path}': {path} does not exist or is not a file" in message
    assert (
        f"python -m churn_service.access.api_keys new --role predict --days 90 --file {path}"
        in message
    )


def test_an_invalid_key_file_is_reported_with_its_faults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"id": "crm"}]}')
    message = settings_message(
        load_settings, monkeypatch, CHURN_API_KEYS_FILE=path, CHURN_API_WORKERS=0
    )
    assert f"CHURN_API_KEYS_FILE is '{path}': {path} is not a valid key file:" in message
    assert "keys/0/role: Field required" in message
    assert "CHURN_API_WORKERS is '0'" in message


def test_an_empty_path_of_the_key_file_does_not_open_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "CHURN_API_KEYS_FILE is ''" in settings_message(
        load_settings, monkeypatch, CHURN_API_KEYS_FILE=""
    )


def test_a_relative_path_is_refused_and_shown_as_an_absolute_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    message = settings_message(load_settings, monkeypatch, CHURN_API_KEYS_FILE="keys.json")
    assert f"must be an absolute path, such as {tmp_path / 'keys.json'}" in message


@pytest.mark.parametrize("text", ["", "none"])
def test_the_prediction_log_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CHURN_API_PREDICTION_LOG", text)
    assert load_settings().prediction_log is None


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [16, 17, 64])
def test_the_id_key_is_the_content_of_its_file_without_the_end_of_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, ending: bytes
) -> None:
    path = tmp_path / "id.key"
    path.write_bytes(b"k" * size + ending)
    monkeypatch.setenv("CHURN_API_ID_KEY_FILE", str(path))
    assert load_settings().id_key() == b"k" * size


@pytest.mark.parametrize("size", [0, 15, 65])
def test_an_id_key_is_neither_guessable_nor_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "id.key"
    path.write_bytes(b"k" * size + b"\n")
    message = settings_message(load_settings, monkeypatch, CHURN_API_ID_KEY_FILE=path)
    assert f"the file has {size} bytes and must have 16 to 64" in message
    assert f"openssl rand -hex 32 > {path}" in message
    assert "kkk" not in message


def test_a_missing_id_key_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "none"
    message = settings_message(load_settings, monkeypatch, CHURN_API_ID_KEY_FILE=path)
    assert f"CHURN_API_ID_KEY_FILE is '{path}': {path} does not exist" in message


def test_without_a_file_the_id_key_is_random() -> None:
    settings = ServiceSettings()
    assert len({settings.id_key() for _ in range(10)}) == 10
    assert len(settings.id_key()) == 32


def test_an_id_key_file_deleted_after_the_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "id.key"
    path.write_bytes(b"k" * 32)
    settings = ServiceSettings(id_key_file=path)
    path.unlink()
    with pytest.raises(ValueError, match=r"id\.key does not exist"):
        settings.id_key()


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ServiceSettings().workers = 3  # type: ignore[misc]


@given(amount=st.integers(1, 10**6), unit=st.sampled_from(["second", "minute", "hour", "day"]))
def test_every_single_rate_limit_is_valid(amount: int, unit: str) -> None:
    for text in (f"{amount}/{unit}", f"{amount} per {unit}", f"{amount}/10 {unit}s"):
        assert ServiceSettings(rate_limit=text).rate_limit == text


def test_traces_are_sent_only_to_a_configured_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().tracing == {"excluded_urls": ".*"}
    monkeypatch.setenv("CHURN_API_OTLP_ENDPOINT", "http://collector:4318/v1/traces")
    monkeypatch.setenv("CHURN_API_OTLP_SAMPLE_RATE", "0.25")
    tracing = load_settings().tracing
    assert tracing["otlp"] == {"protocol": "http", "endpoint": "http://collector:4318/v1/traces"}
    assert (tracing["exporter_type"], tracing["sample_rate"]) == ("otlp", 0.25)


@pytest.mark.parametrize("home", ["/srv/a[b]", "/srv/a?b", "/srv/a*b"])
def test_a_home_that_is_a_pattern_is_refused(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    message = settings_message(load_settings, monkeypatch, BENTOML_HOME=home)
    assert f"BENTOML_HOME is {home!r}: a path with * ? or [ would mix up or lose" in message
    monkeypatch.setenv("BENTOML_HOME", "/srv/a b$c'd")
    assert load_settings().prediction_log == Path("/srv/a b$c'd/monitoring")


def test_the_command_of_a_message_quotes_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "my keys.json"
    message = settings_message(load_settings, monkeypatch, CHURN_API_KEYS_FILE=keys)
    assert f"--file '{keys}'" in message
    (key := tmp_path / "my id.key").write_text("short")
    message = settings_message(load_settings, monkeypatch, CHURN_API_ID_KEY_FILE=key)
    assert f"openssl rand -hex 32 > '{key}'" in message
