"""First stage: customers and labels as the source delivers them, one month at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.sources.source import (
    MissingColumnsError,
    Source,
    SourceUnavailableError,
)
from churn_assets.contracts.schemas import SOURCE_ROW, label_schema
from churn_assets.core.data import quality
from churn_assets.core.verdict import Verdict
from churn_assets.defs.assets import deliveries
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.metadata import column_schema
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.steps import step

RAW, LABELS = "raw_customers", "churn_labels"


def definitions(platform: Platform) -> dg.Definitions:
    """`raw_customers` and `churn_labels`, with their checks."""
    return dg.Definitions(assets=[_raw_customers(platform), _churn_labels(platform)])


@contextmanager
def naming_other_months(platform: Platform) -> Iterator[None]:
    """Adds the months of the source that have no partition to the error of a missing month.

    Raises:
        SourceUnavailableError: The source is unavailable, or does not have the month.
    """
    try:
        yield
    except SourceUnavailableError as error:
        if not (others := platform.months_without_partition):
            raise
        raise SourceUnavailableError(f"{error}. {others}") from error


def _raw_customers(platform: Platform) -> dg.AssetsDefinition:
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [
        check(RAW, "columns_of_contract_present", "Every column of the contract was delivered.",
              blocking=True, partitions_def=months),
        check(RAW, "rows_present", "The month has customers.",
              blocking=True, partitions_def=months),
        check(RAW, "row_count_as_usual", "There are about as many customers as in earlier months.",
              partitions_def=months),
    ]  # fmt: skip

    @dg.asset(
        name=RAW,
        deps=[deliveries.CUSTOMERS],
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="text_tables",
        group_name="data",
        owners=[OWNER],
        kinds={"deltalake", "pandas"},
        code_version=platform.code_version(1),
        metadata=column_schema(
            contract, contract.snapshot, text=True, platform=(SOURCE_ROW, "month")
        ),
        description=(
            f"One row is one row of the source, exactly as pulled, as text. {contract.description}"
        ),
    )
    @step
    def raw_customers(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Source],
        lake: dg.ResourceParam[Lake],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        month = context.partition_key
        try:
            with naming_other_months(platform):
                rows = source.snapshot(month)
        except MissingColumnsError as error:
            missing = Verdict(False, str(error))
            yield from results(RAW, {"columns_of_contract_present": missing})
            raise
        earlier = {m: n for m, n in lake.rows_by_month(RAW).items() if m < month}
        verdicts = {
            "columns_of_contract_present": quality.columns_present(rows, contract),
            "rows_present": quality.rows_present(len(rows), month),
            "row_count_as_usual": quality.row_count_as_usual(len(rows), earlier, limits),
        }
        if all_passed(verdicts, specs):
            yield dg.Output(rows.assign(month=month))
        yield from results(RAW, verdicts, warn=["row_count_as_usual"])

    return raw_customers


def _churn_labels(platform: Platform) -> dg.AssetsDefinition:
    contract, limits = platform.contract, platform.settings.limits
    months = platform.labelled_months
    specs = [
        check(LABELS, "label_rate_within_bounds", "The share of churned customers is plausible.",
              blocking=True, partitions_def=months),
        check(LABELS, "every_id_known", "Every labelled customer is in the month's snapshot.",
              blocking=True, partitions_def=months),
    ]  # fmt: skip

    @dg.asset(
        name=LABELS,
        deps=[RAW, deliveries.LABELS],
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="typed_tables",
        group_name="data",
        owners=[OWNER],
        kinds={"deltalake", "pandas"},
        code_version=platform.code_version(1),
        metadata=column_schema(contract, (contract.id, contract.label)),
        description=(
            "One row is one customer of the month's snapshot, with the label: whether the customer "
            f"left within {contract.horizon_months} month(s). {contract.label.description}."
        ),
    )
    @step
    def churn_labels(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        source: dg.ResourceParam[Source],
        lake: dg.ResourceParam[Lake],
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        require_open(context, config, audit)
        month = context.partition_key
        # Read after the gate, whose error about an unpublished month says more than the lake's.
        raw_customers = lake.read(RAW, [month])
        with naming_other_months(platform):
            labels = source.labels(month)
        ids, label = contract.id.name, contract.label.name
        verdicts = {
            "label_rate_within_bounds": quality.label_rate_within_bounds(labels[label], limits),
            "every_id_known": quality.every_id_known(labels[ids], raw_customers[ids], limits),
        }
        if all_passed(verdicts, specs):
            known = labels.dropna(subset=[label]).reset_index(drop=True)
            yield dg.Output(label_schema(contract).validate(known))
        yield from results(LABELS, verdicts)

    return churn_labels
