"""Sensor that alerts people once when an incident opens, and once when it is over.

The sensor reads the event log from the position where it stopped. Its first tick starts at the end
of the log, and reports the checks and freshness policies that fail at that time, not the history.
On a database server each tick reads up to the end that the tick before has seen: an event that is
committed after one with a higher id has an interval of the sensor to appear.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import DagsterInstance
from pydantic import Field

from churn_assets.adapters.alerts import DeliveryError, channels, deliver
from churn_assets.contracts.contract import Frozen
from churn_assets.core.monitoring.incidents import Message, Observation, latest, update
from churn_assets.defs.alerting.event_log import (
    STATES,
    commits_in_order,
    end,
    read,
    read_all,
    undecided,
)
from churn_assets.defs.alerting.incidents import Observer
from churn_assets.defs.automation.freshness import describe, freshness_policies
from churn_assets.defs.platform.dagster_internals import BaseAssetGraph
from churn_assets.defs.platform.platform import Platform

SENSOR = "alerts"


class AlertCursor(Frozen):
    """Position in the event log, and the incidents that are open there.

    Attributes:
        after: Storage id of the last event that was handled; None before the first one.
        seen: Storage id of the last event at the last tick.
        incidents: Open incidents by key.
    """

    after: int | None
    seen: int | None = None
    incidents: dict[str, Observation] = Field(default_factory=dict)


def definitions(platform: Platform) -> dg.Definitions:
    """The sensor `alerts`."""

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Reports failed checks, failed runs, failed freshness policies, challengers that wait "
            "for approval, and decisions about the champion: one alert per incident, and a message "
            "when the incident is over."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        before = AlertCursor.model_validate_json(context.cursor) if context.cursor else None
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        messages, cursor = new_messages(platform, context.instance, graph, before)
        _send(platform, context, messages)
        if cursor != before:
            context.update_cursor(cursor.model_dump_json())
        return dg.SkipReason(
            f"{len(messages)} message(s) sent, {len(cursor.incidents)} incident(s) open"
        )

    return dg.Definitions(sensors=[alerts])


def new_messages(
    platform: Platform,
    instance: DagsterInstance,
    graph: BaseAssetGraph[Any],
    cursor: AlertCursor | None,
) -> tuple[list[Message], AlertCursor]:
    """Returns the messages about the events after a cursor, and the cursor after those events.

    Args:
        cursor: Cursor of the last tick; None on the first tick.
    """
    settings = platform.settings
    observer = Observer(
        instance,
        settings.alerts.ui_url,
        _policies(platform),
        graph,
        manual=settings.promotion.approval == "manual",
    )
    newest = end(instance)
    upto = newest if commits_in_order(instance) else cursor.seen if cursor else None
    if upto is None:
        unread = cursor or AlertCursor(after=None)
        return [], unread.model_copy(update={"seen": newest})
    if cursor is None or cursor.after is None:
        history = read_all(instance, upto, STATES)
        messages, incidents = update(
            {}, latest(found for event in history for found in observer.observe(event))
        )
        return messages, AlertCursor(after=upto, seen=newest, incidents=incidents)
    observations, after = [], cursor.after
    for event in read(instance, cursor.after, upto):
        if undecided(instance, event[1]):
            break
        observations += list(observer.observe(event))
        after = event[0]
    messages, incidents = update(cursor.incidents, observations)
    return messages, AlertCursor(after=after, seen=newest, incidents=incidents)


def _send(platform: Platform, context: dg.SensorEvaluationContext, messages: list[Message]) -> None:
    """Sends messages; if a channel does not accept one, the tick fails and the next one resends.

    Receipts are stored beside the cursor, because a tick that fails, or whose process dies, does
    not store its cursor. The receipts keep the next tick from sending a message twice.
    """
    settings = platform.settings.alerts
    store, key = context.instance.daemon_cursor_storage, f"alerts/{platform.contract.name}"
    receipts = json.loads(store.get_cursor_values({key}).get(key, "[]")) if messages else []

    def save(receipts: Sequence[str]) -> None:
        store.set_cursor_values({key: json.dumps(receipts)})

    targets = channels(settings, context.log.warning)
    if faults := deliver(messages, targets, receipts, save, retries=settings.retries):
        raise DeliveryError("; ".join(faults))


def _policies(platform: Platform) -> Mapping[str, str]:
    return {name: describe(policy) for name, policy in freshness_policies(platform).items()}
