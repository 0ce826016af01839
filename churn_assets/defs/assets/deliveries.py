"""Deliveries of the source: external assets, and the events that a sensor reports for them.

An event says that the source delivered a month, for the first time or again. The daemon pulls a
month for no other reason, so that one delivery is pulled once, whatever the result of the run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
from dagster import DagsterEventType, DagsterInstance

from churn_assets.defs.platform.dagster_internals import DATA_VERSION_TAG
from churn_assets.defs.platform.platform import OWNER, Platform

CUSTOMERS, LABELS = "customer_deliveries", "label_deliveries"


def definitions(platform: Platform) -> dg.Definitions:
    """Returns the two external assets."""
    return dg.Definitions(assets=_specs(platform))


def new_deliveries(
    platform: Platform, instance: DagsterInstance, months: Sequence[str] | None = None
) -> Iterator[dg.AssetMaterialization]:
    """Yields events for the deliveries that the instance does not know yet.

    Args:
        months: Months to look up in the source; None for the months in use.

    Raises:
        SourceError: The source does not respond.
    """
    wanted = platform.months_in_use if months is None else months
    source = platform.source
    labelled = set(platform.labelled_months.get_partition_keys())
    yield from _new(CUSTOMERS, source.customers_version, wanted, instance)
    yield from _new(LABELS, source.labels_version, [m for m in wanted if m in labelled], instance)


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
    """Returns the version of each month's delivery that was reported last."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(name), DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {month: values[DATA_VERSION_TAG] for month, values in tags.items()}


def _specs(platform: Platform) -> list[dg.AssetSpec]:
    subjects = {
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
            description=f"The {subject}: one event per delivery that the sensor noticed.",
        )
        for name, (subject, months) in subjects.items()
    ]
