"""The documents on operations agree with the definitions and the settings."""

import re

from churn_assets.operations import document
from churn_assets.settings import Settings
from churn_assets_tests.documents import ROOT

OPERATIONS = (ROOT / "docs/operations.md").read_text()


def test_the_automation_document_is_current() -> None:
    assert (ROOT / "docs/automation.md").read_text() == document(), "run `make docs`"


def test_every_runbook_says_what_you_see_how_to_check_and_what_to_do() -> None:
    _, *runbooks = re.split(r"^### ", OPERATIONS.split("## Runbooks")[1], flags=re.MULTILINE)
    assert len(runbooks) >= 9
    for runbook in runbooks:
        for part in ("**You see**", "**Check**", "**Do**"):
            assert part in runbook, runbook.splitlines()[0]


def test_every_named_variable_is_a_setting() -> None:
    names = set(re.findall(r"CHURN_[A-Z_]+[A-Z]", OPERATIONS))
    service = (ROOT / "bento/README.md").read_text()
    for name in names - {"CHURN_HOME", "CHURN_CONTRACT"}:
        if name.startswith(("CHURN_API_", "CHURN_SHIP_")):
            assert name in service
            continue
        part, *inner = name.removeprefix("CHURN_").lower().split("__")
        field = Settings.model_fields[part]
        if inner:
            assert inner[0] in field.annotation.model_fields  # type: ignore[union-attr]
