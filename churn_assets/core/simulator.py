"""A simulated mobile operator behind the contract `telecom`, with a known hazard of leaving."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from churn_assets.core import scenarios
from churn_assets.core.scenarios import Scenario

Array = npt.NDArray[Any]
People = dict[str, Array]
"""One array of shape (customers,) a trait, in the order of `number`; categories as codes."""

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
"""Part of the fee that is due under each contract."""
EURO_PER_EXTRA_GIGABYTE, MOST_EXTRA, EURO_PER_MINUTE = 0.8, 25.0, 0.02

ENGAGEMENT_KEPT = 0.85
"""Autocorrelation of a customer's engagement from month to month."""
TO_YEAR, TO_TWO, TO_NONE = 0.01, 0.15, 0.2
"""Chances of a one-year contract each month; of a two-year one, or none, at every renewal."""
CHANGE_OF_PAYMENT = 0.01
NO_CALL_RECORDS = 0.01
OLDEST = 100
"""Ages are reported up to here."""

PILOT_CUSTOMERS, PILOT_MONTHS = 4_000, 120
# Purposes of random numbers. Each (seed, month, purpose) has a generator of its own, so that what
# one of them draws never moves the others.
LIFE, NEWCOMERS, LEAVERS, DIRT, START, PILOT = range(1, 7)


@dataclass(frozen=True)
class Simulator:
    """An operator whose customers age, change contracts, pay late and leave.

    Its frames are a function of its settings and of the month alone, in whatever order they are
    asked for. The number of customers is constant: who leaves is replaced by somebody new.

    Attributes:
        customers: at the close of every month.
        seed: of all random numbers, from 0.
        scenario: what befalls the operator.
        scenario_month: YYYY-MM from which the scenario acts, None for always. The months before
            it are those of `stable`, bit by bit.
        since: first month of the operator, YYYY-MM.
        dirt: share of faulty rows in a snapshot.
    """

    customers: int = 20_000
    seed: int = 0
    scenario: Scenario = "stable"
    scenario_month: str | None = None
    since: str = "2024-01"
    dirt: float = 0.003
    _kept: dict[int, People] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The first month's state and the last two asked for: time saved, never another answer."""

    def __post_init__(self) -> None:
        if self.customers < 1:
            raise ValueError(f"customers is {self.customers}: must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: must be at least 0")
        if self.scenario not in scenarios.SCENARIOS:
            known = ", ".join(scenarios.SCENARIOS)
            raise ValueError(f"scenario is {self.scenario!r}: must be one of {known}")
        if not 0 <= self.dirt <= 1:
            raise ValueError(f"dirt is {self.dirt}: must be a share from 0 to 1")
        self._begin()

    def snapshot(self, month: str) -> pd.DataFrame:
        """The customers at the close of a month (YYYY-MM), as the source delivers them.

        Returns:
            One row a customer in the order of their numbers, spoiled ones among them: text as
            string[pyarrow], whole numbers int64, other numbers float64; columns with a fault
            are object.

        Raises:
            ValueError: the month is malformed or before `since`.
        """
        index = self._index(month)
        scenario = self._scenario(index)
        frame = scenarios.delivered(_frame(self._people(index), self._prices(index)), scenario)
        share = scenarios.faulty_share(scenario, self.dirt)
        return scenarios.spoil(frame, share, _rng(self.seed, index, DIRT))

    def labels(self, month: str) -> pd.DataFrame:
        """Who of the month's customers left within the month after it.

        Returns:
            Columns customer_id (string[pyarrow]) and churned (bool), each customer once.

        Raises:
            ValueError: the month is malformed or before `since`.
        """
        index = self._index(month)
        people = self._people(index)
        return pd.DataFrame(
            {"customer_id": _ids(people["number"]), "churned": self._leavers(people, index)}
        )

    def true_hazard(self, month: str) -> pd.Series:
        """The probability from which each label of the month was drawn.

        Returns:
            Float64 by customer_id, in the order of `labels`.

        Raises:
            ValueError: the month is malformed or before `since`.
        """
        index = self._index(month)
        people = self._people(index)
        ids = pd.Index(_ids(people["number"]), name="customer_id")
        return pd.Series(self._hazard(people, index), index=ids, name="hazard")

    def _index(self, month: str) -> int:
        index = _months(month) - _months(self.since)
        if index < 0:
            raise ValueError(f"month {month} is before {self.since}, the operator's first")
        return index

    def _begin(self) -> int:
        first = _months(self.since)
        return 0 if self.scenario_month is None else _months(self.scenario_month) - first

    def _scenario(self, index: int) -> Scenario:
        return self.scenario if index >= self._begin() else "stable"

    def _prices(self, index: int) -> float:
        return scenarios.price_factor(self._scenario(index))

    def _people(self, index: int) -> People:
        """State of a month, stepping on from the nearest earlier one that is at hand."""
        kept = dict(self._kept)
        first = kept.pop(0, None) or _settled(self.customers, self.seed)
        at = max((known for known in kept if known <= index), default=0)
        people = kept.pop(at, first)
        for month in range(at, index):
            newcomers = _rng(self.seed, month, NEWCOMERS)
            life = _rng(self.seed, month, LIFE)
            people = _next_month(people, self._leavers(people, month), newcomers, life)
        recent = dict(list(kept.items())[-1:]) | {index: people}
        object.__setattr__(self, "_kept", recent | {0: first})
        return people

    def _leavers(self, people: People, index: int) -> Array:
        draws = _rng(self.seed, index, LEAVERS).random(self.customers)
        return np.asarray(draws < self._hazard(people, index))

    def _hazard(self, people: People, index: int) -> Array:
        scenario = self._scenario(index)
        extra = scenarios.extra_log_odds(scenario, index - self._begin())
        return hazard(_measured(people, self._prices(index)), extra)


