"""Scenarios of the simulated operator: changes of its customers and data, and faulty rows."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

Scenario = Literal["stable", "price_shock", "unit_bug", "new_category", "dirty"]
SCENARIOS: tuple[str, ...] = get_args(Scenario)

PRICE_RISE = 1.3
PRICE_LOG_ODDS = 0.9
"""Log odds of leaving that a price rise adds in its first month."""
PRICE_LOG_ODDS_DECAY = 0.85
"""Factor by which they decay from month to month."""

NEW_CITY, NEW_CITY_SHARE = "New Meridian", 0.08
WALLET, WALLET_SHARE = "Digital wallet", 0.01
MEGABYTES = 1024.0
DIRTY_SHARE = 0.06
SECOND_FAULT_SHARE = 0.2

Fault = tuple[str, Callable[[Any, np.random.Generator], Any]]
FAULTS: tuple[Fault, ...] = (
    ("age", lambda _, rng: int(rng.choice([-1, 0, 5, 17, 111, 199, 999]))),
    ("age", lambda _, rng: str(rng.choice(["unknown", "n/a", "forty"]))),
    ("tenure", lambda value, _: -1 - int(value)),
    ("tenure", lambda _, rng: _date(rng)),
    ("late_payments", lambda _, rng: str(rng.choice(["none", "?", "two"]))),
    ("usage_days", lambda _, rng: int(rng.integers(32, 99))),
    ("avg_monthly_charges", lambda value, _: f"{value:.2f}".replace(".", ",")),
    ("avg_monthly_charges", lambda value, _: f"EUR {value:.2f}"),
    ("avg_monthly_charges", lambda _, rng: _date(rng)),
    ("avg_data_usage", lambda _, __: "NaN"),
    ("avg_data_usage", lambda _, __: np.inf),
    ("avg_call_minutes", lambda _, __: 1e300),
    ("contract_type", lambda _, rng: str(rng.choice(["Three year", "month to month", "M2M"]))),
    ("location", lambda value, _: (f"{value} " * 300)[:300]),
    ("customer_id", lambda _, rng: str(rng.choice(["", "  "]))),
)
"""A column, and a function of its value and a generator that returns a faulty value."""


def price_factor(scenario: Scenario) -> float:
    """Returns the factor of every bill while the scenario is active."""
    return PRICE_RISE if scenario == "price_shock" else 1.0


def extra_log_odds(scenario: Scenario, months: int) -> float:
    """Returns the log odds added to every hazard `months` after the start of the scenario."""
    return PRICE_LOG_ODDS * PRICE_LOG_ODDS_DECAY**months if scenario == "price_shock" else 0.0


def faulty_share(scenario: Scenario, usual: float) -> float:
    """Returns the share of rows that the source delivers with faults."""
    return max(usual, DIRTY_SHARE) if scenario == "dirty" else usual


def delivered(frame: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    """Returns the customers as the source delivers them: true values, changed by the scenario.

    Args:
        frame: Clean rows; `customer_id` is one letter and a number.
    """
    if scenario == "unit_bug":
        return frame.assign(avg_data_usage=frame["avg_data_usage"] * MEGABYTES)
    if scenario == "new_category":
        numbers = frame["customer_id"].str[1:].astype("int64").to_numpy()
        moved = _evenly(numbers, np.sqrt(5.0)) < NEW_CITY_SHARE
        switched = _evenly(numbers, np.sqrt(2.0)) < WALLET_SHARE
        return frame.assign(
            location=frame["location"].mask(moved, NEW_CITY),
            payment_method=frame["payment_method"].mask(switched, WALLET),
        )
    return frame


def spoil(frame: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
    """Spoils rows of a telecom snapshot with faults that are typical of real data.

    A spoiled row has one or two faulty cells, or is repeated. The arguments are not modified,
    except for the state of `rng`.

    Args:
        frame: Clean rows with the columns of `FAULTS` and a unique index.
        share: Expected share of the rows to spoil, from 0 to 1.

    Returns:
        The rows in their order with a new index, repeated rows next to each other. Columns with a
        fault have dtype object.
    """
    rows = np.flatnonzero(rng.random(len(frame)) < share)
    # One kind more than the kinds of faulty cells: the repeated row.
    kinds = rng.integers(len(FAULTS) + 1, size=len(rows))
    repeated = kinds == len(FAULTS)
    second = rng.integers(len(FAULTS), size=len(rows))
    also = ~repeated & (rng.random(len(rows)) < SECOND_FAULT_SHARE)
    spoiled = _with_faults(
        frame,
        np.concatenate([rows[~repeated], rows[also]]),
        np.concatenate([kinds[~repeated], second[also]]),
        rng,
    )
    times = np.ones(len(frame), dtype=np.int64)
    times[rows[repeated]] = 2
    return spoiled.iloc[np.repeat(np.arange(len(frame)), times)].reset_index(drop=True)


def _with_faults(
    frame: pd.DataFrame,
    rows: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> pd.DataFrame:
    columns: dict[str, npt.NDArray[np.object_]] = {}
    for kind, (name, fault) in enumerate(FAULTS):
        hit = rows[kinds == kind]
        if len(hit) == 0:
            continue
        if name not in columns:
            columns[name] = frame[name].astype(object).to_numpy(copy=True)
        columns[name][hit] = [fault(value, rng) for value in frame[name].iloc[hit].tolist()]
    return frame.assign(**{name: pd.Series(v, frame.index, object) for name, v in columns.items()})


def _date(rng: np.random.Generator) -> str:
    return f"{rng.integers(2015, 2024)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}"


def _evenly(numbers: npt.NDArray[Any], step: float) -> npt.NDArray[np.float64]:
    """Spreads whole numbers evenly over [0, 1) by a Weyl sequence; each has one fixed value."""
    return np.asarray(numbers * step % 1.0, dtype=np.float64)
