"""Formats of a message about an incident: one line, plain text, or the JSON for Slack."""

from datetime import UTC
from typing import Any

from churn_assets.core.monitoring.incidents import Message, Number

MARKS = {"alert": "ALERT", "recovery": "RECOVERED", "notice": "NOTICE"}
SLACK_TITLE, SLACK_TEXT, SLACK_FIELD, SLACK_FIELDS = 150, 3_000, 2_000, 10
"""Slack's limits: characters of a header, a section and a field; fields of a section."""


def headline(message: Message) -> str:
    """One line, such as `ALERT: no_feature_drift of drift_report, 2026-03`."""
    return " ".join(f"{MARKS[message.status]}: {message.title}".split())


def plain_text(message: Message) -> str:
    """The whole message without markup."""
    facts = [f"{name}: {_value(value)}" for name, value in _facts(message)]
    return "\n".join([headline(message), message.text, *facts, message.link]).strip()


def slack_json(message: Message) -> dict[str, Any]:
    """JSON body for Slack's incoming webhooks: blocks, and a text where blocks are not shown."""
    fields = [
        _mrkdwn(f"*{_escaped(name)}*\n{_escaped(str(_value(value)))}"[:SLACK_FIELD])
        for name, value in _facts(message)[:SLACK_FIELDS]
    ]
    link = f"<{_escaped(message.link)}|Open in Dagster>"
    title = {"type": "plain_text", "text": headline(message)[:SLACK_TITLE]}
    text = _escaped(message.text.strip() or headline(message))[:SLACK_TEXT]
    return {
        "text": f"{_escaped(headline(message))}\n{text}\n{link}",
        "blocks": [
            {"type": "header", "text": title},
            {"type": "section", "text": _mrkdwn(text), "fields": fields},
            {"type": "context", "elements": [_mrkdwn(link)]},
        ],
    }


def _facts(message: Message) -> list[tuple[str, Number]]:
    """Facts of the message, most important first: since, duration, runbook, then the numbers."""
    facts: list[tuple[str, Number]] = [
        ("since", f"{message.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    ]
    if message.until:
        facts.append(("lasted", message.lasted))
    if message.runbook and message.status != "recovery":
        facts.append(("runbook", message.runbook))
    return [*facts, *message.numbers.items()]


def _value(value: Number) -> Number:
    return f"{value:.4g}" if isinstance(value, float) else value


def _mrkdwn(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text}


def _escaped(text: str) -> str:
    """Text escaped by Slack's rules."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
