"""Gates: nothing is made behind a failed blocking check, by hand either.

Within one run Dagster itself stops what is downstream of a failed blocking check. This is for the
failures of earlier runs, which a run that somebody starts by hand would otherwise go past.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)
from dagster._core.storage.tags import (
    AUTO_MATERIALIZE_TAG,
    AUTOMATION_CONDITION_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)

from churn_assets.adapters.audit import AuditLog
from churn_assets.defs.gates.checks import GateError

EVALUATED = {Status.SUCCEEDED, Status.FAILED}
OVERRIDE = "override"

SHUT_GATE = "shut_gate"
"""In the metadata of a step's failure: a check has failed before it, and says it already."""

BY_POLICY = "policy"
"""Who approves where nobody is asked: no name for a person."""

OF_A_DAEMON = {AUTO_MATERIALIZE_TAG, AUTOMATION_CONDITION_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG}
"""Tags of a run that no person started."""


class GatedConfig(dg.Config):
    """Run config of every asset that stands behind checks."""

    override_reason: str = ""
    """Why it is made although a gate is shut; asked for together with `override_by`."""
    override_by: str = ""
    """Who decides that."""

    @property
    def overrides(self) -> bool:
        """A person wants it made all the same, and says why."""
        return signed(self.override_by, self.override_reason)


def signed(name: str, reason: str) -> bool:
    """A person gives a name and a reason."""
    return bool(reason.strip()) and name.strip().casefold() not in {"", BY_POLICY}


def by_a_daemon(context: dg.AssetExecutionContext) -> bool:
    """No person started the run, so that nobody can answer for it."""
    return bool(context.run.tags.keys() & OF_A_DAEMON)


@dataclass(frozen=True)
class FailedCheck:
    """A blocking check whose latest evaluation did not pass."""

    asset: str
    name: str
    partition: str | None
    run_id: str
    why: str

    def __str__(self) -> str:
        of = f" of {self.partition}" if self.partition else ""
        return f"{self.asset}: {self.name}{of} (run {self.run_id}): {self.why}"


def require_open(context: dg.AssetExecutionContext, config: GatedConfig, audit: AuditLog) -> None:
    """Stops a step whose asset stands behind a failed blocking check.

    What counts is the latest evaluation of each blocking check of the assets directly upstream:
    of the partitions that this step reads, or of every partition that was ever published where it
    reads all of them. A check that never ran does not shut the gate. An override by `config`, in a
    run that a person started, is written to the audit log and to the asset's metadata.

    Raises:
        GateError: naming the failed checks, partition by partition, and how to override.
    """
    if failed := list(failed_checks(context)):
        if not config.overrides or by_a_daemon(context):
            raise GateError(
                description=_refusal(context, failed),
                metadata={SHUT_GATE: True},
                allow_retries=False,
            )
        record_override(
            context, config, audit, {"failed_checks": [vars(check) for check in failed]}
        )


def record_override(
    context: dg.AssetExecutionContext,
    config: GatedConfig,
    audit: AuditLog,
    evidence: dict[str, Any],
) -> None:
    """Writes to the audit log, and to the metadata of what the step makes, that a person decided.

    Args:
        evidence: what was overridden.
    """
    entry = audit.append(
        action=OVERRIDE,
        actor=config.override_by.strip(),
        subject=_made(context),
        reason=config.override_reason.strip(),
        before="refused",
        after="made",
        evidence={"dagster_run_id": context.run.run_id, **evidence},
    )
    for key in context.selected_asset_keys:
        context.add_asset_metadata(
            {
                "override_by": config.override_by,
                "override_reason": config.override_reason,
                "override_entry": entry.sequence,
            },
            asset_key=key,
        )


def failed_checks(context: dg.AssetExecutionContext) -> Iterator[FailedCheck]:
    """Blocking checks of the assets directly upstream that did not pass when they last ran."""
    graph = _graph(context)
    for name, upstream in context.assets_def.keys_by_input_name.items():
        if upstream in context.assets_def.keys or not graph.has(upstream):
            continue
        blocking = [key for key in graph.get(upstream).check_keys if graph.get(key).blocking]
        if blocking:
            yield from _failed(context, blocking, _partitions_read(context, name, upstream))


def _graph(context: dg.AssetExecutionContext) -> BaseAssetGraph[Any]:
    """All assets, whatever the run selects: a run in this process knows no repository."""
    return context.job_def.asset_layer.asset_graph.source_asset_graph


def _partitions_read(
    context: dg.AssetExecutionContext, name: str, upstream: dg.AssetKey
) -> list[str] | None:
    """Partitions of an asset that the step reads; None where it has none."""
    if _graph(context).get(upstream).partitions_def is None:
        return None
    wanted = list(context.asset_partition_keys_for_input(name))
    if context.has_partition_key:
        return wanted
    published = context.instance.get_materialized_partitions(upstream)
    return [key for key in wanted if key in published]


def _failed(
    context: dg.AssetExecutionContext,
    checks: Sequence[dg.AssetCheckKey],
    partitions: Sequence[str] | None,
) -> Iterator[FailedCheck]:
    store = context.instance.event_log_storage
    for info in store.get_asset_check_partition_info(checks, partition_keys=partitions):
        # One that is planned, or was when its run died, says nothing: the one before it counts.
        if info.latest_execution_status == Status.SUCCEEDED:
            continue
        for record in store.get_asset_check_execution_history(
            info.check_key,
            limit=1,
            status=EVALUATED,
            partition_filter=PartitionKeyFilter(key=info.partition_key),
        ):
            found = record.evaluation
            if found and not found.passed and found.severity == dg.AssetCheckSeverity.ERROR:
                yield FailedCheck(
                    info.check_key.asset_key.to_user_string(),
                    info.check_key.name,
                    info.partition_key,
                    record.run_id,
                    found.description or "no description",
                )


def _made(context: dg.AssetExecutionContext) -> str:
    names = ", ".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
    return f"{names} of {context.partition_key}" if context.has_partition_key else names


def _refusal(context: dg.AssetExecutionContext, failed: Sequence[FailedCheck]) -> str:
    listed = "\n".join(f"  - {check}" for check in failed)
    return (
        f"{_made(context)} must not be made: what it is made from failed its checks.\n{listed}\n"
        "Mend that and materialise it again; or override it with this run config:\n"
        f"{how_to_configure(context, 'override_reason: ...', 'override_by: ...')}"
    )


def how_to_configure(context: dg.AssetExecutionContext, *fields: str) -> str:
    """The run config with some fields of a step's config, as the UI takes it."""
    lines = "".join(f"\n      {field}" for field in fields)
    return f"ops:\n  {context.op_execution_context.op.name}:\n    config:{lines}"
