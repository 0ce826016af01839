"""The graph left to itself: a real webserver and daemon, time, and what the source delivers.

Nothing here asks the graph for anything. Windows are shortened by settings; what came of it is
read from the instance's event log.
"""

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
import pytest

from churn_assets.adapters.lake import Lake
from churn_assets.core.simulation.simulator import Simulator
from churn_assets.defs.platform.partitions import closed_months
from churn_assets_tests.documents import ROOT
from churn_assets_tests.live import CUSTOMERS, Receiver, Record, Shop, dagster_dev, end, wait

MONTHS = closed_months("2025-01").get_partition_keys()[-3:]
TICK = 3
"""Seconds between two looks of the daemon."""

PATIENCE = 300
"""Seconds for anything to happen; on a machine that does nothing else, most takes 30."""

SECONDS = 1 / 86_400
"""In days."""

STABLE = Simulator(customers=CUSTOMERS)
SHOCK = Simulator(customers=CUSTOMERS, scenario="price_shock", scenario_month=MONTHS[-1])
BROKEN = Simulator(customers=CUSTOMERS, scenario="unit_bug", scenario_month=MONTHS[1])

BY_MONTH = ("raw_customers", "quarantined_customers", "validated_features", "served_traffic",
            "customer_scores", "drift_report")  # fmt: skip
MODEL = ("churn_model", "evaluation_report", "promoted_model", "churn_bento")
"""In the order in which they are made."""

WHOLE = {"CHURN_RETRAINING__COOL_DOWN_DAYS": str(SECONDS)}
HASTY = {"CHURN_RETRAINING__MAX_AGE_DAYS": str(30 * SECONDS), **WHOLE}


@dataclass
class House:
    """A home, the folder of its source, and a receiver of its alerts."""

    home: Path
    shop: Shop
    receiver: Receiver
    record: Record = field(init=False)
    before: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        dagster_home = self.home / "dagster"
        dagster_home.mkdir()
        self.shop.folder.mkdir()
        text = (ROOT / "dagster.yaml").read_text()
        hurried = text.replace("poll_interval_seconds: 15", f"poll_interval_seconds: {TICK}")
        (dagster_home / "dagster.yaml").write_text(hurried)
        self.record = Record(dagster_home)

    def environment(self, **policy: str) -> dict[str, str]:
        return {
            "DAGSTER_HOME": str(self.home / "dagster"),
            "BENTOML_HOME": str(self.home / "bentoml"),
            "CHURN_HOME": str(self.home),
            "CHURN_SOURCE": "file",
            "CHURN_FILE__CUSTOMERS": str(self.shop.folder / "customers-{month}.csv"),
            "CHURN_FILE__LABELS": str(self.shop.folder / "labels-{month}.csv"),
            "CHURN_FIRST_MONTH": MONTHS[0],
            "CHURN_BOOTSTRAP_RESAMPLES": "100",
            "CHURN_PROMOTION__RESAMPLES": "200",
            # So few customers prove nothing: whoever is not absurd is promoted.
            "CHURN_PROMOTION__AUC_MARGIN": "0.4",
            "CHURN_PROMOTION__PROFIT_MARGIN": "10",
            "CHURN_LIMITS__MIN_AUC": "0.5",
            "CHURN_LIMITS__MAX_AUC_DROP": "0.4",
            "CHURN_AUTOMATION__INTERVAL_SECONDS": str(TICK),
            "CHURN_ALERTS__WEBHOOK": self.receiver.url,
            **policy,
        }

    def log(self) -> str:
        return (self.home / "dev.log").read_text()[-6_000:]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("live")
    with Receiver().listening() as receiver:
        house = House(home, Shop(home / "shop"), receiver)
        with house.record.instance:
            yield house


def expected(delivered: int, labelled: int) -> set[tuple[str, str | None]]:
    """Everything that there is, once so many months are delivered and labelled."""
    months = {(name, month) for name in BY_MONTH for month in MONTHS[:delivered]}
    labels = {("churn_labels", month) for month in MONTHS[:labelled]}
    return months | labels | {(name, None) for name in ("training_set", *MODEL)}


@pytest.mark.long
def test_the_graph_runs_itself(house: House) -> None:
    house.shop.deliver(MONTHS[0], STABLE, labels_of=MONTHS[0])
    with dagster_dev(house.home / "dev.log", house.environment(**HASTY)):
        an_empty_instance_is_made_whole(house)
        a_stale_model_is_made_anew(house)
    with dagster_dev(house.home / "dev.log", house.environment(**WHOLE)) as dev:
        a_broken_month_goes_nowhere_and_is_told(house)
        what_is_mended_heals(house)
        a_price_shock_leads_to_one_retraining(house)
        the_daemon_dies_in_the_middle(house, dev)
    with dagster_dev(house.home / "dev.log", house.environment(**WHOLE)):
        and_what_it_began_is_ended_once(house)


