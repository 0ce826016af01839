"""Gates: no asset is materialised behind a failed blocking check, not even by hand.

Within one run Dagster itself stops what is downstream of a failed blocking check. This module
covers failures of earlier runs, which a run that a person starts would otherwise ignore.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.defs.gates.approval import (
    GatedConfig,
    assets_of,
    how_to_configure,
    may_override,
    record_override,
)
from churn_assets.defs.gates.checks import GateError
from churn_assets.defs.platform.check_records import latest_failures
from churn_assets.defs.platform.dagster_internals import BaseAssetGraph

SHUT_GATE = "shut_gate"
"""Metadata key of a step's failure behind a failed check: the check reports the cause already."""


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

    The latest evaluation of each blocking check of the assets directly upstream counts: of the
    partitions that this step reads, or of every partition that was ever published where the step
    reads all of them. A check that never ran does not close the gate. An override by `config`, in
    a run that a person started, is written to the audit log and to the asset's metadata.

    Raises:
        GateError: Names the failed checks, partition by partition, and how to override.
    """
    failed = list(failed_checks(context))
    if not failed:
        return
    if not may_override(context, config):
        raise GateError(
            description=_refusal(context, failed),
            metadata={SHUT_GATE: True},
            allow_retries=False,
        )
    record_override(context, config, audit, {"failed_checks": [vars(check) for check in failed]})


def failed_checks(context: dg.AssetExecutionContext) -> Iterator[FailedCheck]:
    """Yields the blocking checks directly upstream whose latest evaluation did not pass."""
    graph = _graph(context)
    for name, upstream in context.assets_def.keys_by_input_name.items():
        if upstream in context.assets_def.keys or not graph.has(upstream):
            continue
        blocking = [key for key in graph.get(upstream).check_keys if graph.get(key).blocking]
        if blocking:
            yield from _failed(context, blocking, _partitions_read(context, name, upstream))


def _graph(context: dg.AssetExecutionContext) -> BaseAssetGraph[Any]:
    """All assets, whatever the run selects: an in-process run knows no repository."""
    return context.job_def.asset_layer.asset_graph.source_asset_graph


def _partitions_read(
    context: dg.AssetExecutionContext, name: str, upstream: dg.AssetKey
) -> list[str] | None:
    """Partitions of an asset that the step reads; None where the asset has none."""
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
    for record in latest_failures(context.instance, checks, partitions):
        yield FailedCheck(
            record.key.asset_key.to_user_string(),
            record.key.name,
            record.partition,
            record.run_id,
            record.result.description or "no description",
        )


def _refusal(context: dg.AssetExecutionContext, failed: Sequence[FailedCheck]) -> str:
    listed = "\n".join(f"  - {check}" for check in failed)
    return (
        f"{assets_of(context)} cannot be materialised: checks upstream failed.\n{listed}\n"
        "Fix the cause and materialise those again; or override the checks with this run config:\n"
        f"{how_to_configure(context, 'override_reason: ...', 'override_by: ...')}"
    )
