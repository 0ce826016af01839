"""A sample message for the tests of messages and of their delivery."""

from datetime import UTC, datetime
from typing import Any

from churn_assets.core.monitoring.incidents import Message


def message(**changes: Any) -> Message:
    return Message(
        **{
            "id": "7:check",
            "status": "alert",
            "kind": "check",
            "title": "auc_above_floor of evaluation_report",
            "text": "ROC AUC 0.61 < 0.65 & falling",
            "numbers": {"roc_auc": 0.612345, "limit": 0.65, "rows": 2883},
            "since": datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC),
            "link": "http://ui/assets/evaluation_report?view=checks&checkDetail=auc_above_floor",
            "runbook": "docs/operations.md#model-got-worse",
            **changes,
        }
    )