def an_empty_instance_is_made_whole(house: House) -> None:
    whole = expected(delivered=1, labelled=1)
    wait(lambda: whole <= set(house.record.made()), PATIENCE,
         lambda: (whole - set(house.record.made()), house.log()))  # fmt: skip


def a_stale_model_is_made_anew(house: House) -> None:
    """Only the model grows stale with time: it is trained again, and what follows from it."""
    record = house.record
    wait(lambda: record.made()["churn_bento", None] >= 2, PATIENCE, house.log)
    names = [name for name, _, _ in record.materialisations() if name in MODEL]
    assert names[:8] == [*MODEL, *MODEL]
    assert reasons_of_last_training(record) == ["age"]
    # Nobody writes delivered months anew for it, nor anything else of them.
    assert {n for (name, m), n in record.made().items() if name == "customer_scores"} == {1}


def a_broken_month_goes_nowhere_and_is_told(house: House) -> None:
    record, month = house.record, MONTHS[1]
    before = record.last_id()
    house.shop.deliver(month, BROKEN)
    check = "quarantined_share_within_limit"
    wait(lambda: any(check in body for body in house.receiver.bodies), PATIENCE,
         lambda: (house.receiver.bodies, house.log()))  # fmt: skip
    time.sleep(3 * TICK)
    made = record.made(before)
    assert {name for name, m in made if m == month} == {"raw_customers", "quarantined_customers"}
    assert not {name for name, m in made if m is None}
    (alert,) = [body for body in house.receiver.bodies if check in body]
    assert json.loads(alert)["text"]
    assert month in alert


def what_is_mended_heals(house: House) -> None:
    record, month = house.record, MONTHS[1]
    before = record.last_id()
    house.shop.deliver(month, STABLE)
    wait(lambda: record.made(before)["drift_report", month], PATIENCE, house.log)
    made = record.made(before)
    assert {name: made[name, month] for name in BY_MONTH} == dict.fromkeys(BY_MONTH, 1)
    assert not {name for name, m in made if m != month}


def a_price_shock_leads_to_one_retraining(house: House) -> None:
    record, month = house.record, MONTHS[2]
    before = record.last_id()
    house.shop.deliver(month, SHOCK, labels_of=MONTHS[1])
    wait(lambda: record.made(before)["churn_bento", None], PATIENCE,
         lambda: (record.made(before), house.log()))  # fmt: skip
    made = record.made(before)
    assert {name: made[name, None] for name in MODEL} == dict.fromkeys(MODEL, 1)
    assert reasons_of_last_training(record) == ["drift"]


def the_daemon_dies_in_the_middle(house: House, dev: psutil.Popen) -> None:
    """With it dies all else, and the run that it began."""
    record, month = house.record, MONTHS[2]
    house.before, house.since = record.last_id(), datetime.now(UTC)
    house.shop.deliver(month, SHOCK)
    wait(lambda: record.made(house.before)["raw_customers", month], PATIENCE, house.log)
    end(dev, signal.SIGKILL)
    assert record.runs(dg.DagsterRunStatus.STARTED)


def and_what_it_began_is_ended_once(house: House) -> None:
    record, month = house.record, MONTHS[2]
    wait(lambda: record.made(house.before)["drift_report", month], PATIENCE, house.log)
    wait(lambda: not record.runs(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.QUEUED), PATIENCE,
         house.log)  # fmt: skip
    assert {name for name, m in record.made(house.before) if m == month} == set(BY_MONTH)
    assert not record.made(house.before)["churn_model", None], "the shock has had its training"
    # A step that was cut off begins again; one that had ended does not.
    ended = record.steps_ended(house.since)
    assert max(ended.values()) == 1, ended
    for table in ("validated_features", "customer_scores"):
        stored = Lake(str(house.home / "lake")).read(table, [month])
        assert not stored.empty
        assert not stored["customer_id"].duplicated().any()


def reasons_of_last_training(record: Record) -> list[str]:
    """Kinds of the reasons that the newest model has on record."""
    event = record.instance.get_latest_materialization_event(dg.AssetKey("churn_model"))
    assert event
    assert event.asset_materialization
    said = str(event.asset_materialization.metadata["reasons"].value)
    run = record.instance.get_run_by_id(event.run_id)
    assert run
    kinds = [line.split(":")[0] for line in said.splitlines()]
    assert all(kind in run.tags["churn/retraining_reasons"] for kind in kinds)
    return kinds
