"""helm for the tests of the chart."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from churn_assets_tests.charts.rendering import REPO

HELM = "helm.sh/helm/v3/cmd/helm@v3.19.5"
TOOLS = REPO / ".tools" / "bin"


def _installed() -> Path:
    """Installs helm by `go install`, or skips the tests where that is impossible."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("neither helm nor go is on the PATH: install one of them")
    environment = {**os.environ, "GOBIN": str(TOOLS)}
    done = subprocess.run([go, "install", HELM], env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"helm is not on the PATH, and `go install {HELM}` failed: {reason}")
    return TOOLS / "helm"


@pytest.fixture(scope="session")
def helm() -> Path:
    """helm of the PATH or of .tools/bin, where it is installed if need be."""
    found = shutil.which("helm") or shutil.which("helm", path=TOOLS)
    return Path(found) if found else _installed()
