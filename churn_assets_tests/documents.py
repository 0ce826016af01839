"""Examples and commands in documents, for the tests that run them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a document of the project, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def sent(document: str) -> list[str]:
    """The bodies that the document's curl commands send."""
    return [
        body
        for text in blocks(document, "console")
        for body in re.findall(r"-d '(.*?)'", text, re.DOTALL)
    ]


def native(home: Path) -> dict[str, str]:
    """The environment variables after `make env`, for native commands in a home."""
    script = f'eval "$(make -s -o setup env)"; "{sys.executable}" -c "{SHOW_ENVIRONMENT}"'
    variables: dict[str, str] = json.loads(bash(script, os.environ | {"CHURN_HOME": str(home)}))
    return variables


def bash(script: str, variables: Mapping[str, str]) -> str:
    """Runs a script, none of whose commands may fail, and returns its output."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=variables, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
