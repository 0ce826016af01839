"""The audit log's own command, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets_tests.documents import ROOT


def command(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "churn_assets.audit", *arguments],
        env=os.environ | {"CHURN_HOME": str(home)} | settings, cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_it_lists_and_verifies(tmp_path: Path) -> None:
    AuditLog(Lake(str(tmp_path / "lake"))).append(
        action="promotion", actor="ada", subject="churn_telecom", reason="the first", after="1"
    )
    listed = command(tmp_path, "list")
    assert "promotion   churn_telecom  none -> 1  by ada: the first" in listed.stdout, listed.stderr
    verified = command(tmp_path, "verify")
    assert (verified.returncode, verified.stdout[:9]) == (0, "1 entries")


def test_a_wrong_setting_ends_with_2(tmp_path: Path) -> None:
    wrong = command(tmp_path, "verify", CHURN_SEED="many")
    assert (wrong.returncode, "CHURN_SEED is 'many'" in wrong.stdout) == (2, True)
