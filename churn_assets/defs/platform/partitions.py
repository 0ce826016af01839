"""The months of the graph. Partition 2026-03 is the state at the end of March 2026."""

import dagster as dg
import pandas as pd

from churn_assets.settings import latest_closed_month

FORMAT = "%Y-%m"


def closed_months(first: str) -> dg.TimeWindowPartitionsDefinition:
    """Every month that is over, from `first` on."""
    return dg.MonthlyPartitionsDefinition(start_date=first, fmt=FORMAT)


def labelled_months(first: str, horizon: int) -> dg.TimeWindowPartitionsDefinition:
    """Every month whose horizon is over too: an unknown label is a partition not there yet."""
    return dg.MonthlyPartitionsDefinition(start_date=first, fmt=FORMAT, end_offset=-horizon)


def one_month(month: str | None) -> dg.TimeWindowPartitionsDefinition:
    """The only month of a source with a single snapshot; the latest closed one by default."""
    only = pd.Period(month or latest_closed_month(), freq="M")
    return dg.MonthlyPartitionsDefinition(start_date=str(only), end_date=str(only + 1), fmt=FORMAT)
