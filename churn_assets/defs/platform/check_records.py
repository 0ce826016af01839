"""The latest results of asset checks, from Dagster's records of their executions.

A run records an execution of a check as planned, and completes the record with the result. The
record stays planned for ever if the run dies, is cancelled, or skips the step. Everything that asks
for results asks here, so that such a record never hides the result before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterInstance

from churn_assets.defs.platform.dagster_internals import AssetCheckExecutionRecordStatus as Status
from churn_assets.defs.platform.dagster_internals import PartitionKeyFilter

EVALUATED = {Status.SUCCEEDED, Status.FAILED}


@dataclass(frozen=True)
class CheckRecord:
    """Result of one execution of a check.

    Attributes:
        key: Key of the check.
        partition: Partition that was checked; None where the check has none.
        run_id: Id of the run that evaluated the check.
        result: Result, as the step returned it.
    """

    key: dg.AssetCheckKey
    partition: str | None
    run_id: str
    result: dg.AssetCheckEvaluation

    @property
    def failed(self) -> bool:
        """Whether the check failed, and not with a mere warning."""
        return not self.result.passed and self.result.severity == dg.AssetCheckSeverity.ERROR


def latest_results(
    instance: DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    partitions: Sequence[str] | None = None,
) -> Iterator[CheckRecord]:
    """Yields the latest result of each check in each partition that has one.

    Args:
        partitions: Partitions to look at; None for all, and for checks without partitions.
    """
    store = instance.event_log_storage
    for info in store.get_asset_check_partition_info(checks, partition_keys=partitions):
        yield from _latest(instance, info.check_key, PartitionKeyFilter(key=info.partition_key))


def latest_failures(
    instance: DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    partitions: Sequence[str] | None = None,
) -> Iterator[CheckRecord]:
    """Yields those of `latest_results` that failed, without a query for each that passed."""
    store = instance.event_log_storage
    for info in store.get_asset_check_partition_info(checks, partition_keys=partitions):
        if info.latest_execution_status != Status.SUCCEEDED:
            found = _latest(instance, info.check_key, PartitionKeyFilter(key=info.partition_key))
            yield from (record for record in found if record.failed)


def latest_result(instance: DagsterInstance, check: dg.AssetCheckKey) -> CheckRecord | None:
    """Returns the latest result of a check in any partition; None where it has none."""
    return next(_latest(instance, check, None), None)


def _latest(
    instance: DagsterInstance, check: dg.AssetCheckKey, partition: PartitionKeyFilter | None
) -> Iterator[CheckRecord]:
    for record in instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status=EVALUATED, partition_filter=partition
    ):
        if isinstance(record.evaluation, dg.AssetCheckEvaluation):
            yield CheckRecord(check, record.partition, record.run_id, record.evaluation)
