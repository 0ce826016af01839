"""Gates: no asset is materialised behind a failed blocking check, not even by hand.

Within one run Dagster itself stops what is downstream of a failed blocking check. This module
covers failures of earlier runs, which a run that a person starts would otherwise ignore.

A failed check of one period stops the assets of that period. An asset that reads other periods as
well leaves that period out and goes on with the others; `LEAVES_OUT` names these assets.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.defs.gates.approval import (
    OVERRIDE,
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

LEAVES_OUT: Mapping[str, tuple[str, ...]] = {
    "training_set": ("validated_features", "churn_labels"),
    "drift_report": ("churn_labels",),
}
"""Inputs of an asset that do not stop it: it leaves out their periods whose gate is shut."""


OPTIONAL: Mapping[str, tuple[str, ...]] = {"drift_report": ("customer_scores",)}
"""Inputs that an asset is materialised without where they were never published."""


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

    The latest evaluation of each blocking check of the assets directly upstream counts, of the
    partitions that this step reads, without the inputs in `LEAVES_OUT`. A check that never ran does
    not close the gate. An override by `config`, in a run that a person started, is written to the
    audit log and to the asset's metadata.

    Raises:
        GateError: Names the failed checks, partition by partition, and how to override.
    """
    failed = list(failed_checks(context))
    if failed and not overridden(context, config, audit, failed):
        raise refusal(context, failed, overridable=_inputs_exist(context, failed))


def require_periods_open(
    context: dg.AssetExecutionContext,
    config: GatedConfig,
    audit: AuditLog,
    asset: str,
    periods: Sequence[str],
) -> None:
    """Stops a step that reads periods of an asset whose gates have shut since it was materialised.

    Failed checks that a person overrode for that asset count as overridden here too.

    Args:
        asset: Asset in `LEAVES_OUT` that was made of the periods.

    Raises:
        GateError: Names the failed checks, period by period, and how to proceed.
    """
    shut = shut_periods(context, asset, periods)
    if not shut:
        return
    known = _overridden_before(audit, asset)
    failed = [check for checks in shut.values() for check in checks if vars(check) not in known]
    if failed and not overridden(context, config, audit, failed):
        raise refusal(context, failed, f"Materialise {asset} again, which leaves out these periods")


def shut_periods(
    context: dg.AssetExecutionContext, asset: str, periods: Sequence[str]
) -> dict[str, list[FailedCheck]]:
    """Returns the failed blocking checks that shut the gate of a period, by period.

    Checks of the inputs that the asset has in `LEAVES_OUT` count, and of the same period of all
    assets upstream of these: an input keeps its earlier rows when a new delivery is refused.
    """
    found = defaultdict(list)
    for failed in _failed(context, checks_of_periods(_graph(context), asset), periods):
        found[str(failed.partition)].append(failed)
    return dict(sorted(found.items()))


def checks_of_periods(graph: BaseAssetGraph[Any], asset: str) -> list[dg.AssetCheckKey]:
    """Returns the blocking checks by whose failure an asset leaves out a period."""
    inputs = LEAVES_OUT.get(asset, ())
    keys = {key for name in inputs for key in _of_the_period(graph, dg.AssetKey(name))}
    return blocking_checks(graph, [key for key in graph.toposorted_asset_keys if key in keys])


def blocking_checks(
    graph: BaseAssetGraph[Any], keys: Iterable[dg.AssetKey]
) -> list[dg.AssetCheckKey]:
    """Returns the blocking checks of assets, in the order of the assets and by name."""
    checks = (check for key in keys for check in sorted(graph.get(key).check_keys))
    return [check for check in checks if graph.get(check).blocking]


def overridden(
    context: dg.AssetExecutionContext,
    config: GatedConfig,
    audit: AuditLog,
    failed: Iterable[FailedCheck],
) -> bool:
    """Returns whether a person overrides failed checks, which is then recorded."""
    overrides = may_override(context, config)
    if overrides:
        evidence = {"failed_checks": [vars(check) for check in failed]}
        record_override(context, config, audit, evidence)
    return overrides


def refusal(
    context: dg.AssetExecutionContext,
    failed: Iterable[FailedCheck],
    remedy: str = "Fix the cause and materialise those again",
    *,
    overridable: bool = True,
) -> GateError:
    """Returns the error of a step that stands behind failed checks.

    Args:
        remedy: What opens the gate.
        overridable: Whether the step can go on with an override, which is then offered.
    """
    config = how_to_configure(context, "override_reason: ...", "override_by: ...")
    override = f"; or override the checks with this run config:\n{config}" if overridable else "."
    listed = "\n".join(f"  - {check}" for check in failed)
    return GateError(
        description=(
            f"{assets_of(context)} cannot be materialised: checks upstream failed.\n{listed}\n"
            f"{remedy}{override}"
        ),
        metadata={SHUT_GATE: True},
        allow_retries=False,
    )


def failed_checks(context: dg.AssetExecutionContext) -> Iterator[FailedCheck]:
    """Yields the blocking checks directly upstream whose latest evaluation did not pass."""
    graph = _graph(context)
    left_out = {
        dg.AssetKey(name)
        for key in context.assets_def.keys
        for name in LEAVES_OUT.get(key.to_user_string(), ())
    }
    for name, upstream in context.assets_def.keys_by_input_name.items():
        if upstream in context.assets_def.keys | left_out or not graph.has(upstream):
            continue
        if blocking := blocking_checks(graph, [upstream]):
            yield from _failed(context, blocking, _partitions_read(context, name, upstream))


def _graph(context: dg.AssetExecutionContext) -> BaseAssetGraph[Any]:
    """All assets, whatever the run selects: an in-process run knows no repository."""
    return context.job_def.asset_layer.asset_graph.source_asset_graph


def _of_the_period(graph: BaseAssetGraph[Any], key: dg.AssetKey) -> Iterator[dg.AssetKey]:
    """Yields an asset and all assets upstream of it that have the same periods."""
    yield key
    node = graph.get(key)
    for parent in node.parent_keys - node.partition_mappings.keys():
        if graph.get(parent).partitions_def is not None:
            yield from _of_the_period(graph, parent)


def _partitions_read(
    context: dg.AssetExecutionContext, name: str, upstream: dg.AssetKey
) -> list[str] | None:
    """Partitions of an asset that the step reads; None where the asset has none."""
    if _graph(context).get(upstream).partitions_def is None:
        return None
    return list(context.asset_partition_keys_for_input(name))


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


def _inputs_exist(context: dg.AssetExecutionContext, failed: Iterable[FailedCheck]) -> bool:
    """Returns whether the inputs that failed checks have rows of before, which a step can read."""
    optional = {
        name for key in context.assets_def.keys for name in OPTIONAL.get(key.to_user_string(), ())
    }
    return all(
        check.partition in context.instance.get_materialized_partitions(dg.AssetKey(check.asset))
        if check.partition
        else context.instance.get_latest_materialization_event(dg.AssetKey(check.asset))
        for check in failed
        if check.asset not in optional
    )


def _overridden_before(audit: AuditLog, asset: str) -> Collection[Mapping[str, Any]]:
    """Returns the failed checks that people have overridden for an asset."""
    return [
        failed
        for entry in audit.entries()
        if (entry.action, entry.subject) == (OVERRIDE, asset)
        for failed in entry.evidence.get("failed_checks", ())
    ]
