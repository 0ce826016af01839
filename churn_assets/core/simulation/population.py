"""Customers of the simulated operator: traits, monthly changes, and hazard of leaving."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
People = dict[str, Array]
"""One array of shape (customers,) per trait, in the order of `number`; categories as codes."""

GENDERS = ("Male", "Female", "Other")
GENDER_SHARES = np.array([0.49, 0.49, 0.02])
CITIES = (
    "Northbridge", "Port Ellis", "Kingsford", "Aldermoor", "Westhaven", "Stonebury", "Larkfield",
    "Easton", "Millbrook", "Harrowgate", "Fairwater", "Redcliff", "Ashdown", "Silverton",
    "Brookhurst", "Oakridge", "Thornbury", "Glenmore", "Whitby Cross", "Penrose",
)  # fmt: skip
CITY_SHARES = 1.0 / np.arange(1, len(CITIES) + 1)
CONTRACTS = ("Month-to-month", "One year", "Two year")
CONTRACT_SHARES = np.array([0.70, 0.20, 0.10])
PAYMENTS = ("Credit card", "Bank transfer", "Electronic check", "Mailed check")
PAYMENT_SHARES = np.array([0.32, 0.28, 0.28, 0.12])
ELECTRONIC_CHECK = PAYMENTS.index("Electronic check")

PLAN_GIGABYTES = np.array([5.0, 15.0, 40.0, np.inf])
PLAN_FEES = np.array([17.0, 27.0, 42.0, 62.0])
DISCOUNTS = np.array([1.0, 0.93, 0.86])
"""Share of the fee that is due under each contract."""
EURO_PER_EXTRA_GIGABYTE, MOST_EXTRA, EURO_PER_MINUTE = 0.8, 25.0, 0.02

ENGAGEMENT_AUTOCORRELATION = 0.85
"""Autocorrelation of a customer's engagement from month to month."""
TO_ONE_YEAR, TO_TWO_YEARS, TO_MONTHLY = 0.01, 0.15, 0.2
"""Probabilities of a one-year contract each month, and of a two-year or monthly one at renewal."""
CHANGE_OF_PAYMENT = 0.01
NO_CALL_RECORDS = 0.01
OLDEST = 100
"""Maximum age that is reported."""

PILOT_CUSTOMERS, PILOT_MONTHS = 4_000, 120
LIFE, NEWCOMERS, CHURN, DIRT, START, PILOT = range(1, 7)
"""Purposes of random numbers, each with a generator of its own."""


def generator(seed: int, month: int, purpose: int) -> np.random.Generator:
    """Returns the generator of one purpose, so that its draws never affect the other purposes."""
    return np.random.default_rng([seed, month, purpose])


def hazard(customers: Mapping[str, Array], extra_log_odds: float = 0.0) -> Array:
    """Returns the probability of leaving within the next month.

    Args:
        customers: Columns of the snapshot; `contract_type` and `payment_method` as positions in
            `CONTRACTS` and `PAYMENTS`.
        extra_log_odds: Log odds that are added for every customer.

    Returns:
        Float64 of shape (n,).
    """
    contract = customers["contract_type"]
    charges = customers["avg_monthly_charges"]
    euro_per_gigabyte = charges / np.maximum(customers["avg_data_usage"], 1.0)
    log_odds = (
        -3.75
        + np.array([0.0, -0.9, -2.1])[contract]
        + 1.3 * np.exp(customers["tenure"] / -9.0)
        + 0.35 * customers["late_payments"]
        + 0.09 * np.maximum(16 - customers["usage_days"], 0)
        + 0.6 * (customers["payment_method"] == ELECTRONIC_CHECK)
        + 0.45 * np.log(np.maximum(euro_per_gigabyte, 0.1) / 3.0)
        # A high bill drives away customers on a monthly contract.
        + 1.0 * (contract == 0) * np.clip((charges - 35.0) / 20.0, 0.0, 2.0)
        # Young and old customers leave more often than the others.
        + 0.45 * ((customers["age"] - 48) / 18.0) ** 2
    )
    return _expit(log_odds + extra_log_odds)


