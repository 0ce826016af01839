"""The sensor that tells people what is wrong, once, and once more when it is well again.

It reads the event log from where it stopped. Where it was never on, it begins at the present, and
tells of the checks and the freshness that are failing then, not of the history.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg
from dagster import DagsterInstance
from pydantic import Field

from churn_assets.adapters.alerts import DeliveryError, channels, deliver
from churn_assets.contracts.contract import Frozen
from churn_assets.core.monitoring.incidents import Message, Observation, latest, update
from churn_assets.defs.alerting.event_log import STATES, end, read, read_all, undecided
from churn_assets.defs.alerting.incidents import Observer
from churn_assets.defs.automation.freshness import freshness_policies
from churn_assets.defs.automation.promises import in_words
from churn_assets.defs.platform.platform import Platform

SENSOR = "alerts"


class Place(Frozen):
    """How far the event log was told, and the incidents that are open there.

    Attributes:
        after: storage id of the last event that was told.
    """

    after: int
    incidents: dict[str, Observation] = Field(default_factory=dict)


def definitions(platform: Platform) -> dg.Definitions:
    """The sensor `alerts`."""

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=platform.settings.automation.interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells of failed checks, failed runs, freshness that fails, and decisions about the "
            "champion: one alert an incident, and a message when it is over."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        found = Place.model_validate_json(context.cursor) if context.cursor else None
        messages, place = news(platform, context.instance, found)
        _tell(platform, context, messages)
        if place != found:
            context.update_cursor(place.model_dump_json())
        return dg.SkipReason(
            f"{len(messages)} message(s) sent, {len(place.incidents)} incident(s) open"
        )

    return dg.Definitions(sensors=[alerts])


def news(
    platform: Platform, instance: DagsterInstance, place: Place | None
) -> tuple[list[Message], Place]:
    """What is to be told since a place, and the place after that.

    Args:
        place: None where nothing was ever told.
    """
    observer = Observer(instance, platform.settings.alerts.ui_url, _promises(platform))
    upto = end(instance)
    if place is None:
        history = read_all(instance, upto, STATES)
        messages, incidents = update(
            {}, latest(seen for event in history for seen in observer.observe(event))
        )
        return messages, Place(after=upto, incidents=incidents)
    observations, after = [], place.after
    for event in read(instance, place.after, upto):
        if undecided(instance, event[1]):
            break
        observations += list(observer.observe(event))
        after = event[0]
    messages, incidents = update(place.incidents, observations)
    return messages, Place(after=after, incidents=incidents)


def _tell(platform: Platform, context: dg.SensorEvaluationContext, messages: list[Message]) -> None:
    """Sends messages; where a channel does not take one, the tick fails and comes here again.

    Receipts are kept beside the cursor, which a tick that fails, or whose process dies, leaves.
    """
    settings = platform.settings.alerts
    store, key = context.instance.daemon_cursor_storage, f"alerts/{platform.contract.name}"
    taken = json.loads(store.get_cursor_values({key}).get(key, "[]")) if messages else []

    def keep(receipts: Sequence[str]) -> None:
        store.set_cursor_values({key: json.dumps(receipts)})

    ways = channels(settings, context.log.warning)
    if faults := deliver(messages, ways, taken, keep, retries=settings.retries):
        raise DeliveryError("; ".join(faults))


def _promises(platform: Platform) -> Mapping[str, str]:
    return {name: in_words(policy) for name, policy in freshness_policies(platform).items()}
