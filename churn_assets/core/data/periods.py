"""The periods of a training set: which ones it has, and which ones it leaves out, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from churn_assets.core.verdict import Verdict


@dataclass(frozen=True)
class TrainingPeriods:
    """The periods of the training window, in order.

    Attributes:
        used: Periods that the training set has.
        left_out: Reasons for leaving a period out, by period.
    """

    used: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]


def choose_periods(
    known: Sequence[str],
    published: Mapping[str, Collection[str]],
    shut: Mapping[str, Sequence[str]],
    most: int,
) -> TrainingPeriods:
    """Chooses the latest periods that every table has and whose gate is open.

    The window starts with the first of them. If there are fewer than allowed, it starts with the
    first period that would have been chosen but for its gate. It ends with the last period that was
    chosen or that has a shut gate: a later period may still be delivered.

    Args:
        known: Periods whose labels can be known, in order.
        published: Periods that each table has, by the name of the table.
        shut: Failed checks of each period whose gate is shut.
        most: Largest number of periods to choose.
    """
    complete = [p for p in known if p not in shut and all(p in has for has in published.values())]
    used = complete[-most:]
    reasons = {
        period: tuple(shut[period])
        for period in known
        if period in shut and (len(used) < most or period > used[0])
    }
    window = sorted([*used, *reasons])
    for period in known:
        if window and window[0] < period < window[-1] and period not in window:
            absent = (name for name, periods in published.items() if period not in periods)
            reasons[period] = tuple(f"{name} was never materialised" for name in absent)
    return TrainingPeriods(tuple(used), dict(sorted(reasons.items())))


def training_periods_complete(periods: TrainingPeriods) -> Verdict:
    """No period of the training window is left out."""
    window, left_out = sorted([*periods.used, *periods.left_out]), periods.left_out
    lines = [f"\n  - {period}: {why}" for period, reasons in left_out.items() for why in reasons]
    return Verdict(
        not left_out,
        f"{len(periods.used)} of {len(window)} periods from {window[0]} to {window[-1]} are in the "
        f"training set{'; left out:' if lines else '.'}{''.join(lines)}",
        {"periods": len(window), "periods_used": len(periods.used)},
    )