def next_month(
    people: People, left: Array, newcomers: np.random.Generator, life: np.random.Generator
) -> People:
    """Replaces the customers who left and simulates the next month of all customers.

    No number is ever used twice: new numbers continue from the highest one in `people`, which is
    always in use, because every customer who leaves is replaced by one with a higher number.

    Args:
        people: Customers at the close of a month, by rising `number`.
        left: Mask of the customers who left, bool of shape (customers,).
        newcomers: Generator of the new customers.
        life: Generator of the changes in the month.

    Returns:
        The same number of customers at the close of the next month, by rising `number`.
    """
    new = _newcomers(int(left.sum()), int(people["number"][-1]) + 1, newcomers)
    stay = {name: people[name][~left] for name in new}
    stay["age_months"] += 1
    stay["tenure"] += 1
    return _simulate_month({name: np.concatenate([stay[name], new[name]]) for name in new}, life)


def _newcomers(count: int, first_number: int, rng: np.random.Generator) -> People:
    habit = rng.normal(2.3, 0.8, count)
    wish = np.exp(habit + rng.normal(0.1, 0.4, count))
    return {
        "number": np.arange(first_number, first_number + count),
        "age_months": (12 * (18 + 66 * rng.beta(1.7, 2.4, count))).astype(np.int32),
        "tenure": np.zeros(count, dtype=np.int32),
        "gender": _draw(GENDER_SHARES, count, rng),
        "city": _draw(CITY_SHARES, count, rng),
        "contract": _draw(CONTRACT_SHARES, count, rng),
        "payment": _draw(PAYMENT_SHARES, count, rng),
        "plan": np.searchsorted(PLAN_GIGABYTES, wish).astype(np.int8),
        "habit": habit.astype(np.float32),
        "talk": rng.normal(4.9, 0.7, count).astype(np.float32),
        "tardiness": rng.normal(-2.9, 1.4, count).astype(np.float32),
        "late_bills": np.zeros(count, dtype=np.uint16),
        "engagement": rng.standard_normal(count, dtype=np.float32),
    }


def _simulate_month(people: People, rng: np.random.Generator) -> People:
    """Simulates a month: engagement, usage, bills, and changes of contract and payment."""
    count = len(people["number"])
    drive, gigabytes, minutes, days = rng.standard_normal((4, count), dtype=np.float32)
    late, renewal, switch, silent = rng.random((4, count), dtype=np.float32)
    engagement = ENGAGEMENT_AUTOCORRELATION * people["engagement"]
    engagement += np.float32(np.sqrt(1.0 - ENGAGEMENT_AUTOCORRELATION**2)) * drive
    bits = people["late_bills"]
    is_late = late < _expit(people["tardiness"] + np.float32(0.8) * (bits & 1))
    # One bit for each of the last twelve bills; the first bill comes after a month.
    billed = ((1 << np.minimum(people["tenure"], 12)) - 1).astype(np.uint16)
    talked = np.exp(people["talk"] + 0.25 * engagement + 0.15 * minutes)
    return people | {
        "engagement": engagement,
        "data": np.exp(people["habit"] + 0.3 * engagement + 0.12 * gigabytes),
        "minutes": np.where(silent < NO_CALL_RECORDS, np.float32(np.nan), talked),
        "days": np.rint(31 * _expit(1.4 + 1.1 * engagement + 0.5 * days)).astype(np.int8),
        "late_bills": ((bits << 1) | is_late) & billed,
        "contract": _renewed(people["contract"], people["tenure"], renewal),
        "payment": np.where(
            switch < CHANGE_OF_PAYMENT,
            _pick(PAYMENT_SHARES, switch / CHANGE_OF_PAYMENT),
            people["payment"],
        ),
    }


def _renewed(contract: Array, tenure: Array, draws: Array) -> Array:
    """Returns the contracts after customers moved to a longer one or back to a monthly one."""
    renews = (contract > 0) & (tenure % 12 == 0) & (tenure > 0)
    # A contract of two years is up for renewal every second year.
    renews &= (contract == 1) | (tenure % 24 == 0)
    two_years = renews & (contract == 1) & (draws < TO_TWO_YEARS)
    longer = np.where(contract == 0, draws < TO_ONE_YEAR, two_years)
    ended = renews & (draws > 1.0 - TO_MONTHLY)
    return np.where(ended, 0, contract + longer).astype(np.int8)


