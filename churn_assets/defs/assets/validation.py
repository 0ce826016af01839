"""Second stage: the rows that satisfy the contract, and quarantine for the other rows."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import SOURCE_ROW, typed
from churn_assets.core.data import quality
from churn_assets.core.data.validation import validate
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.metadata import column_schema, table
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.steps import step

FEATURES, QUARANTINE = "validated_features", "quarantined_customers"


def definitions(platform: Platform) -> dg.Definitions:
    """`validated_features` and `quarantined_customers`, of one step, with their checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [
        check(FEATURES, "quarantined_share_within_limit",
              "The share of quarantined rows is within its limit.", blocking=True,
              partitions_def=months),
        check(FEATURES, "features_honour_schema",
              "Every row satisfies the contract.", blocking=True, partitions_def=months),
        check(FEATURES, "nulls_within_limit",
              "No feature is mostly null.", partitions_def=months),
    ]  # fmt: skip

    @dg.multi_asset(
        name="validate_customers",
        specs=_asset_specs(platform),
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
    )
    @step
    def validate_customers(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        lake: dg.ResourceParam[Lake],
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        require_open(context, config, audit)
        # Read after the gate, whose error about an unpublished month says more than the lake's.
        raw_customers = lake.read("raw_customers", [context.partition_key])
        validation = validate(raw_customers, contract, context.partition_key)
        for frame in (validation.accepted, validation.quarantined):
            frame.attrs[PROVENANCE] = raw_customers.attrs[PROVENANCE]
        by_rule = table(validation.failures_by_rule())
        yield dg.Output(validation.quarantined, QUARANTINE, metadata={"broken_rules": by_rule})
        features = validation.accepted
        verdicts = {
            "quarantined_share_within_limit": quality.quarantined_share_within_limit(
                validation, limits
            ),
            "features_honour_schema": quality.features_honour_schema(features, contract),
            "nulls_within_limit": quality.nulls_within_limit(features, contract, limits),
        }
        # Rows that do not pass are not published: the month's earlier rows stay as they were.
        if all_passed(verdicts, specs):
            yield dg.Output(
                features, FEATURES, metadata={"quarantined_rows": len(validation.quarantined)}
            )
        yield from results(
            FEATURES, verdicts, warn=["nulls_within_limit"], metadata={"broken_rules": by_rule}
        )

    return dg.Definitions(assets=[validate_customers])


def features_of(lake: Lake, contract: Contract, month: str) -> pd.DataFrame:
    """Returns the features of a month, with the contract's dtypes.

    A step reads them after its gate, whose error about a refused month says more than the lake's.
    """
    return typed(lake.read(FEATURES, [month]), contract)


def _asset_specs(platform: Platform) -> list[dg.AssetSpec]:
    contract = platform.contract
    shared: dict[str, Any] = {
        "deps": ["raw_customers"],
        "group_name": "data",
        "owners": [OWNER],
        "kinds": {"deltalake", "pandera"},
        "skippable": True,
        "code_version": platform.code_version(1),
        "partitions_def": platform.closed_months,
    }
    return [
        dg.AssetSpec(
            FEATURES,
            description=(
                "One row is one customer at the close of the month, typed, within the contract's "
                "limits, with derived features. No id appears twice in a month."
            ),
            metadata={
                **column_schema(contract, contract.snapshot, derived=True),
                "dagster/io_manager_key": "typed_tables",
            },
            **shared,
        ),
        dg.AssetSpec(
            QUARANTINE,
            description=(
                "One row is one row of the latest delivery, published or not, that broke the "
                "contract: as delivered, with every rule it broke."
            ),
            metadata={
                **column_schema(
                    contract,
                    contract.snapshot,
                    text=True,
                    platform=(SOURCE_ROW, "reasons", "month"),
                ),
                "dagster/io_manager_key": "text_tables",
            },
            **shared,
        ),
    ]
