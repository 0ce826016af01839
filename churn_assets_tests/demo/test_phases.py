"""Months of the demo's phases, and a month of the demo that is stopped."""

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from churn_assets.adapters.registry import champion
from churn_assets.defs.assets import retraining
from churn_assets.defs.platform.platform import Platform
from churn_assets.demo.demo import Demo
from churn_assets.demo.phases import CUSTOMERS, LABELS, phases
from churn_assets.demo.summary import summary
from churn_assets.settings import Settings, latest_closed_month
from churn_assets_tests.defs.graph import Graph, from_files

LATEST = pd.Period(latest_closed_month(), freq="M")


def month(back: int) -> str:
    return str(LATEST - back)


def simulated(scenario: str, since: str | None, **settings: object) -> Settings:
    operator = {"customers": 1_500, "scenario": scenario, "scenario_month": since}
    return Settings(simulated=operator, **settings)  # type: ignore[arg-type]


def test_each_month_since_the_scenario_is_a_phase() -> None:
    history, shocked, last = phases(Platform.of(simulated("price_shock", month(1))))
    assert [s.month for s in history.arrivals if s.assets == CUSTOMERS] == [
        month(back) for back in range(7, 1, -1)
    ]
    assert [s.month for s in history.arrivals if s.assets == LABELS] == [
        month(back) for back in range(7, 2, -1)
    ]
    assert [(s.assets, s.month) for s in shocked.arrivals] == [
        (CUSTOMERS, month(1)), (LABELS, month(2))
    ]  # fmt: skip
    assert [(s.assets, s.month) for s in last.arrivals] == [
        (CUSTOMERS, month(0)), (LABELS, month(1))
    ]  # fmt: skip
    assert history.model
    assert not shocked.model
    assert shocked.headline.endswith(": the operator has raised its prices")
    assert "prices" not in last.headline


@pytest.mark.parametrize(
    "settings",
    [
        simulated("stable", None),
        simulated("price_shock", None),
        simulated("price_shock", "2999-01"),
        simulated("price_shock", month(1), first_month=month(1)),
        simulated("price_shock", month(1), contract="ibm_telco"),
    ],
    ids=["stable", "always", "not yet", "nothing to learn from before", "another source"],
)
def test_without_a_scenario_from_some_month_on_there_is_one_phase(settings: Settings) -> None:
    [only] = phases(Platform.of(settings))
    assert only.month == month(0)
    assert only.model


def test_a_changed_home_is_filled_again_in_one_phase() -> None:
    [only] = phases(Platform.of(simulated("price_shock", month(1))), at_once=True)
    assert only.month == month(0)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "customers.csv"
    path.write_bytes(b'a,b\n1,"2\n1,2\n')
    graph = from_files(tmp_path, path)
    demo = Demo(graph.platform, graph.definitions, graph.instance)
    assert not demo.run(phases(graph.platform), again=False)
    message = f"x raw_customers: {path} cannot be read as CSV: line 3: unexpected end of data\n"
    assert capsys.readouterr().out.count(message) == 1, "once, because a retry does not help"


def test_a_month_with_a_unit_bug_is_stopped_before_it_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The quality of the champion does not matter here.
    monkeypatch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
    settings = simulated(
        "unit_bug", month(1), home=tmp_path / "home", first_month=month(4),
        bootstrap_resamples=100, promotion={"resamples": 100, "first_profit": -1_000_000},
        limits={"min_auc": 0.5, "min_gain_over_baseline": -1},
    )  # fmt: skip
    graph = Graph(settings)
    demo = Demo(graph.platform, graph.definitions, graph.instance)
    assert not demo.run(phases(graph.platform), again=False)
    output = capsys.readouterr().out
    assert f"{month(1)} is stopped: no scores, no training, nothing is made from it" in output
    assert f"{month(0)} arrives" not in output
    assert graph.lake.months("validated_features") == [month(4), month(3), month(2)]
    assert graph.lake.months("customer_scores") == [month(2)]
    assert champion(graph.platform.model_name) == "1"
    reasons = dg.AssetKey(retraining.REASONS)
    assert not graph.instance.fetch_materializations(reasons, limit=1).records
    text = summary(graph.platform, graph.definitions, graph.instance, 1.0, complete=False)
    assert f"{month(1)}: stopped at validated_features: " in text
    assert "version 2" not in text