def steady_state(customers: int, seed: int) -> People:
    """Returns the operator's first customers, in its steady state.

    Customers who stay long differ from new ones, so the steady state has no closed form: a small
    pilot population is simulated for ten years and then multiplied, with noise on its dates as in a
    smoothed bootstrap (Silverman and Young, "The bootstrap: to smooth or not to smooth?",
    Biometrika 1987).

    Args:
        customers: Number of customers.
        seed: Seed of the pilot and of the differences between customers.

    Returns:
        Customers by rising `number`, from 1.
    """
    start = generator(seed, 0, START)
    pilot = _newcomers(min(customers, PILOT_CUSTOMERS), 1, start)
    size = len(pilot["number"])
    # Start near the steady state, without a wave of customers of the same tenure.
    pilot["tenure"] = start.geometric(1 / 40, size).astype(np.int32) % 180
    pilot = _simulate_month(pilot, start)
    for month in range(PILOT_MONTHS):
        rng = generator(seed, month, PILOT)
        left = rng.random(size) < hazard(snapshot_columns(pilot, 1.0))
        pilot = next_month(pilot, left, rng, rng)
    return _multiplied(pilot, customers, start)


def _multiplied(pilot: People, customers: int, rng: np.random.Generator) -> People:
    copies = np.arange(customers) % len(pilot["number"])
    tenure, age = pilot["tenure"][copies], pilot["age_months"][copies]
    tenure = tenure + rng.integers(-(tenure // 12), tenure // 12 + 1, dtype=np.int32)
    age = np.maximum(age + rng.integers(-36, 37, customers, dtype=np.int32), 12 * 18 + tenure)
    # The earliest customer has the lowest number.
    order = np.argsort(-tenure, kind="stable")
    fresh = _newcomers(customers, 1, rng)
    people = {name: pilot[name][copies][order] for name in fresh}
    people |= {"tenure": tenure[order], "age_months": age[order]}
    # Traits that do not affect the hazard are drawn again.
    people |= {name: fresh[name] for name in ("number", "gender", "city", "talk")}
    return _simulate_month(people, rng)


def snapshot_columns(people: People, prices: float) -> People:
    """Returns the snapshot's columns except the id, rounded as delivered, with codes for text.

    Args:
        prices: Factor by which every bill is multiplied.
    """
    data = np.round(people["data"].astype(np.float64), 2)
    minutes = np.round(people["minutes"].astype(np.float64), 1)
    fee = PLAN_FEES[people["plan"]] * DISCOUNTS[people["contract"]]
    extra = EURO_PER_EXTRA_GIGABYTE * np.maximum(data - PLAN_GIGABYTES[people["plan"]], 0.0)
    calls = EURO_PER_MINUTE * np.nan_to_num(minutes)
    bill = fee + np.minimum(extra, MOST_EXTRA) + calls
    return {
        "age": np.minimum(people["age_months"] // 12, OLDEST),
        "gender": people["gender"],
        "location": people["city"],
        "contract_type": people["contract"],
        "payment_method": people["payment"],
        "avg_data_usage": data,
        "avg_call_minutes": minutes,
        "usage_days": people["days"],
        "avg_monthly_charges": np.round(prices * bill, 2),
        "late_payments": np.bitwise_count(people["late_bills"]),
        "tenure": people["tenure"],
    }


def _draw(shares: Array, count: int, rng: np.random.Generator) -> Array:
    return _pick(shares, rng.random(count))


def _pick(shares: Array, draws: Array) -> Array:
    """Converts uniform draws from [0, 1) to codes with the given shares."""
    bounds = np.cumsum(shares) / np.sum(shares)
    return np.searchsorted(bounds[:-1], draws, side="right").astype(np.int8)


def _expit(log_odds: Array) -> Array:
    from scipy.special import expit  # takes a fifth of a second to import

    return np.asarray(expit(log_odds))
