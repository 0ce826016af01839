"""The command of the audit log, once in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.audit import main
from churn_assets_tests.documents import ROOT


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AuditLog:
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    log = AuditLog(Lake(str(tmp_path / "lake")))
    log.append(
        action="promotion", actor="ada", subject="churn_telecom", reason="the first", after="1"
    )
    return log


def test_verify_counts_the_entries(log: AuditLog) -> None:
    verified = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "churn_assets.audit", "verify"],
        env=os.environ, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (verified.returncode, verified.stdout[:9]) == (0, "1 entries"), verified.stderr


def test_list_prints_the_entries(log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "promotion   churn_telecom  none -> 1  by ada: the first" in capsys.readouterr().out


def test_verify_exits_with_1_where_a_recorded_entry_is_missing(
    log: AuditLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/promoted_model.json").write_text('{"audit_hash": "abc"}')
    assert main(["verify"]) == 1
    assert capsys.readouterr().out.startswith("Entry 2 is missing")


def test_a_wrong_setting_exits_with_2(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHURN_SEED", "many")
    assert main(["verify"]) == 2
    assert "CHURN_SEED is 'many'" in capsys.readouterr().out
