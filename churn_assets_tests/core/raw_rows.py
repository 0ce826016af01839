"""Raw rows of the telecom contract for tests: one valid customer, with changes."""

from typing import Any

import pandas as pd

from churn_assets.contracts.schemas import SOURCE_ROW, TEXT

GOOD = {
    "customer_id": "a",
    "age": "30",
    "gender": "Male",
    "location": "Berlin",
    "contract_type": "One year",
    "payment_method": "Credit card",
    "avg_data_usage": "3.5",
    "avg_call_minutes": "120.25",
    "usage_days": "10",
    "avg_monthly_charges": "35.5",
    "late_payments": "0",
    "tenure": "5",
}


def raw(*changes: dict[str, Any]) -> pd.DataFrame:
    """Returns one row per change, with ids c0, c1, ... unless they are changed."""
    rows = [GOOD | {"customer_id": f"c{i}"} | change for i, change in enumerate(changes)]
    return pd.DataFrame(rows, dtype=TEXT, columns=list(GOOD)).assign(
        **{SOURCE_ROW: range(len(rows))}
    )
