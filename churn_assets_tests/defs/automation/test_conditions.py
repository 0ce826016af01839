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
MONTHS = ["2026-05", "2026-06", "2026-07"]
LABELLED = MONTHS[:2]


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[SmallGraph]:
    with time_machine.travel(START) as clock:
        graph = SmallGraph(clock, tmp_path)
        assert graph.settle() == []
        yield graph


@pytest.fixture
def filled(graph: SmallGraph) -> SmallGraph:
    """A graph whose deliveries are processed: every asset is materialised."""
    deliver(graph)
    graph.settle()
    return graph


def deliver(graph: SmallGraph) -> None:
    """Delivers three months, two of them with labels."""
    for month in MONTHS:
        graph.deliver("customer_deliveries", month)
    for month in LABELLED:
        graph.deliver("label_deliveries", month)


def test_an_empty_instance_is_filled_upstream_first(graph: SmallGraph) -> None:
    deliver(graph)
    assert sorted_by_tick(graph) == [
        *[(month, names(CHAIN)) for month in MONTHS],
        *[(month, ["churn_labels"]) for month in LABELLED],
        (None, names("training_set " + MODEL)),
        *[(month, names(AFTER)) for month in MONTHS],
    ]


def test_no_run_is_requested_twice(filled: SmallGraph) -> None:
    assert filled.settle() == []


def test_a_month_is_pulled_once_it_is_delivered(filled: SmallGraph) -> None:
    filled.deliver("customer_deliveries", "2026-08")
    filled.deliver("label_deliveries", "2026-07")
    assert sorted_by_tick(filled) == [
        ("2026-08", names(CHAIN + " customer_scores")),
        ("2026-07", ["churn_labels"]),
        ("2026-08", ["drift_report"]),
        (None, ["training_set"]),
    ]


def test_assets_behind_a_failed_check_are_requested_once_it_passes(
    filled: SmallGraph,
) -> None:
    filled.failing.add(("raw_customers", "2026-08"))
    filled.deliver("customer_deliveries", "2026-08")
    (first, *others) = filled.settle()
    assert first[0] == "2026-08"
    assert others == []
    scored = filled.instance.get_materialized_partitions(dg.AssetKey("customer_scores"))
    assert "2026-08" not in scored

    filled.failing.clear()
    filled.deliver("customer_deliveries", "2026-08")
    assert sorted_by_tick(filled) == [
        ("2026-08", ["raw_customers"]),
        ("2026-08", names("validated_features quarantined_customers served_traffic " + AFTER)),
        (None, ["training_set"]),
    ]


def test_an_older_failure_keeps_the_gate_closed(filled: SmallGraph) -> None:
    """The features of a month failed: new labels of that month request no training set."""
    filled.failing.add(("validated_features", "2026-06"))
    filled.deliver("customer_deliveries", "2026-06")
    filled.settle()
    filled.deliver("label_deliveries", "2026-06")
    assert "training_set" not in {name for _, name in filled.settle()}
    filled.failing.clear()
    filled.deliver("customer_deliveries", "2026-06")
    assert (None, "training_set") in filled.settle()


def test_a_crashed_run_is_not_requested_again(filled: SmallGraph) -> None:
    filled.crashing.add(("training_set", None))
    filled.deliver("label_deliveries", "2026-06")
    assert (None, "training_set") in filled.settle()
    filled.crashing.clear()
    assert filled.settle() == []


def test_one_reason_leads_to_one_training(filled: SmallGraph) -> None:
    filled.deliver("retraining_reasons")
    assert sorted_by_tick(filled) == [(None, names(MODEL))]


def test_newer_data_alone_leads_to_no_training(filled: SmallGraph) -> None:
    filled.deliver("label_deliveries", "2026-06")
    assert not [name for _, name in filled.settle() if "churn_model" in name]


def test_traffic_is_read_on_schedule_for_the_last_two_months(filled: SmallGraph) -> None:
    filled.clock.shift(timedelta(days=1))
    assert sorted_by_tick(filled) == [("2026-07", names("served_traffic drift_report"))]
    filled.clock.shift(timedelta(hours=1))
    assert filled.settle() == []


def test_the_daemon_does_not_promote_with_manual_approval() -> None:
    assert "promoted_model" in automations(Settings())
    assert "promoted_model" not in automations(Settings(promotion={"approval": "manual"}))


def test_every_materialisable_asset_has_a_condition_and_a_freshness_policy() -> None:
    platform = Platform.of(Settings())
    graph = build(platform).resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        automation = automations(platform.settings)[key.to_user_string()]
        assert node.automation_condition
        assert node.automation_condition.get_label() == automation.name
        assert automation.sentence.endswith(".")
        assert node.freshness_policy, key


def test_a_single_snapshot_has_no_freshness_policy_for_later_months() -> None:
    platform = Platform.of(Settings(contract="ibm_telco"))
    assert "raw_customers" not in freshness_policies(platform)
    assert "churn_model" in freshness_policies(platform)


def test_the_sensors_run_by_default() -> None:
    repository = build(Platform.of(Settings())).get_repository_def()
    running = {s.name for s in repository.sensor_defs if s.default_status.value == "RUNNING"}
    assert running >= {"automation", "deliveries", "retraining_reasons", "alerts"}


def names(text: str) -> list[str]:
    return sorted(text.split())


def sorted_by_tick(graph: SmallGraph) -> list[tuple[str | None, list[str]]]:
    return [(month, names(assets)) for month, assets in graph.settle()]
