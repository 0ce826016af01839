"""What runs when and why, as tables made from the definitions."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from churn_assets.core.monitoring.incidents import duration
from churn_assets.defs.automation.conditions import automations
from churn_assets.defs.automation.promises import in_words
from churn_assets.settings import Settings

HEAD = """# What runs when, and why

Made from the definitions by `make docs`, every setting at its default. Times are UTC, cron
expressions too. What to do when something is wrong is in [operations.md](operations.md).
"""
ASSETS = """## Assets

Nothing is made behind a failed blocking check of what it is made from: these stand in the column
"stopped by", month by month where the asset has months. A step that fails is tried again as often
as the last column says; a run whose process died begins again where it stopped, twice at most
(`dagster.yaml`).
"""
CONDITIONS = """## Conditions

One event leads to one request, whatever becomes of the run. An asset waits until what it is made
from is there and not on its way.
"""
SENSORS = "## Sensors\n\nAll of them run from the start; each can be stopped in the UI."


def operations(definitions: dg.Definitions, settings: Settings) -> str:
    """The document for a graph, as Markdown."""
    graph = definitions.resolve_asset_graph()
    assets = ([f"`{key.path[-1]}`", *_asset(graph, key)] for key in graph.toposorted_asset_keys)
    conditions = {a.name: [a.name, a.sentence] for a in automations(settings).values()}
    sensors = map(_sensor, definitions.sensors or ())
    titles = ("asset", "partition", "made when", "promised", "stopped by", "retries")
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
        in_words(node.freshness_policy),
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
