"""A model past its promise: trained if there is something to learn, else said to be current."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd
import pytest

from churn_assets.defs.assets.current_model import unlearnt
from churn_assets.defs.assets.retraining import CURRENT, newest_model
from churn_assets.defs.platform.check_records import latest_result
from churn_assets.settings import Settings
from churn_assets_tests.defs.graph import Graph

MONTHS = ("2026-05", "2026-06")
DAEMON = {"dagster/auto_materialize": "true"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A graph with a model of one month."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("churn_assets.core.modelling.training.SEARCH_CANDIDATES", 2)
        patch.setattr("churn_assets.core.modelling.training.FOLDS", 2)
        graph = Graph(
            Settings(
                home=tmp_path_factory.mktemp("model") / "home",
                simulated={"customers": 2_500},
                first_month=MONTHS[0],
                retraining={"cool_down_days": 0},
            )
        )
        learn(graph, MONTHS[0])
        assert graph.run("churn_model").success
        yield graph


def learn(graph: Graph, month: str) -> None:
    """Adds a labelled month to the training set."""
    for assets in (("raw_customers", "quarantined_customers", "validated_features"),
                   ("churn_labels",)):  # fmt: skip
        assert graph.run(*assets, month=month).success
    assert graph.run("training_set").success


def asked(graph: Graph, **settings: float) -> dg.AssetMaterialization:
    """Runs the step as the daemon does; returns what it materialised."""
    if settings:
        changed = graph.settings.model_copy(
            update={"retraining": graph.settings.retraining.model_copy(update=settings)}
        )
        other = Graph(changed)
        other.__dict__["instance"] = graph.instance
        graph = other
    result = graph.run("churn_model", tags=DAEMON)
    assert result.success
    (event,) = result.asset_materializations_for_node("churn_model")
    return event


def test_the_model_is_current_until_there_is_something_to_learn(graph: Graph) -> None:
    trained = newest_model(graph.instance)

    current = asked(graph)
    assert current.metadata["model_version"].value == "churn_telecom:1"
    assert "has learnt all labels and features there are" in str(current.metadata[CURRENT].value)
    assert newest_model(graph.instance) == trained, "a model is as old as its training"
    for name in ("scorer_equals_pipeline", "reproducible"):
        record = latest_result(graph.instance, dg.AssetCheckKey(dg.AssetKey("churn_model"), name))
        assert record
        assert not record.judged

    # The same rows in a newer version of the table are nothing new.
    assert graph.run("training_set").success
    assert CURRENT in asked(graph).metadata

    learn(graph, MONTHS[1])
    waits = asked(graph, cool_down_days=7)
    assert "trained again after 7 days" in str(waits.metadata[CURRENT].value)

    again = asked(graph)
    assert again.metadata["model_version"].value == "churn_telecom:2"
    reason = str(again.metadata["reasons"].value)
    assert "freshness: version 1 is" in reason
    assert "the labelled month 2026-06" in reason
    assert CURRENT in asked(graph).metadata


def test_a_person_trains_whenever_they_want(graph: Graph) -> None:
    before = newest_model(graph.instance)
    assert graph.run("churn_model").success
    after = newest_model(graph.instance)
    assert before
    assert after
    assert int(after.version) == int(before.version) + 1


LEARNT = pd.DataFrame({"month": ["2026-05"] * 3, "tenure": [1, 2, 3]})


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (LEARNT.copy(), ""),
        (LEARNT.head(2), "a training set of 2 rows, other ones than the 3 it has learnt"),
        (LEARNT.assign(tenure=4), "a training set of 3 rows"),
        (LEARNT.assign(month=["2026-05", "2026-05", "2026-06"]), "the labelled month 2026-06"),
    ],
)
def test_what_is_new_in_a_training_set(rows: pd.DataFrame, says: str) -> None:
    text = unlearnt(LEARNT, rows)
    assert says in text
    assert bool(text) == bool(says)
