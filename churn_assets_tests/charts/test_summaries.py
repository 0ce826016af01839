"""The examples create what summaries.yaml says."""

from pathlib import Path

import pytest

from churn_assets_tests.charts.rendering import EXAMPLES, loaded
from churn_assets_tests.charts.summaries import FILE, summary

pytestmark = pytest.mark.charts


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_create_what_their_summary_says(helm: Path, name: str) -> None:
    wanted = loaded(FILE)[name]
    assert summary(helm, name) == wanted, (
        "where the change is wanted, run `python -m churn_assets_tests.charts.summaries`"
    )