def hazard(customers: Mapping[str, Array], extra_log_odds: float = 0.0) -> Array:
    """Probability of leaving within the next month.

    Args:
        customers: columns of the snapshot; `contract_type` and `payment_method` as positions in
            `CONTRACTS` and `PAYMENTS`.
        extra_log_odds: added for everybody.

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
        # A high bill drives away those who are free to go.
        + 1.0 * (contract == 0) * np.clip((charges - 35.0) / 20.0, 0.0, 2.0)
        # The young and the old leave more than those between.
        + 0.45 * ((customers["age"] - 48) / 18.0) ** 2
    )
    return np.asarray(expit(log_odds + extra_log_odds))


def _next_month(
    people: People, left: Array, newcomers: np.random.Generator, life: np.random.Generator
) -> People:
    """Replaces who left and lets everybody live on for a month.

    No number is ever used twice: the highest one belongs to the people it is counted on from,
    and whenever somebody leaves, somebody with a higher one comes.
    """
    new = _newcomers(int(left.sum()), int(people["number"][-1]) + 1, newcomers)
    stay = {name: people[name][~left] for name in new}
    stay["age_months"] += 1
    stay["tenure"] += 1
    return _live({name: np.concatenate([stay[name], new[name]]) for name in new}, life)


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


def _live(people: People, rng: np.random.Generator) -> People:
    """A month of everybody: engagement, use, the bill, and decisions on contract and payment."""
    count = len(people["number"])
    drive, gigabytes, minutes, days = rng.standard_normal((4, count), dtype=np.float32)
    late, renewal, switch, silent = rng.random((4, count), dtype=np.float32)
    engagement = ENGAGEMENT_KEPT * people["engagement"]
    engagement += np.float32(np.sqrt(1.0 - ENGAGEMENT_KEPT**2)) * drive
    bits = people["late_bills"]
    is_late = late < expit(people["tardiness"] + np.float32(0.8) * (bits & 1))
    # A bit for each of the last twelve bills; the first comes after a month.
    billed = ((1 << np.minimum(people["tenure"], 12)) - 1).astype(np.uint16)
    talked = np.exp(people["talk"] + 0.25 * engagement + 0.15 * minutes)
    return people | {
        "engagement": engagement,
        "data": np.exp(people["habit"] + 0.3 * engagement + 0.12 * gigabytes),
        "minutes": np.where(silent < NO_CALL_RECORDS, np.float32(np.nan), talked),
        "days": np.rint(31 * expit(1.4 + 1.1 * engagement + 0.5 * days)).astype(np.int8),
        "late_bills": ((bits << 1) | is_late) & billed,
        "contract": _renewed(people["contract"], people["tenure"], renewal),
        "payment": np.where(
            switch < CHANGE_OF_PAYMENT,
            _pick(PAYMENT_SHARES, switch / CHANGE_OF_PAYMENT),
            people["payment"],
        ),
    }


def _renewed(contract: Array, tenure: Array, draws: Array) -> Array:
    """Contracts after those who may have moved on to a longer one, or back."""
    renews = (contract > 0) & (tenure % 12 == 0) & (tenure > 0)
    # A contract of two years is up for renewal every second year.
    renews &= (contract == 1) | (tenure % 24 == 0)
    longer = np.where(contract == 0, draws < TO_YEAR, renews & (contract == 1) & (draws < TO_TWO))
    ended = renews & (draws > 1.0 - TO_NONE)
    return np.where(ended, 0, contract + longer).astype(np.int8)


def _settled(customers: int, seed: int) -> People:
    """The operator's first customers, in its steady state.

    Who stays long differs from who comes, so the steady state has no closed form: a small pilot
    lives through ten years and is then multiplied, with a blur on its dates as in a smoothed
    bootstrap (Silverman and Young, "The bootstrap: to smooth or not to smooth?", Biometrika 1987).
    """
    start = _rng(seed, 0, START)
    pilot = _newcomers(min(customers, PILOT_CUSTOMERS), 1, start)
    size = len(pilot["number"])
    # Near the steady state from the beginning, and no wave of customers of one age.
    pilot["tenure"] = start.geometric(1 / 40, size).astype(np.int32) % 180
    pilot = _live(pilot, start)
    for month in range(PILOT_MONTHS):
        rng = _rng(seed, month, PILOT)
        left = rng.random(size) < hazard(_measured(pilot, 1.0))
        pilot = _next_month(pilot, left, rng, rng)
    return _multiplied(pilot, customers, start)


def _multiplied(pilot: People, customers: int, rng: np.random.Generator) -> People:
    copies = np.arange(customers) % len(pilot["number"])
    tenure, age = pilot["tenure"][copies], pilot["age_months"][copies]
    tenure = tenure + rng.integers(-(tenure // 12), tenure // 12 + 1, dtype=np.int32)
    age = np.maximum(age + rng.integers(-36, 37, customers, dtype=np.int32), 12 * 18 + tenure)
    # Who came first has the lowest number.
    order = np.argsort(-tenure, kind="stable")
    fresh = _newcomers(customers, 1, rng)
    people = {name: pilot[name][copies][order] for name in fresh}
    people |= {"tenure": tenure[order], "age_months": age[order]}
    # Traits without a bearing on the hazard are drawn anew.
    return _live(people | {name: fresh[name] for name in ("number", "gender", "city", "talk")}, rng)


def _measured(people: People, prices: float) -> People:
    """Columns of the snapshot but for the id, rounded as they are delivered; codes for text."""
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


def _frame(people: People, prices: float) -> pd.DataFrame:
    words = {
        "gender": GENDERS,
        "location": CITIES,
        "contract_type": CONTRACTS,
        "payment_method": PAYMENTS,
    }
    columns: dict[str, Any] = {"customer_id": _ids(people["number"])}
    for name, values in _measured(people, prices).items():
        if name in words:
            texts = np.array(words[name], dtype=object)[values]
            columns[name] = pd.array(texts, dtype="string[pyarrow]")
        else:
            columns[name] = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    return pd.DataFrame(columns)


def _ids(numbers: Array) -> Any:
    digits = pd.Series(numbers).astype("string[pyarrow]").str.pad(8, fillchar="0")
    return ("C" + digits).array


def _draw(shares: Array, count: int, rng: np.random.Generator) -> Array:
    return _pick(shares, rng.random(count))


def _pick(shares: Array, draws: Array) -> Array:
    """Codes with the given shares out of uniform draws from [0, 1)."""
    bounds = np.cumsum(shares) / np.sum(shares)
    return np.searchsorted(bounds[:-1], draws, side="right").astype(np.int8)


def _rng(seed: int, month: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, month, purpose])


def _months(month: str) -> int:
    """Months since the year 0 of a month YYYY-MM."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise ValueError(f"month is {month!r}: must look like 2024-01")
    return 12 * int(month[:4]) + int(month[5:]) - 1
