"""Formats of messages: headline, plain text, and JSON for Slack within its limits."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from churn_assets.core.monitoring.messages import headline, plain_text, slack_json
from churn_assets_tests.core.monitoring.sample_messages import message


def test_the_plain_text_has_everything() -> None:
    assert plain_text(message()).splitlines() == [
        "ALERT: auc_above_floor of evaluation_report",
        "ROC AUC 0.61 < 0.65 & falling",
        "since: 2026-03-01 04:05:06 UTC",
        "runbook: docs/operations.md#model-got-worse",
        "roc_auc: 0.6123",
        "limit: 0.65",
        "rows: 2883",
        "http://ui/assets/evaluation_report?view=checks&checkDetail=auc_above_floor",
    ]


def test_a_recovery_has_the_duration_of_the_incident() -> None:
    over = message(status="recovery", until=datetime(2026, 3, 3, 4, 5, 6, tzinfo=UTC))
    assert headline(over) == "RECOVERED: auc_above_floor of evaluation_report"
    assert "lasted: 2 d" in plain_text(over)


def test_text_for_slack_is_in_slacks_markup() -> None:
    body = slack_json(message())
    header, section, context = body["blocks"]
    assert header == {
        "type": "header",
        "text": {"type": "plain_text", "text": "ALERT: auc_above_floor of evaluation_report"},
    }
    assert section["text"] == {"type": "mrkdwn", "text": "ROC AUC 0.61 &lt; 0.65 &amp; falling"}
    assert {"type": "mrkdwn", "text": "*roc_auc*\n0.6123"} in section["fields"]
    assert context["elements"][0]["text"].endswith(
        "&amp;checkDetail=auc_above_floor|Open in Dagster>"
    )
    assert body["text"].startswith("ALERT: auc_above_floor")


words = st.text(max_size=5_000)


@given(words, words, st.dictionaries(words, words | st.floats() | st.integers(), max_size=30))
def test_messages_keep_slacks_limits(title: str, text: str, numbers: dict[str, Any]) -> None:
    body = slack_json(message(title=title, text=text, numbers=numbers))
    header, section, _ = body["blocks"]
    assert 1 <= len(header["text"]["text"]) <= 150
    assert 1 <= len(section["text"]["text"]) <= 3_000
    assert len(section["fields"]) <= 10
    assert all(1 <= len(field["text"]) <= 2_000 for field in section["fields"])
    json.dumps(body, allow_nan=False)
