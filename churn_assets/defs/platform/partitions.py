"""Monthly partitions of the graph. Partition 2026-03 is the state at the end of March 2026."""

from collections.abc import Collection, Iterable, Mapping

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


def without_partition(found: Mapping[str, Collection[str]], first: str, last: str) -> str:
    """Describes the months of a source that have no partition, and the setting that adds one.

    Args:
        found: Months by the path of the file or files that have them.
        first: First month with a partition.
        last: Last month with a partition: the latest closed one.

    Returns:
        A sentence for each path; "" if every month has a partition.
    """
    return ". ".join(
        f"{path} has {_ranges(months)}{''.join(hints)}"
        for path, months in found.items()
        if (hints := list(_hints(months, first, last)))
    )


def _hints(months: Collection[str], first: str, last: str) -> Iterable[str]:
    if early := [month for month in months if month < first]:
        yield (
            f"; set CHURN_FIRST_MONTH={min(early)} to use {_ranges(early)}, because the first "
            f"partition is {first}"
        )
    if late := [month for month in months if month > last]:
        yield f"; {_ranges(late)} cannot be used yet, because the latest closed month is {last}"


def _ranges(months: Iterable[str]) -> str:
    """Text such as `2023-05, 2023-07 to 2023-11`."""
    runs: list[list[pd.Period]] = []
    for month in sorted(pd.Period(month, freq="M") for month in months):
        if runs and runs[-1][-1] + 1 == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
