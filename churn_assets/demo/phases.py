"""Phases of the demo: the steps that it runs, in the order in which the data would arrive."""

from collections.abc import Iterator
from dataclasses import dataclass

from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.core.monitoring.performance import last_realised
from churn_assets.core.simulation.scenarios import Scenario
from churn_assets.defs.assets import deliveries
from churn_assets.defs.platform.platform import Platform

MONTHS = 6
CUSTOMERS = ("raw_customers", "validated_features", "quarantined_customers")
LABELS = ("churn_labels",)
MODEL = ("training_set", "churn_model", "evaluation_report", "promoted_model")
MONTHLY = ("customer_scores", "served_traffic", "drift_report")
BENTO = ("churn_bento",)

EVENTS: dict[Scenario, str] = {
    "stable": "everything is as it was before",
    "price_shock": "the operator has raised its prices",
    "unit_bug": "the source gives the data usage in another unit",
    "new_category": "the source has a new city and a new payment method",
    "dirty": "many rows of the source are faulty",
}


@dataclass(frozen=True)
class Step:
    """One run: assets that are materialised together, for one month or without a partition.

    Attributes:
        assets: Names of the assets.
        month: Month of the assets; None where they have no partitions.
        delivery: External asset whose event says that the source has the month.
    """

    assets: tuple[str, ...]
    month: str | None = None
    delivery: str | None = None


@dataclass(frozen=True)
class Phase:
    """Data that arrives together, and the assets that follow from it.

    Attributes:
        headline: Line that the demo prints first.
        month: Latest month whose customers arrive; it is scored and compared with training.
        arrivals: Steps that pull customers and labels.
        model: Steps of a training without a reason; other trainings need one.
    """

    headline: str
    month: str
    arrivals: tuple[Step, ...]
    model: tuple[Step, ...] = ()

    @property
    def monthly(self) -> Step:
        """Step that scores the latest month and compares it with training."""
        return Step(MONTHLY, self.month)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps that the phase runs in any case."""
        return (*self.arrivals, *self.model, self.monthly)


def phases(platform: Platform, *, at_once: bool = False) -> list[Phase]:
    """Returns a phase for the months before the simulated scenario, then one for each later month.

    The first phase also trains the first model. Without a scenario that starts in one of the
    months, the only phase has the latest months.

    Args:
        platform: Platform of the demo.
        at_once: Whether all months are one phase in any case.
    """
    *_, newest = platform.months_in_use
    months = [m for m in platform.closed_months.get_partition_keys() if m <= newest]
    since = None if at_once else _scenario_month(platform)
    before = [month for month in months if since is None or month < since]
    horizon = platform.contract.horizon_months
    if len(before) <= horizon:  # no labels to train on
        before = months
    used = [*before[-(MONTHS - 1 + horizon) :], *months[len(before) :]]
    later = months[len(before) :]
    earlier = used[: len(used) - len(later)]
    first = Phase(
        f"{_range(earlier)}: customers, who of them left, and the first model",
        earlier[-1],
        tuple(step for month in earlier for step in _arrivals(platform, month, used)),
        (Step(MODEL),),
    )
    return [first, *(_later_phase(platform, month, used) for month in later)]


def _later_phase(platform: Platform, month: str, used: list[str]) -> Phase:
    arrivals = tuple(_arrivals(platform, month, used))
    labels = [f"who left after {step.month}" for step in arrivals if step.assets == LABELS]
    headline = f"{month} arrives" + (f", and with it {labels[0]}" if labels else "")
    return Phase(headline + _new_event(platform, month), month, arrivals)


def _arrivals(platform: Platform, month: str, used: list[str]) -> Iterator[Step]:
    """Yields the steps of a month's customers, and of the labels that are known by its close."""
    yield Step(CUSTOMERS, month, deliveries.CUSTOMERS)
    horizon = 0 if platform.source.single_snapshot else platform.contract.horizon_months
    labelled = last_realised(month, horizon)
    if labelled in used:
        yield Step(LABELS, labelled, deliveries.LABELS)


def _scenario_month(platform: Platform) -> str | None:
    simulated = isinstance(platform.source, SimulatedSource)
    return platform.settings.simulated.scenario_month if simulated else None


def _new_event(platform: Platform, month: str) -> str:
    """Describes a scenario that starts in a month; "" where none does."""
    source = platform.source
    assert isinstance(source, SimulatedSource)
    scenario = source.simulator.scenario_of(month)
    before = source.simulator.scenario_of(last_realised(month, 1))
    return f": {EVENTS[scenario]}" if scenario != before else ""


def _range(months: list[str]) -> str:
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
