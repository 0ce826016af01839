"""Traffic of the service: its requests and predictions, read from its prediction log."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.adapters.prediction_logs import read_key, read_lines
from churn_assets.contracts.contract import MONTH, Contract
from churn_assets.core.scoring import traffic as core
from churn_assets.core.scoring.log_lines import Parsed, parse_again, parse_lines
from churn_assets.core.scoring.skew import Skew, compare_served, serving_matches_training
from churn_assets.defs.assets.validation import FEATURES, features_of
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.metadata import column_schema, table
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.steps import step

TRAFFIC, REJECTED = "served_traffic", "served_traffic_rejected"


def definitions(platform: Platform) -> dg.Definitions:
    """`served_traffic`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [
        check(TRAFFIC, "serving_matches_training",
              "The service received the same features as the graph has.", partitions_def=months),
        check(TRAFFIC, "predictions_readable",
              "Every line of the log can be read as a prediction.", partitions_def=months),
    ]  # fmt: skip

    @dg.asset(
        name=TRAFFIC,
        deps=[FEATURES],
        partitions_def=months,
        check_specs=specs,
        retry_policy=platform.retries,
        # Personal columns are pseudonyms here: the contract's dtypes do not apply.
        io_manager_key="text_tables",
        group_name="monitoring",
        owners=[OWNER],
        kinds={"deltalake", "bentoml"},
        code_version=platform.code_version(1),
        metadata=_columns(contract),
        description=(
            "One row is one prediction that the service made while this was the latest closed "
            "month: request and response, from its log, without duplicates. Ids and personal "
            "values are pseudonyms; the real id is given if it is that of a customer of the month."
        ),
    )
    @step
    def served_traffic(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        lake: dg.ResourceParam[Lake],
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        require_open(context, config, audit)
        month, key = context.partition_key, read_key(platform.id_key_file)
        features = features_of(lake, contract, month)
        stored = stored_traffic(lake, contract, month)
        parsed = _read(platform, lake, stored, month)
        rows = core.merge_predictions(stored, core.as_traffic(parsed.rows, contract, month))
        rows = core.with_customers(rows, features, contract, key)
        rows.attrs[PROVENANCE] = features.attrs[PROVENANCE]
        rejected = parsed.rejected
        skew = compare_served(rows, features, contract, key)
        new = len(rows) - len(stored)
        yield dg.Output(rows, metadata=_metadata(skew, rejected, new, parsed.unfinished))
        matches = {"serving_matches_training": serving_matches_training(skew, limits)}
        readable = {"predictions_readable": core.predictions_readable(len(rows), rejected, limits)}
        yield from results(TRAFFIC, matches, metadata={"differences": table(skew.samples)})
        lines = {"unreadable_lines": table(core.truncated_lines(rejected))}
        yield from results(TRAFFIC, readable, warn=readable, metadata=lines)

    return dg.Definitions(assets=[served_traffic])


def stored_traffic(lake: Lake, contract: Contract, month: str) -> pd.DataFrame:
    """Returns the traffic of a month from the lake; no rows where it has none."""
    return core.as_traffic(_stored(lake, TRAFFIC, month), contract, month)


def _stored(lake: Lake, name: str, month: str) -> pd.DataFrame:
    stored = month in lake.months(name)
    return lake.read(name, [month]) if stored else pd.DataFrame(columns=list(core.REJECTED_COLUMNS))


def _read(platform: Platform, lake: Lake, stored: pd.DataFrame, month: str) -> Parsed:
    """Reads what the logs have gained since the last read, in the time window of the month."""
    single = platform.source.single_snapshot
    window = core.Window() if single else core.Window.after(month)
    rejected = _stored(lake, REJECTED, month)
    new = read_lines(platform.predictions, core.read_positions(stored), window.start)
    parsed = parse_lines(new, platform.contract, window)
    parsed += parse_again(rejected, platform.contract, window)
    kept = core.merge_rejected_lines(rejected, parsed.rejected, month)
    if len(kept) > len(rejected):
        # Stored before the predictions, which say where the next read of the log starts.
        lake.write(REJECTED, kept, month)
    return parsed


def _metadata(skew: Skew, rejected: pd.DataFrame, new: int, unfinished: int) -> Mapping[str, Any]:
    return {
        "new_predictions": new,
        "predictions_of_known_customers": skew.compared,
        "unreadable_lines": len(rejected),
        "unfinished_files": unfinished,
        "differing_columns": dg.MetadataValue.json(skew.by_column),
    }


def _columns(contract: Contract) -> Mapping[str, Any]:
    """Returns the schema: the contract's columns, personal ones as pseudonyms, and the log's."""
    names = core.feature_columns(contract)
    features = [
        column.model_copy(
            update={"name": names[column.name]}
            | ({"kind": "text", "nullable": True} if column.personal else {})
        )
        for column in contract.features
    ]
    own_id = contract.id.model_copy(update={"name": core.id_column(contract), "nullable": True})
    return column_schema(contract, (own_id, *features), platform=(*core.LOG_COLUMNS, MONTH))
