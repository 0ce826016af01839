"""What the demo makes, in the order in which it would come to be: chapter by chapter."""

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
FOLLOWS = ("customer_scores", "served_traffic", "drift_report")
BENTO = ("churn_bento",)

TOLD: dict[Scenario, str] = {
    "stable": "everything is as it was before",
    "price_shock": "the operator has raised its prices",
    "unit_bug": "the source gives the data usage in another unit",
    "new_category": "the source knows a city and a way to pay that nobody has heard of",
    "dirty": "many rows of the source are faulty",
}


@dataclass(frozen=True)
class Step:
    """One run: assets that are made together, of one month or of none.

    Attributes:
        delivery: the asset outside the graph that says that the source has the month.
    """

    assets: tuple[str, ...]
    month: str | None = None
    delivery: str | None = None


@dataclass(frozen=True)
class Chapter:
    """What arrives together, and what is made of it.

    Attributes:
        month: the latest whose customers arrive; it is scored and compared with training.
        arrivals: customers and labels.
        model: what is made in any case; later models need a reason.
    """

    headline: str
    month: str
    arrivals: tuple[Step, ...]
    model: tuple[Step, ...] = ()

    @property
    def follows(self) -> Step:
        return Step(FOLLOWS, self.month)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All that the chapter makes, whatever happens in it."""
        return (*self.arrivals, *self.model, self.follows)


def chapters(platform: Platform, *, at_once: bool = False) -> list[Chapter]:
    """The months before the simulated scenario and the first model; then each month since.

    One chapter of the latest months is all where nothing befalls the source from some month on.

    Args:
        at_once: one chapter in any case.
    """
    months = list(platform.closed_months.get_partition_keys())
    since = None if at_once else _scenario_month(platform)
    before = [month for month in months if since is None or month < since]
    horizon = platform.contract.horizon_months
    if len(before) <= horizon:  # nothing to learn from
        before = months
    told = [*before[-(MONTHS - 1 + horizon) :], *months[len(before) :]]
    later = months[len(before) :]
    history = told[: len(told) - len(later)]
    first = Chapter(
        f"{_range(history)}: customers, who of them left, and the first model",
        history[-1],
        tuple(step for month in history for step in _arrivals(platform, month, told)),
        (Step(MODEL),),
    )
    return [first, *(_chapter(platform, month, told) for month in later)]


def _chapter(platform: Platform, month: str, told: list[str]) -> Chapter:
    arrivals = tuple(_arrivals(platform, month, told))
    with_it = [f"who left after {step.month}" for step in arrivals if step.assets == LABELS]
    headline = f"{month} arrives" + (f", and with it {with_it[0]}" if with_it else "")
    return Chapter(headline + _news(platform, month), month, arrivals)


def _arrivals(platform: Platform, month: str, told: list[str]) -> Iterator[Step]:
    """The customers of a month, and the labels that are known by its close."""
    yield Step(CUSTOMERS, month, deliveries.CUSTOMERS)
    horizon = 0 if platform.source.single_snapshot else platform.contract.horizon_months
    labelled = last_realised(month, horizon)
    if labelled in told:
        yield Step(LABELS, labelled, deliveries.LABELS)


def _scenario_month(platform: Platform) -> str | None:
    simulated = isinstance(platform.source, SimulatedSource)
    return platform.settings.simulated.scenario_month if simulated else None


def _news(platform: Platform, month: str) -> str:
    """What befalls the simulated operator in a month for the first time."""
    source = platform.source
    assert isinstance(source, SimulatedSource)
    befalls = source.simulator.scenario_of(month)
    before = source.simulator.scenario_of(last_realised(month, 1))
    return f": {TOLD[befalls]}" if befalls != before else ""


def _range(months: list[str]) -> str:
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
