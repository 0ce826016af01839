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


@pytest.mark.parametrize("failing", ["validated_features", "raw_customers", "churn_labels"])
def test_a_failed_month_leads_to_one_training_set_without_it_and_one_with_it_again(
    filled: SmallGraph, failing: str
) -> None:
    filled.failing.add((failing, "2026-06"))
    filled.deliver("customer_deliveries", "2026-06")
    assert filled.settle().count((None, "training_set")) == 1
    filled.deliver("label_deliveries", "2026-05")
    assert (None, "training_set") in filled.settle()
    filled.failing.clear()
    filled.deliver("customer_deliveries", "2026-06")
    assert filled.settle().count((None, "training_set")) == 1


def test_without_a_month_whose_checks_pass_no_training_set_is_requested(graph: SmallGraph) -> None:
    graph.failing |= {("churn_labels", month) for month in LABELLED}
    deliver(graph)
    assert "training_set" not in " ".join(names for _, names in graph.settle())
    graph.failing.remove(("churn_labels", "2026-06"))
    graph.deliver("label_deliveries", "2026-06")
    assert (None, " ".join(["training_set", *MODEL.split()])) in graph.settle()


def test_labels_that_wait_for_a_check_of_their_month_hold_up_no_other_month(
    filled: SmallGraph,
) -> None:
    """The customers of a month were published, and refused when they were delivered again."""
    filled.failing.add(("raw_customers", "2026-07"))
    filled.deliver("customer_deliveries", "2026-07")
    filled.settle()
    filled.clock.shift(timedelta(days=30))
    filled.settle()
    for month in ("2026-06", "2026-07"):
        filled.deliver("label_deliveries", month)
    filled.deliver("customer_deliveries", "2026-08")
    runs = filled.settle()
    assert ("2026-07", "churn_labels") not in runs
    assert (None, "training_set") in runs
    assert ("2026-08", "drift_report") in runs


def test_a_cancelled_run_of_a_month_holds_up_no_other_month(filled: SmallGraph) -> None:
    filled.cancelling.add(("churn_labels", "2026-07"))
    filled.deliver("label_deliveries", "2026-07")
    filled.deliver("label_deliveries", "2026-06")
    runs = filled.settle()
    assert ("2026-07", "churn_labels") in runs
    assert (None, "training_set") in runs


def test_failed_labels_stop_no_drift_report_of_the_month_after(graph: SmallGraph) -> None:
    graph.failing.add(("churn_labels", "2026-06"))
    deliver(graph)
    assert ("2026-07", names(AFTER)) in sorted_by_tick(graph)


def test_no_model_is_trained_on_a_month_that_has_failed_since(filled: SmallGraph) -> None:
    """The training set without the month cannot be made: it stays as it was."""
    filled.crashing.add(("training_set", None))
    filled.failing.add(("raw_customers", "2026-06"))
    filled.deliver("customer_deliveries", "2026-06")
    assert (None, "training_set") in filled.settle()
    filled.deliver("retraining_reasons")
    assert filled.settle() == []
    filled.crashing.clear()
    filled.deliver("label_deliveries", "2026-05")
    runs = [assets for month, assets in sorted_by_tick(filled) if month is None]
    assert runs == [["training_set"], names(MODEL)]


def test_a_crashed_run_is_not_requested_again(filled: SmallGraph) -> None:
    filled.crashing.add(("training_set", None))
    filled.deliver("label_deliveries", "2026-06")
    assert (None, "training_set") in filled.settle()
    filled.crashing.clear()
    assert filled.settle() == []


@pytest.mark.parametrize(
    ("delivery", "asset"),
    [("customer_deliveries", "raw_customers"), ("label_deliveries", "churn_labels")],
)
def test_a_delivery_after_the_run_of_the_last_tick_is_not_lost(
    filled: SmallGraph, delivery: str, asset: str
) -> None:
    """One tick sees the run and the delivery, as after a time in which the daemon was down."""
    filled.deliver(delivery, "2026-06")
    assert any(asset in assets for _, assets in filled.tick())
    filled.deliver(delivery, "2026-06")
    assert [month for month, assets in filled.settle() if asset in assets] == ["2026-06"]
    assert filled.settle() == []


def test_a_delivery_after_a_cancelled_run_is_not_lost(filled: SmallGraph) -> None:
    filled.cancelling.add(("raw_customers", "2026-06"))
    filled.deliver("customer_deliveries", "2026-06")
    filled.tick()
    filled.cancelling.clear()
    filled.deliver("customer_deliveries", "2026-06")
    assert sum("raw_customers" in assets for _, assets in filled.settle()) == 1


def test_an_asset_that_was_made_by_hand_after_its_input_is_not_requested(
    filled: SmallGraph,
) -> None:
    for name in ("validated_features", "customer_scores"):
        filled.make(name, month="2026-06")
    assert not any("customer_scores" in assets for _, assets in filled.settle())


def test_an_input_that_was_made_by_hand_after_the_asset_leads_to_a_request(
    filled: SmallGraph,
) -> None:
    for name in ("customer_scores", "validated_features"):
        filled.make(name, month="2026-06")
    assert sum("customer_scores" in assets for _, assets in filled.settle()) == 1


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
