"""Two years of the graph by a simulated clock: calm for a year, then prices rise."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pandas as pd
import pytest
import time_machine

from churn_assets.settings import Settings
from churn_assets_tests.defs.daemon import Daemon
from churn_assets_tests.defs.graph import Graph

MONTHS = [str(month) for month in pd.period_range("2024-05", "2026-04", freq="M")]
SHOCK = MONTHS[12]
DAYS = (2, 20)
"""Days of the next month: on the first the deliveries come, on the second the cool-down is over."""


Month = tuple[tuple[str, ...], str, str]
"""Events after the close of a month: the reasons of each training, the champion's version at the
end, and the version that scored the month."""

EXPECTED: dict[str, Month] = {
    # No label is known yet, so that no model can be trained.
    "2024-05": ((), "", ""),
    "2024-06": (("first",), "1", "1"),
    "2024-07": ((), "1", "1"),
    "2024-08": ((), "1", "1"),
    "2024-09": ((), "1", "1"),
    "2024-10": ((), "1", "1"),
    "2024-11": ((), "1", "1"),
    # The model is older than 200 days on the 20th. The month is scored by then, and stays so.
    "2024-12": (("age:1",), "2", "1"),
    "2025-01": ((), "2", "2"),
    "2025-02": ((), "2", "2"),
    "2025-03": ((), "2", "2"),
    "2025-04": ((), "2", "2"),
    # Prices rise. The labels of such a month are not known before the next month closes.
    "2025-05": (("drift:2025-05",), "3", "2"),
    # Not more often than every 45 days.
    "2025-06": (("drift:2025-06",), "4", "3"),
    "2025-07": ((), "4", "4"),
    "2025-08": (("drift:2025-08",), "5", "4"),
    "2025-09": ((), "5", "5"),
    "2025-10": (("drift:2025-10",), "6", "5"),
    "2025-11": ((), "6", "6"),
    "2025-12": ((), "6", "6"),
    "2026-01": ((), "6", "6"),
    "2026-02": ((), "6", "6"),
    "2026-03": ((), "6", "6"),
    "2026-04": ((), "6", "6"),
}


@pytest.fixture(scope="module")
def two_years(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Month]]:
    home = tmp_path_factory.mktemp("years") / "home"
    start = datetime(2024, 6, 2, 5, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patch, time_machine.travel(start) as clock:
        # These take long and decide nothing here.
        patch.setattr("churn_assets.adapters.reports.plots._png", lambda *_: b"")
        patch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
        patch.setattr("churn_assets.core.modelling.training.FOLDS", 2)
        graph = Graph(
            Settings(
                home=home,
                simulated={"customers": 2_500, "scenario": "price_shock", "scenario_month": SHOCK},
                first_month=MONTHS[0],
                training_months=3,
                bootstrap_resamples=100,
                automation={"traffic_cron": "0 0 29 2 *"},
                # So few test rows prove nothing: the margins promote any model that is not absurd.
                promotion={
                    "resamples": 200,
                    "auc_margin": 0.3,
                    "profit_margin": 10,
                    "first_profit": -1_000_000,
                },
                limits={"min_gain_over_baseline": -1},
                retraining={"max_age_days": 200, "cool_down_days": 45},
            )
        )
        yield dict(_simulate(graph, clock))


def _simulate(graph: Graph, clock: time_machine.Traveller) -> Iterator[tuple[str, Month]]:
    daemon = Daemon(graph, without=("churn_bento",))
    for month in MONTHS:
        close = (pd.Period(month, freq="M") + 1).start_time.tz_localize(UTC)
        trainings: list[str] = []
        for day in DAYS:
            clock.move_to((close + pd.Timedelta(days=day - 1, hours=5)).to_pydatetime())
            before = trained(graph)
            runs = daemon.settle()
            assert all(run.success for run in runs), runs
            trainings += trained(graph)[len(before) :]
        yield month, (tuple(trainings), champion(graph), scored_by(graph, month))


def trained(graph: Graph) -> list[str]:
    """Keys of the reasons of every training, oldest first."""
    records = graph.instance.fetch_materializations(dg.AssetKey("churn_model"), limit=100).records
    texts = [
        str(event.metadata["reasons"].value)
        for record in reversed(records)
        if (event := record.asset_materialization)
    ]
    return [", ".join(line.split(": ")[0] for line in text.splitlines()) for text in texts]


def champion(graph: Graph) -> str:
    event = graph.instance.get_latest_materialization_event(dg.AssetKey("promoted_model"))
    if event is None or event.asset_materialization is None:
        return ""
    return str(event.asset_materialization.metadata["to"].value)


def scored_by(graph: Graph, month: str) -> str:
    if month not in graph.lake.months("customer_scores"):
        return ""
    (version,) = graph.lake.read("customer_scores", [month])["model_version"].unique()
    return str(version)


@pytest.mark.long
def test_two_years_follow_the_policies(two_years: dict[str, Month]) -> None:
    assert two_years == EXPECTED
