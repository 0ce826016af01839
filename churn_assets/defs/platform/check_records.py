"""The latest results of asset checks, from Dagster's records of their executions.

A run records an execution of a check as planned, and completes the record with the result. The
record stays planned for ever if the run dies, is cancelled, or skips the step. Everything that asks
for results asks here, so that such a record never hides the result before it. Nor does the result
of a check that had nothing to judge: it does not answer whether an earlier failure is over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterInstance

from churn_assets.defs.platform.dagster_internals import AssetCheckExecutionRecordStatus as Status
from churn_assets.defs.platform.dagster_internals import PartitionKeyFilter

EVALUATED = {Status.SUCCEEDED, Status.FAILED}

JUDGED = "judged"
"""Metadata key of a result: false where the check had nothing to judge, otherwise absent."""


def is_judged(result: dg.AssetCheckEvaluation) -> bool:
    """Returns whether the check had something to judge; results of earlier versions had."""
    judged = result.metadata.get(JUDGED)
    return judged is None or judged.value is not False


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
    def judged(self) -> bool:
        """Whether the check had something to judge."""
        return is_judged(self.result)

    @property
    def failed(self) -> bool:
        """Whether the check failed, and not with a mere warning."""
        return not self.result.passed and self.result.severity == dg.AssetCheckSeverity.ERROR


def latest_results(
    instance: DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    partitions: Sequence[str] | None = None,
) -> Iterator[CheckRecord]:
    """Yields the latest judged result of each check in each partition that has one.

    Args:
        partitions: Partitions to look at; None for all, and for checks without partitions.
    """
    store = instance.event_log_storage
    for info in store.get_asset_check_partition_info(checks, partition_keys=partitions):
        partition = PartitionKeyFilter(key=info.partition_key)
        if record := _latest_judged(instance, info.check_key, partition):
            yield record


def latest_failures(
    instance: DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    partitions: Sequence[str] | None = None,
) -> Iterator[CheckRecord]:
    """Yields those of `latest_results` that failed."""
    return (record for record in latest_results(instance, checks, partitions) if record.failed)


def latest_result(instance: DagsterInstance, check: dg.AssetCheckKey) -> CheckRecord | None:
    """Returns the latest result of a check in any partition, judged or not; None without one."""
    return next(_newest_first(instance, check), None)


def latest_judged(instance: DagsterInstance, check: dg.AssetCheckKey) -> CheckRecord | None:
    """Returns the latest judged result of a check in any partition; None where it has none."""
    return _latest_judged(instance, check)


def _latest_judged(
    instance: DagsterInstance, check: dg.AssetCheckKey, partition: PartitionKeyFilter | None = None
) -> CheckRecord | None:
    newest_first = _newest_first(instance, check, partition)
    return next((record for record in newest_first if record.judged), None)


def _newest_first(
    instance: DagsterInstance, check: dg.AssetCheckKey, partition: PartitionKeyFilter | None = None
) -> Iterator[CheckRecord]:
    store, cursor = instance.event_log_storage, None
    while records := store.get_asset_check_execution_history(
        check, limit=1, cursor=cursor, status=EVALUATED, partition_filter=partition
    ):
        (record,) = records
        cursor = record.id
        if isinstance(record.evaluation, dg.AssetCheckEvaluation):
            yield CheckRecord(check, record.partition, record.run_id, record.evaluation)
