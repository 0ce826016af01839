"""History of the models and of the months that they scored, read from the stores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dagster as dg
from dagster import DagsterInstance
from pydantic import BaseModel
from upath import UPath

from churn_assets.adapters.audit import AuditLog
from churn_assets.core.governance.audit import AuditEntry
from churn_assets.core.monitoring.drift import RETRAINING_CHECKS, DriftReport
from churn_assets.defs.assets.retraining import DRIFT, MODEL
from churn_assets.defs.assets.scores import SCORES, delivered_version
from churn_assets.defs.platform.check_records import latest_failures, latest_judged
from churn_assets.defs.platform.platform import Platform

EARNED = dg.AssetCheckKey(dg.AssetKey("promoted_model"), "challenger_earned_promotion")
MOST_MODELS = 1_000


@dataclass(frozen=True)
class Trained:
    """A trained model, from its asset's metadata: version, months and reasons of the training."""

    version: str
    months: str
    reasons: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "Trained":
        _, version = str(metadata["model_version"].value).rsplit(":", 1)
        first, *_, last = metadata["months"].value.split(", ") * 2
        keys = [text.split(": ")[0] for text in metadata["reasons"].value.splitlines()]
        return cls(version, f"{first} to {last}", ", ".join(keys))


def history(
    platform: Platform, definitions: dg.Definitions, instance: DagsterInstance
) -> Iterator[str]:
    """Yields a line per fact: why a model was trained, its promotion, the months it scored."""
    entries = [e for e in AuditLog(platform.lake).entries() if e.subject == platform.model_name]
    scored = _scored(platform)
    models = _models(instance)
    for model in models:
        yield f"version {model.version} learnt from {model.months}; why: {model.reasons}"
        yield _decision(model, entries) or _refusal(instance, newest=model == models[-1])
        for month, rows in scored.get(model.version, {}).items():
            yield (
                f"{month}: {rows:,} customers scored by version {model.version}; "
                f"{_drift(platform, month)}"
            )
    yield from _stopped(definitions, instance)


def _models(instance: DagsterInstance) -> list[Trained]:
    records = instance.fetch_materializations(dg.AssetKey(MODEL), limit=MOST_MODELS).records
    events = (record.asset_materialization for record in reversed(records))
    return [Trained.of(event.metadata) for event in events if event]


def _scored(platform: Platform) -> Mapping[str, Mapping[str, int]]:
    """Returns the number of scored customers, by model version and month."""
    rows_scored: dict[str, dict[str, int]] = {}
    for month, rows in sorted(platform.lake.rows_by_month(SCORES).items()):
        version = delivered_version(platform.lake, month)
        rows_scored.setdefault(str(version), {})[month] = rows
    return rows_scored


def _decision(model: Trained, entries: Sequence[AuditEntry]) -> str:
    """Describes the last decision that made the model the champion; "" where there is none."""
    decisions = [entry for entry in entries if entry.after == model.version]
    if not decisions:
        return ""
    return f"{decisions[-1].action} by {decisions[-1].actor}: {decisions[-1].reason}"


def _refusal(instance: DagsterInstance, *, newest: bool) -> str:
    latest = latest_judged(instance, EARNED) if newest else None
    reason = f": {latest.result.description}" if latest and not latest.result.passed else ""
    return f"not promoted{reason}"


def _drift(platform: Platform, month: str) -> str:
    report = read(DriftReport, platform.reports / DRIFT / f"{month}.json")
    if report is None:
        return "not compared with training"
    failed = [name for name in RETRAINING_CHECKS if not report.verdicts[name].passed]
    features = f" ({', '.join(report.drifted)})" if report.drifted else ""
    return f"failed {', '.join(failed)}{features}" if failed else "as in training"


def _stopped(definitions: dg.Definitions, instance: DagsterInstance) -> Iterator[str]:
    """Yields a line per blocking check of a month that failed when it last ran."""
    graph = definitions.resolve_asset_graph()
    blocking = [key for key in graph.asset_check_keys if graph.get(key).blocking]
    for record in latest_failures(instance, blocking):
        if record.partition is not None:
            asset = record.key.asset_key.to_user_string()
            yield (
                f"{record.partition}: stopped at {asset}: {record.key.name}: "
                f"{record.result.description}"
            )


Report = TypeVar("Report", bound=BaseModel)


def read(kind: type[Report], path: UPath) -> Report | None:
    """Returns a stored report or record; None where the file does not exist."""
    return kind.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None
