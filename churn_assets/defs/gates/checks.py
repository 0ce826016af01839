"""Asset checks: their specs, and their results from verdicts.

A check is computed in the step of its asset, never in a step of its own. So no materialised asset
lacks the results of its checks, and no gate is closed because a result is missing.

A step yields its outputs before the results: Dagster assigns a result to the materialisation before
it, and without one it treats the check of that month as missing.

Dagster knows passed and failed only. A check that had nothing to judge is reported as passed, with
the metadata `judged: false`: a warning would look like a fault. Who reads results asks `is_judged`.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from churn_assets.core.verdict import Verdict
from churn_assets.defs.platform.check_records import JUDGED


class GateError(dg.Failure):
    """An asset must not be materialised now; the description says why, and how to proceed."""


def check(
    asset: str,
    name: str,
    description: str,
    *,
    blocking: bool = False,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
) -> dg.AssetCheckSpec:
    """Returns the spec of a check; with partitions, every month has its own result."""
    with warnings.catch_warnings():
        # Without partitions a failed month would close the gate for all months.
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
    """Yields the results of checks from their verdicts, with numbers and limits as metadata.

    Args:
        asset: Name of the asset.
        verdicts: Verdicts by the name of the check.
        warn: Names of the checks that only warn where they fail.
        metadata: Metadata that every result gets as well.
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
            metadata={
                **verdict.numbers,
                **(metadata or {}),
                **({} if verdict.judged else {JUDGED: False}),
            },
        )


def all_passed(verdicts: Mapping[str, Verdict], specs: Iterable[dg.AssetCheckSpec]) -> bool:
    """Returns whether every blocking check passed, so that the asset may be published.

    What was not judged is not published either: nobody has shown that it is right.
    """
    return all(verdicts[spec.name].outcome == "passed" for spec in specs if spec.blocking)
