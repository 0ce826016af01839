"""Traffic of the service: its requests and predictions, read from its prediction log."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.adapters.prediction_logs import read_ends, read_key, read_lines
from churn_assets.contracts.contract import MONTH, Contract
from churn_assets.core.limits import Limits
from churn_assets.core.scoring import traffic as core
from churn_assets.core.scoring.completeness import (
    Completeness,
    ProcessEnd,
    began_before,
    completeness,
    predictions_complete,
)
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

CHECKS = {
    "serving_matches_training": "The service received the same features as the graph has.",
    "predictions_readable": "Every line of the log can be read as a prediction.",
    "predictions_complete": "Every prediction that the service numbered is in the log.",
}


@dataclass(frozen=True)
class _Traffic:
    """The traffic of a month, and what was found in it.

    Attributes:
        new: Number of rows that this read of the log has added.
        damaged_ends: Number of files of ended processes that cannot be read.
    """

    rows: pd.DataFrame
    new: int
    parsed: Parsed
    skew: Skew
    completeness: Completeness
    damaged_ends: int


def definitions(platform: Platform) -> dg.Definitions:
    """`served_traffic`, with its checks."""
    contract, limits = platform.contract, platform.settings.limits
    months = platform.closed_months
    specs = [check(TRAFFIC, name, text, partitions_def=months) for name, text in CHECKS.items()]

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
        code_version=platform.code_version(2),
        metadata=_columns(contract),
        description=(
            "One row is one prediction that the service made while this was the latest closed "
            "month: request and response, from its log, without duplicates, with the pod that made "
            "it. Ids and personal values are pseudonyms; the real id is given if it is that of a "
            "customer of the month."
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
        found = _traffic(platform, lake, context.partition_key)
        yield dg.Output(found.rows, metadata=_metadata(found))
        yield from _results(found, limits)

    return dg.Definitions(assets=[served_traffic])


def _traffic(platform: Platform, lake: Lake, month: str) -> _Traffic:
    contract, key = platform.contract, read_key(platform.id_key_file)
    features = features_of(lake, contract, month)
    stored = stored_traffic(lake, contract, month)
    # Before the lines: the shipper stores the end of a process after its last line.
    ends, damaged = read_ends(platform.predictions, _window(platform, month).start)
    parsed = _read(platform, lake, stored, month)
    rows = core.merge_predictions(stored, core.as_traffic(parsed.rows, contract, month))
    rows = core.with_customers(rows, features, contract, key)
    rows.attrs[PROVENANCE] = features.attrs[PROVENANCE]
    return _Traffic(
        rows,
        len(rows) - len(stored),
        parsed,
        compare_served(rows, features, contract, key),
        _completeness(platform, lake, rows, ends, month),
        len(damaged),
    )


def stored_traffic(lake: Lake, contract: Contract, month: str) -> pd.DataFrame:
    """Returns the traffic of a month from the lake; no rows where it has none."""
    return core.as_traffic(_stored(lake, TRAFFIC, month), contract, month)


def _stored(lake: Lake, name: str, month: str) -> pd.DataFrame:
    stored = month in lake.months(name)
    return lake.read(name, [month]) if stored else pd.DataFrame(columns=list(core.REJECTED_COLUMNS))


def _window(platform: Platform, month: str) -> core.Window:
    """Returns the time window of the predictions of a month."""
    return core.Window() if platform.source.single_snapshot else core.Window.after(month)


def _completeness(
    platform: Platform, lake: Lake, rows: pd.DataFrame, ends: list[ProcessEnd], month: str
) -> Completeness:
    """Counts the lost predictions of a month; reads the month before if a process spans both."""
    window, earlier = _window(platform, month), rows.head(0)
    if began_before(rows, ends, window):
        earlier = stored_traffic(lake, platform.contract, str(pd.Period(month, freq="M") - 1))
    return completeness(rows, earlier, ends, window)


def _read(platform: Platform, lake: Lake, stored: pd.DataFrame, month: str) -> Parsed:
    """Reads what the logs have gained since the last read, in the time window of the month."""
    window = _window(platform, month)
    rejected = _stored(lake, REJECTED, month)
    new = read_lines(platform.predictions, core.read_positions(stored), window.start)
    parsed = parse_lines(new, platform.contract, window)
    parsed += parse_again(rejected, platform.contract, window)
    kept = core.merge_rejected_lines(rejected, parsed.rejected, month)
    if len(kept) > len(rejected):
        # Stored before the predictions, which say where the next read of the log starts.
        lake.write(REJECTED, kept, month)
    return parsed


def _results(found: _Traffic, limits: Limits) -> Iterator[dg.AssetCheckResult]:
    """Yields the result of each check; lines that are unreadable or missing only warn."""
    skew, rejected = found.skew, found.parsed.rejected
    matches = {"serving_matches_training": serving_matches_training(skew, limits)}
    compared = {"differences": table(skew.samples), "releases": table(skew.by_release)}
    yield from results(TRAFFIC, matches, metadata=compared)
    readable = {
        "predictions_readable": core.predictions_readable(len(found.rows), rejected, limits)
    }
    lines = {"unreadable_lines": table(core.truncated_lines(rejected))}
    yield from results(TRAFFIC, readable, warn=readable, metadata=lines)
    complete = {"predictions_complete": predictions_complete(found.completeness, limits)}
    gaps = {"gaps": table(found.completeness.gaps)}
    yield from results(TRAFFIC, complete, warn=complete, metadata=gaps)


def _metadata(found: _Traffic) -> Mapping[str, Any]:
    return {
        "new_predictions": found.new,
        "predictions_of_known_customers": found.skew.compared,
        "unreadable_lines": len(found.parsed.rejected),
        "unfinished_files": found.parsed.unfinished,
        "lost_predictions": found.completeness.lost,
        "damaged_ends": found.damaged_ends,
        "differing_columns": dg.MetadataValue.json(found.skew.by_column),
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
