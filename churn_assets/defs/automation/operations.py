"""Document about what runs when and why, generated from the definitions."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from churn_assets.core.monitoring.incidents import duration
from churn_assets.defs.automation import deadlines
from churn_assets.defs.automation.conditions import automations
from churn_assets.defs.automation.freshness import describe, describe_trigger
from churn_assets.defs.gates.gates import LEAVES_OUT, blocking_checks, checks_of_periods
from churn_assets.settings import Settings

HEAD = """# What runs when, and why

Generated from the definitions by `make docs`, with every setting at its default. Times and cron
expressions are in UTC. The runbooks are in [operations.md](operations.md).
"""
ASSETS = """## Assets

An asset is not materialised while a blocking check of one of its inputs fails. The column "stopped
by" lists these checks; where the input has months, each month has its own result and stops only
the same month. An asset that reads other months as well is materialised without a month whose
check in the column "leaves out months" fails, and with it again once the check passes.
`churn_model` waits where such a check has failed since its training set was made. The last column
says how often a failed step is retried; a fault of the data is not, because the same data fail
again. A run whose process died is resumed where it stopped, at most twice (`dagster.yaml`). The
column "freshness policy" says how old an asset may be, or in which time before a deadline it must
be materialised; the column "freshness trigger", when Dagster's state of that policy leads to a
request without an event.
"""
CONDITIONS = """## Conditions

One event leads to one request, whatever the result of the run. An asset waits until its inputs
exist and none of them is in progress.
"""
FRESHNESS = """## Past its promise

An event may be lost: a run is cancelled, the daemon was down, somebody wiped an asset. So each
asset is also requested without an event, once for each of these breaches, if its inputs are there
and no failed check stops it:

- its freshness state becomes WARN, or FAIL (the column "freshness trigger");
- a deadline passes, `{raw}` or `{derived}`, and it is missing or older than its inputs;
- `{daily}` ticks, it is missing or older than its inputs, and its last run did not fail.

The UI shows such a request under "past_its_promise" in the asset's Automation tab, and the run has
the tag `churn/past_its_promise` with the names of these assets. Inputs that are past their promise
too are materialised first. `churn_model` is trained then if there are labels, features, code or a
contract that it has not learnt and the cool-down is over; else it stays, is evaluated again, and
its metadata `current` say why.

Dagster's state knows the newest materialisation of an asset, of whatever month. So an old month
that was delivered again makes it PASS, and an asset without any month is UNKNOWN. The check
`{check}` judges each month by its deadline, and it is what alerts: {assets}.
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
        "freshness trigger",
        "stopped by",
        "leaves out months",
        "retries",
    )
    parts = [
        HEAD, ASSETS, *_table(titles, assets), "",
        CONDITIONS, *_table(("condition", "what it means"), conditions.values()), "",
        _freshness(settings),
        SENSORS, "", *_table(("sensor", "every", "what it does"), sensors), "",
    ]  # fmt: skip
    return "\n".join(parts)


def _asset(graph: Any, key: dg.AssetKey) -> list[str]:
    node = graph.get(key)
    month = "month" if node.partitions_def else ""
    if node.is_external:
        return [month, "a sensor reports it", "", "", "", "", ""]
    condition = node.automation_condition
    left_out = {dg.AssetKey(name) for name in LEAVES_OUT.get(key.to_user_string(), ())}
    stops = blocking_checks(graph, sorted(node.parent_keys - left_out))
    leaves_out = checks_of_periods(graph, key.to_user_string())
    return [
        month,
        condition.get_label() if condition else "by hand",
        describe(node.freshness_policy),
        describe_trigger(node.freshness_policy, monthly=bool(month)),
        *(", ".join(f"`{check.name}`" for check in checks) for checks in (stops, leaves_out)),
        _retries(node.assets_def.op.retry_policy),
    ]


def _freshness(settings: Settings) -> str:
    return FRESHNESS.format(
        raw=settings.freshness.raw_deadline,
        derived=settings.freshness.derived_deadline,
        daily=settings.automation.catch_up_cron,
        check=deadlines.CHECK,
        assets=", ".join(f"`{name}`" for name in deadlines.INPUTS),
    )


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
