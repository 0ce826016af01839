"""Document about what runs when and why, generated from the definitions."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from churn_assets.core.monitoring.incidents import duration
from churn_assets.defs.automation.conditions import automations
from churn_assets.defs.automation.freshness import describe
from churn_assets.settings import Settings

HEAD = """# What runs when, and why

Generated from the definitions by `make docs`, with every setting at its default. Times and cron
expressions are in UTC. The runbooks are in [operations.md](operations.md).
"""
ASSETS = """## Assets

An asset is not materialised while a blocking check of one of its inputs fails. The column "stopped
by" lists these checks; where the input has months, each month has its own result. The last column
says how often a failed step is retried; a fault of the data is not, because the same data fail
again. A run whose process died is resumed where it stopped, at most twice (`dagster.yaml`). The
column "freshness policy" says how old an asset may be, or in which time before a deadline it must
be materialised.
"""
CONDITIONS = """## Conditions

One event leads to one request, whatever the result of the run. An asset waits until its inputs
exist and none of them is in progress.
"""
SENSORS = "## Sensors\n\nAll sensors run from the start; each can be stopped in the UI."


def operations(definitions: dg.Definitions, settings: Settings) -> str:
    """Returns the document for a graph, as Markdown."""
    graph = definitions.resolve_asset_graph()
    assets = ([f"`{key.path[-1]}`", *_asset(graph, key)] for key in graph.toposorted_asset_keys)
    conditions = {a.name: [a.name, a.sentence] for a in automations(settings).values()}
    sensors = map(_sensor, definitions.sensors or ())
    titles = (
        "asset",
        "partition",
        "materialised when",
        "freshness policy",
        "stopped by",
        "retries",
    )
    parts = [
        HEAD, ASSETS, *_table(titles, assets), "",
        CONDITIONS, *_table(("condition", "what it means"), conditions.values()), "",
        SENSORS, "", *_table(("sensor", "every", "what it does"), sensors), "",
    ]  # fmt: skip
    return "\n".join(parts)


def _asset(graph: Any, key: dg.AssetKey) -> list[str]:
    node = graph.get(key)
    month = "month" if node.partitions_def else ""
    if node.is_external:
        return [month, "a sensor reports it", "", "", ""]
    condition = node.automation_condition
    stops = [
        f"`{check.name}`"
        for parent in sorted(node.parent_keys)
        for check in sorted(graph.get(parent).check_keys)
        if graph.get(check).blocking
    ]
    return [
        month,
        condition.get_label() if condition else "by hand",
        describe(node.freshness_policy),
        ", ".join(stops),
        _retries(node.assets_def.op.retry_policy),
    ]


def _retries(policy: dg.RetryPolicy | None) -> str:
    if policy is None:
        return ""
    doubled = ", doubled each time" if policy.backoff == dg.Backoff.EXPONENTIAL else ""
    return f"{policy.max_retries}, after {duration(timedelta(seconds=policy.delay or 0))}{doubled}"


def _sensor(sensor: Any) -> list[str]:
    every = f"{sensor.minimum_interval_seconds} s"
    return [f"`{sensor.name}`", every, sensor.description or "Evaluates the conditions."]


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(titles)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
