"""Deliveries of the source: external assets, and the events that a sensor reports for them.

An event says that the source delivered a month, for the first time or again. The daemon pulls a
month for no other reason, so that one delivery is pulled once, whatever the result of the run.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import dagster as dg
from dagster import DagsterEventType, DagsterInstance

from churn_assets.adapters.sources.source import SourceError
from churn_assets.defs.platform.dagster_internals import DATA_VERSION_TAG
from churn_assets.defs.platform.platform import OWNER, Platform

CUSTOMERS, LABELS = "customer_deliveries", "label_deliveries"

MAX_VERSION_LENGTH = 250
"""Characters of a version that are stored as they are; a hash stands for a longer version."""
ERROR_SECONDS = 20.0
"""Seconds after which an error ends the look-up: a sensor has a minute, and a server that does not
respond costs seconds for each month."""


def definitions(platform: Platform) -> dg.Definitions:
    """Returns the two external assets."""
    return dg.Definitions(assets=_specs(platform))


def new_deliveries(
    platform: Platform,
    instance: DagsterInstance,
    months: Sequence[str] | None = None,
    names: Collection[str] = (CUSTOMERS, LABELS),
) -> Iterator[dg.AssetMaterialization]:
    """Yields events for the deliveries that the instance does not know yet.

    A month whose version the source cannot give does not hide the deliveries of other months: the
    error is raised last.

    Args:
        months: Months to look up in the source; None for the months in use.
        names: External assets whose deliveries are looked up.

    Raises:
        SourceError: The source does not respond, or not for some month.
    """
    wanted = platform.months_in_use if months is None else months
    labelled = set(platform.labelled_months.get_partition_keys())
    subjects = (
        (CUSTOMERS, platform.source.customers_version, wanted),
        (LABELS, platform.source.labels_version, [m for m in wanted if m in labelled]),
    )
    errors, end = list[SourceError](), time.monotonic() + ERROR_SECONDS
    for name, version_of, its_months in subjects:
        known = _known(name, instance)
        for month in its_months if name in names else ():
            try:
                version = version_of(month, known.get(month))
            except SourceError as error:
                errors.append(error)
                if time.monotonic() > end:
                    raise errors[0] from None
                continue
            if version is not None and _stored(version) != known.get(month):
                yield _event(name, month, version)
    if errors:
        raise errors[0]


def nothing_new(platform: Platform, instance: DagsterInstance) -> str:
    """Describes a look-up without a new delivery: months that can never be delivered are named."""
    if others := platform.months_without_partition:
        return f"nothing new. {others}"
    if _known(CUSTOMERS, instance):
        return "nothing new"
    first, *_, last = platform.months_in_use * 2
    return (
        f"nothing new: the source never had one of the months {first} to {last}. Older months need "
        f"an earlier CHURN_FIRST_MONTH than {platform.settings.first_month}"
    )


def _event(name: str, month: str, version: str) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        name,
        partition=month,
        metadata={"delivery": version},
        tags={DATA_VERSION_TAG: _stored(version)},
    )


def _stored(version: str) -> str:
    """The text that is stored of a version, and compared with the next one."""
    if len(version) <= MAX_VERSION_LENGTH:
        return version
    return f"sha256 of version: {hashlib.sha256(version.encode()).hexdigest()}"


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
