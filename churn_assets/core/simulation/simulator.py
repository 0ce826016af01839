"""Simulated mobile operator with the contract `telecom` and a known hazard of leaving."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from churn_assets.core.simulation import population, scenarios
from churn_assets.core.simulation.population import Array, People, generator
from churn_assets.core.simulation.scenarios import Scenario


@dataclass(frozen=True)
class Simulator:
    """An operator whose customers age, change contracts, pay late and leave.

    Its frames depend only on its settings and the month, not on the order of the calls. The number
    of customers is constant: every customer who leaves is replaced by a new one.

    Attributes:
        customers: Number of customers at the close of every month.
        seed: Seed of all random numbers, at least 0.
        scenario: Scenario of the operator.
        scenario_month: Month YYYY-MM from which the scenario is active, None for always. Earlier
            months are bit for bit those of `stable`.
        since: First month of the operator, YYYY-MM.
        dirt: Share of faulty rows in a snapshot.
    """

    customers: int = 20_000
    seed: int = 0
    scenario: Scenario = "stable"
    scenario_month: str | None = None
    since: str = "2024-01"
    dirt: float = 0.003
    _cache: dict[int, People] = field(default_factory=dict, init=False, repr=False, compare=False)
    """States of the first month and of the last two requested; they never change a result."""

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
        self._scenario_start()

    def snapshot(self, month: str) -> pd.DataFrame:
        """Returns the customers at the close of a month (YYYY-MM), as the source delivers them.

        Returns:
            One row per customer in the order of their numbers, some of them spoiled: text as
            string[pyarrow], whole numbers int64, other numbers float64; columns with a fault are
            object.

        Raises:
            ValueError: The month is malformed or before `since`.
        """
        index = self._index(month)
        scenario = self._scenario(index)
        frame = scenarios.delivered(_frame(self._people(index), self._prices(index)), scenario)
        share = scenarios.faulty_share(scenario, self.dirt)
        return scenarios.spoil(frame, share, generator(self.seed, index, population.DIRT))

    def labels(self, month: str) -> pd.DataFrame:
        """Returns which of the month's customers left within the next month.

        Returns:
            Columns customer_id (string[pyarrow]) and churned (bool), each customer once.

        Raises:
            ValueError: The month is malformed or before `since`.
        """
        index = self._index(month)
        people = self._people(index)
        return pd.DataFrame(
            {"customer_id": _ids(people["number"]), "churned": self._churned(people, index)}
        )

    def true_hazard(self, month: str) -> pd.Series:
        """Returns the probability from which each label of the month was drawn.

        Returns:
            Float64 by customer_id, in the order of `labels`.

        Raises:
            ValueError: The month is malformed or before `since`.
        """
        index = self._index(month)
        people = self._people(index)
        ids = pd.Index(_ids(people["number"]), name="customer_id")
        return pd.Series(self._hazard(people, index), index=ids, name="hazard")

    def scenario_of(self, month: str) -> Scenario:
        """Returns the scenario that is active in a month (YYYY-MM).

        Raises:
            ValueError: The month is malformed or before `since`.
        """
        return self._scenario(self._index(month))

    def _index(self, month: str) -> int:
        index = _months(month) - _months(self.since)
        if index < 0:
            raise ValueError(f"month {month} is before {self.since}, the operator's first")
        return index

    def _scenario_start(self) -> int:
        first = _months(self.since)
        return 0 if self.scenario_month is None else _months(self.scenario_month) - first

    def _scenario(self, index: int) -> Scenario:
        return self.scenario if index >= self._scenario_start() else "stable"

    def _prices(self, index: int) -> float:
        return scenarios.price_factor(self._scenario(index))

    def _people(self, index: int) -> People:
        """Returns the state of a month, simulated from the nearest earlier state in the cache."""
        cached = dict(self._cache)
        first = cached.pop(0, None) or population.steady_state(self.customers, self.seed)
        nearest = max((known for known in cached if known <= index), default=0)
        people = cached.pop(nearest, first)
        for month in range(nearest, index):
            newcomers = generator(self.seed, month, population.NEWCOMERS)
            life = generator(self.seed, month, population.LIFE)
            people = population.next_month(people, self._churned(people, month), newcomers, life)
        recent = dict(list(cached.items())[-1:]) | {index: people}
        object.__setattr__(self, "_cache", recent | {0: first})
        return people

    def _churned(self, people: People, index: int) -> Array:
        draws = generator(self.seed, index, population.CHURN).random(self.customers)
        return np.asarray(draws < self._hazard(people, index))

    def _hazard(self, people: People, index: int) -> Array:
        scenario = self._scenario(index)
        extra = scenarios.extra_log_odds(scenario, index - self._scenario_start())
        return population.hazard(population.snapshot_columns(people, self._prices(index)), extra)


def _frame(people: People, prices: float) -> pd.DataFrame:
    words = {
        "gender": population.GENDERS,
        "location": population.CITIES,
        "contract_type": population.CONTRACTS,
        "payment_method": population.PAYMENTS,
    }
    columns: dict[str, Any] = {"customer_id": _ids(people["number"])}
    for name, values in population.snapshot_columns(people, prices).items():
        if name in words:
            texts = np.array(words[name], dtype=object)[values]
            columns[name] = pd.array(texts, dtype="string[pyarrow]")
        else:
            columns[name] = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    return pd.DataFrame(columns)


def _ids(numbers: Array) -> Any:
    digits = pd.Series(numbers).astype("string[pyarrow]").str.pad(8, fillchar="0")
    return ("C" + digits).array


def _months(month: str) -> int:
    """Returns the number of months from year 0 to a month YYYY-MM."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise ValueError(f"month is {month!r}: must look like 2024-01")
    return 12 * int(month[:4]) + int(month[5:]) - 1
