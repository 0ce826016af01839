"""Monthly partitions of the graph. Partition 2026-03 is the state at the end of March 2026."""

import dagster as dg
import pandas as pd

from churn_assets.settings import latest_closed_month

FORMAT = "%Y-%m"


def closed_months(first: str) -> dg.TimeWindowPartitionsDefinition:
    """Returns a partition per month that is over, from `first` on."""
    return dg.MonthlyPartitionsDefinition(start_date=first, fmt=FORMAT)


def labelled_months(first: str, horizon: int) -> dg.TimeWindowPartitionsDefinition:
    """Returns a partition per month whose horizon is over too, so that its labels are known."""
    return dg.MonthlyPartitionsDefinition(start_date=first, fmt=FORMAT, end_offset=-horizon)


def one_month(month: str | None) -> dg.TimeWindowPartitionsDefinition:
    """Returns the partition of a single snapshot, by default the latest closed month."""
    only = pd.Period(month or latest_closed_month(), freq="M")
    return dg.MonthlyPartitionsDefinition(start_date=str(only), end_date=str(only + 1), fmt=FORMAT)
