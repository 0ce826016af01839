"""What the sources have delivered: assets outside the graph, and the sensor that reports them.

An event of one of them says that a month came, or came anew. It is the only reason for which the
daemon pulls a month, so that one delivery is pulled once, whatever becomes of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
from dagster import DagsterEventType, DagsterInstance
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from churn_assets.defs.platform.platform import OWNER, Platform

CUSTOMERS, LABELS = "customer_deliveries", "label_deliveries"


def definitions(platform: Platform) -> dg.Definitions:
    """The two external assets, and the sensor `deliveries`."""
    seconds = platform.settings.automation.interval_seconds

    @dg.sensor(
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks the source which months it has, and reports those that are new or other.",
    )
    def deliveries(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = list(new_deliveries(platform, context.instance))
        return dg.SensorResult(asset_events=found) if found else dg.SkipReason("nothing new")

    return dg.Definitions(assets=_specs(platform), sensors=[deliveries])


def new_deliveries(
    platform: Platform, instance: DagsterInstance, months: Sequence[str] | None = None
) -> Iterator[dg.AssetMaterialization]:
    """Deliveries that the instance does not know yet; to be reported to it.

    Args:
        months: to ask for; those in use where it is None.

    Raises:
        SourceError: the source does not answer.
    """
    asked = platform.months_in_use if months is None else months
    source = platform.source
    labelled = set(platform.labelled_months.get_partition_keys())
    yield from _new(CUSTOMERS, source.customers_version, asked, instance)
    yield from _new(LABELS, source.labels_version, [m for m in asked if m in labelled], instance)


def _new(
    name: str,
    version_of: Callable[[str], str | None],
    months: Sequence[str],
    instance: DagsterInstance,
) -> Iterator[dg.AssetMaterialization]:
    known = _known(name, instance)
    for month in months:
        version = version_of(month)
        if version is not None and version != known.get(month):
            yield dg.AssetMaterialization(
                name,
                partition=month,
                metadata={"delivery": version},
                tags={DATA_VERSION_TAG: version[:250]},
            )


def _known(name: str, instance: DagsterInstance) -> Mapping[str, str]:
    """The delivery of each month that was reported last."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(name), DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {month: values[DATA_VERSION_TAG] for month, values in tags.items()}


def _specs(platform: Platform) -> list[dg.AssetSpec]:
    what = {
        CUSTOMERS: ("customers of a month", platform.closed_months),
        LABELS: ("labels of a month", platform.labelled_months),
    }
    return [
        dg.AssetSpec(
            name,
            partitions_def=months,
            group_name="data",
            owners=[OWNER],
            kinds={"source"},
            description=f"The {things}, as the source delivered them and when it was noticed.",
        )
        for name, (things, months) in what.items()
    ]
