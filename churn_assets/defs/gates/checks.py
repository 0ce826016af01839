"""Asset checks: their specs, and results made of verdicts.

A check is computed in the step of its asset, never in one of its own: so an asset is never there
without the results of its checks, and a gate that waits for them is never shut for want of them.

A step yields what it publishes before the results: Dagster takes a result for one of the
materialisation that came before it, and a month's check for missing where none did.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from churn_assets.core.verdict import Verdict


class GateError(dg.Failure):
    """An asset must not be made now, because checks before it did not pass."""


def check(
    asset: str,
    name: str,
    description: str,
    *,
    blocking: bool = False,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
) -> dg.AssetCheckSpec:
    """A check of an asset; of a partitioned one it is kept month by month."""
    with warnings.catch_warnings():
        # Without partitions a failed month would shut the gate for all months.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking,
            partitions_def=partitions_def,
        )  # fmt: skip


def results(
    asset: str,
    verdicts: Mapping[str, Verdict],
    *,
    warn: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[dg.AssetCheckResult]:
    """Verdicts by the names of their checks, their numbers and limits as metadata.

    Args:
        warn: names of the checks that warn where they do not pass.
        metadata: shown with every result.
    """
    warnings_only = set(warn)
    for name, verdict in verdicts.items():
        error = name not in warnings_only
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=name,
            passed=verdict.passed,
            description=verdict.description,
            severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
            metadata={**verdict.numbers, **(metadata or {})},
        )


def all_passed(verdicts: Mapping[str, Verdict], specs: Iterable[dg.AssetCheckSpec]) -> bool:
    """Every blocking check passed, so that the asset may be published."""
    return all(verdicts[spec.name].passed for spec in specs if spec.blocking)
