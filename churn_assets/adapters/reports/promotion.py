"""The comparison of challenger and champion as markdown, for the asset's metadata."""

from churn_assets.adapters.reports.words import interval, number
from churn_assets.core.governance.promotion import Comparison


def comparison_table(comparison: Comparison) -> str:
    """Table of both models on the same test rows, and their difference with its 95% interval."""
    money = f"Profit per customer, {comparison.currency}"
    rows = [
        ("", "Challenger", "Champion", "Gained (95% interval)"),
        ("---", "---", "---", "---"),
        ("ROC AUC", number(comparison.challenger_auc, 4), number(comparison.champion_auc, 4),
         interval(comparison.auc_gained, 4)),
        (money, number(comparison.challenger_profit, 3), number(comparison.champion_profit, 3),
         interval(comparison.profit_gained, 3)),
    ]  # fmt: skip
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{table}\n\n{comparison.rows:,} test rows, {comparison.positives:,} of them churned; "
        f"{comparison.resamples:,} resamples."
    )
