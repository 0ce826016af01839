"""Examples and commands in documents, for the tests that try them."""

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
    """What its calls of curl send."""
    return [
        body
        for text in blocks(document, "console")
        for body in re.findall(r"-d '(.*?)'", text, re.DOTALL)
    ]


def native(home: Path) -> dict[str, str]:
    """The environment after `make env`, for the native commands of a home."""
    script = f'eval "$(make -s -o setup env)"; "{sys.executable}" -c "{SHOW_ENVIRONMENT}"'
    variables: dict[str, str] = json.loads(bash(script, os.environ | {"CHURN_HOME": str(home)}))
    return variables


def bash(script: str, variables: Mapping[str, str]) -> str:
    """What a script prints that no command of it fails in."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=variables, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
