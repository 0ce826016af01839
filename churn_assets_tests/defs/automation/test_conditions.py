from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine

from churn_assets.definitions import build
from churn_assets.defs.automation.conditions import automations
from churn_assets.defs.automation.freshness import freshness_policies
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings
from churn_assets_tests.defs.small_graph import START, SmallGraph

CHAIN = "raw_customers validated_features quarantined_customers served_traffic"
MODEL = "churn_model evaluation_report promoted_model churn_bento"
AFTER = "customer_scores drift_report"


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[SmallGraph]:
    with time_machine.travel(START) as clock:
        graph = SmallGraph(clock, tmp_path)
        assert graph.settle() == []
        yield graph


@pytest.fixture
def whole(graph: SmallGraph) -> SmallGraph:
    """Three months are delivered, two of them labelled, and everything is made."""
    for month in ("2026-05", "2026-06", "2026-07"):
        graph.deliver("customer_deliveries", month)
    for month in ("2026-05", "2026-06"):
        graph.deliver("label_deliveries", month)
    graph.settle()
    return graph


def test_an_empty_instance_is_made_whole_upstream_first(graph: SmallGraph) -> None:
    months = ["2026-05", "2026-06", "2026-07"]
    for month in months:
        graph.deliver("customer_deliveries", month)
    for month in months[:2]:
        graph.deliver("label_deliveries", month)
    assert sorted_by_tick(graph) == [
        *[(month, names(CHAIN)) for month in months],
        *[(month, ["churn_labels"]) for month in months[:2]],
        (None, names("training_set " + MODEL)),
        *[(month, names(AFTER)) for month in months],
    ]


def test_nothing_is_asked_for_twice(whole: SmallGraph) -> None:
    assert whole.settle() == []


def test_a_month_is_pulled_once_it_is_delivered(whole: SmallGraph) -> None:
    whole.deliver("customer_deliveries", "2026-08")
    whole.deliver("label_deliveries", "2026-07")
    assert sorted_by_tick(whole) == [
        ("2026-08", names(CHAIN + " customer_scores")),
        ("2026-07", ["churn_labels"]),
        ("2026-08", ["drift_report"]),
        (None, ["training_set"]),
    ]


def test_nothing_behind_a_failed_check_is_asked_for_until_it_is_mended(whole: SmallGraph) -> None:
    whole.failing.add(("raw_customers", "2026-08"))
    whole.deliver("customer_deliveries", "2026-08")
    (first, *others) = whole.settle()
    assert first[0] == "2026-08"
    assert others == []
    made = whole.instance.get_materialized_partitions(dg.AssetKey("customer_scores"))
    assert "2026-08" not in made

    whole.failing.clear()
    whole.deliver("customer_deliveries", "2026-08")
    assert sorted_by_tick(whole) == [
        ("2026-08", ["raw_customers"]),
        ("2026-08", names("validated_features quarantined_customers served_traffic " + AFTER)),
        (None, ["training_set"]),
    ]


def test_an_older_failure_keeps_the_gate_shut(whole: SmallGraph) -> None:
    """The features of a month failed: its labels came anew, but no training set is made."""
    whole.failing.add(("validated_features", "2026-06"))
    whole.deliver("customer_deliveries", "2026-06")
    whole.settle()
    whole.deliver("label_deliveries", "2026-06")
    assert "training_set" not in {name for _, name in whole.settle()}
    whole.failing.clear()
    whole.deliver("customer_deliveries", "2026-06")
    assert (None, "training_set") in whole.settle()


def test_a_run_that_crashed_is_left(whole: SmallGraph) -> None:
    whole.crashing.add(("training_set", None))
    whole.deliver("label_deliveries", "2026-06")
    assert (None, "training_set") in whole.settle()
    whole.crashing.clear()
    assert whole.settle() == []


def test_one_reason_leads_to_one_training(whole: SmallGraph) -> None:
    whole.deliver("retraining_reasons")
    assert sorted_by_tick(whole) == [(None, names(MODEL))]


def test_newer_data_alone_trains_nothing(whole: SmallGraph) -> None:
    whole.deliver("label_deliveries", "2026-06")
    assert not [name for _, name in whole.settle() if "churn_model" in name]


def test_traffic_is_read_by_the_clock_for_the_last_two_months(whole: SmallGraph) -> None:
    whole.clock.shift(timedelta(days=1))
    assert sorted_by_tick(whole) == [("2026-07", names("served_traffic drift_report"))]
    whole.clock.shift(timedelta(hours=1))
    assert whole.settle() == []


def test_with_manual_approval_no_daemon_promotes() -> None:
    assert "promoted_model" in automations(Settings())
    assert "promoted_model" not in automations(Settings(promotion={"approval": "manual"}))


def test_every_asset_that_is_made_has_a_condition_and_a_promise() -> None:
    platform = Platform.of(Settings())
    graph = build(platform).resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        automation = automations(platform.settings)[key.to_user_string()]
        assert node.automation_condition
        assert node.automation_condition.get_label() == automation.name
        assert automation.sentence.endswith(".")
        assert node.freshness_policy, key


def test_a_single_snapshot_is_promised_no_other_month() -> None:
    platform = Platform.of(Settings(contract="ibm_telco"))
    assert "raw_customers" not in freshness_policies(platform)
    assert "churn_model" in freshness_policies(platform)


def test_the_sensors_run_of_themselves() -> None:
    repository = build(Platform.of(Settings())).get_repository_def()
    running = {s.name for s in repository.sensor_defs if s.default_status.value == "RUNNING"}
    assert running >= {"automation", "deliveries", "retraining_reasons", "alerts"}


def names(text: str) -> list[str]:
    return sorted(text.split())


def sorted_by_tick(graph: SmallGraph) -> list[tuple[str | None, list[str]]]:
    return [(month, names(assets)) for month, assets in graph.settle()]
