"""The preflight checks pass where the platform works, and name each system that does not."""

from pathlib import Path

import pytest

from churn_assets.adapters.lake import Lake
from churn_assets.preflight import CHECKS, main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return tmp_path


def test_every_check_passes_on_the_embedded_default(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0
    *tried, last = capsys.readouterr().out.splitlines()
    names = list(CHECKS)
    assert [line.split(":")[0] for line in tried] == [f"ok        {one}" for one in names[:-1]]
    assert last.startswith("not tried predictions: ")
    assert not list((home / "reports").iterdir())
    (home / "predictions/telecom").mkdir(parents=True)
    assert main() == 0, "a second run finds the first one's table"
    assert "ok        predictions: 0 entries" in capsys.readouterr().out


def test_each_system_that_does_not_work_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("DAGSTER_HOME", str(home / "absent"))
    monkeypatch.setenv("CHURN_LAKE", str(home / "file/lake"))
    monkeypatch.setenv("CHURN_REPORTS", str(home / "file/reports"))
    assert main() == 1
    lines = capsys.readouterr().out.splitlines()
    states = {line[10:].split(":")[0]: line[:10].strip() for line in lines if ":" in line}
    assert states["dagster_storage"] == states["lake"] == states["reports"] == "FAILED"
    assert (states["mlflow_server"], states["predictions"]) == ("ok", "not tried")


def test_a_store_that_loses_commits_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Lake.read
    monkeypatch.setattr(Lake, "read", lambda *arguments: read(*arguments).iloc[1:])
    assert main() == 1
    out = capsys.readouterr().out
    assert "FAILED    lake: PreflightError: 7 of 8 concurrent commits are left" in out


def test_a_wrong_setting_exits_with_2(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHURN_SEED", "many")
    assert main() == 2
    assert "CHURN_SEED is 'many'" in capsys.readouterr().out
