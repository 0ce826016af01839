"""Reports as short markdown, for an asset's metadata."""

import base64
from collections.abc import Iterable
from itertools import pairwise

from churn_assets.adapters.reports.words import (
    METRICS,
    NO_VALUE,
    SOURCES,
    TESTS,
    VERDICTS,
    interval,
    number,
    p_value,
    percent,
)
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.core.monitoring.feature_drift import FeatureDrift
from churn_assets.core.monitoring.performance import RealisedPerformance
from churn_assets.core.scoring.scores import PredictionDrift
from churn_assets.core.verdict import Verdict


def markdown_image(png: bytes, alt: str) -> str:
    """A PNG as a markdown image with embedded data."""
    return f"![{_cell(alt)}](data:image/png;base64,{base64.b64encode(png).decode()})"


def evaluation_table(report: EvaluationReport) -> str:
    """Tables of verdicts, metrics with 95% intervals, profit and slices."""
    profit = report.profit
    metrics = [
        (METRICS[name][0], interval(one), METRICS[name][1]) for name, one in report.metrics.items()
    ]
    money = [
        ("Offers from the break-even probability on", f"{profit.threshold:.1%}",
         number(profit.per_1000_customers.value, 0)),
        ("Best threshold in hindsight", percent(profit.best.threshold),
         number(1000 * profit.best.profit_per_customer, 0)),
        ("Offers to everybody", "0.0%", number(1000 * profit.everybody, 0)),
        ("Offers to nobody", NO_VALUE, "0"),
    ]  # fmt: skip
    slices = [
        (one.column, one.value, number(one.rows, 0), percent(one.positives / one.rows),
         interval(one.metrics["roc_auc"]),
         "weak" if one.weak else "good enough" if one.judged else "too few rows to judge")
        for one in report.slices
    ]  # fmt: skip
    return "\n\n".join(
        (
            _verdicts(report.verdicts),
            _table(("Metric", "Value (95% interval)", "What it means"), metrics),
            _table(
                ("Decision", "Threshold", f"{profit.currency} per 1,000 customers"), money
            ),
            _table(("Slice", "Value", "Rows", "Churn rate", "ROC AUC", "Verdict"), slices),
        )
    )  # fmt: skip


def drift_table(report: DriftReport) -> str:
    """Tables of verdicts, features (drifted ones first) and realised performance."""
    parts = [_verdicts(report.verdicts), feature_table(report.features)]
    if report.performance:
        parts.append(performance_table(report.performance))
    return "\n\n".join(parts)


def feature_table(features: Iterable[FeatureDrift]) -> str:
    """Table of every feature against training, drifted ones first."""
    rows = [
        (one.name, TESTS[one.test], number(one.effect), p_value(one.corrected_p_value),
         number(one.psi), percent(one.training.null_share), percent(one.month.null_share),
         number(one.training.spread, 2), number(one.month.spread, 2), percent(one.unseen_share),
         percent(one.vanished_share), "; ".join(one.reasons) or "no")
        for one in most_moved_first(features)
    ]  # fmt: skip
    header = (
        "Feature", "Test", "Effect", "Corrected p", "PSI", "Nulls in training", "Nulls now",
        "Spread in training", "Spread now", "New categories", "Vanished categories", "Drifted",
    )  # fmt: skip
    return _table(header, rows)


def performance_table(series: Iterable[RealisedPerformance]) -> str:
    """Table of the realised performance of each month, latest first."""
    rows = [
        (one.month, one.model_version, SOURCES[one.source], one.origin or NO_VALUE,
         number(one.rows, 0),
         number(one.expected_positives, 0), number(one.positives, 0), interval(one.roc_auc),
         interval(one.brier), interval(one.profit_per_customer, 2),
         "no, in the training set" if one.in_training else "yes")
        for one in sorted(series, key=lambda one: one.month, reverse=True)
    ]  # fmt: skip
    header = (
        "Month", "Model", "Source", "Release", "Customers", "Expected churn", "Churned", "ROC AUC",
        "Brier", "Profit per customer", "New to the model",
    )  # fmt: skip
    return _table(header, rows)


def prediction_table(drift: PredictionDrift) -> str:
    """Table of the month's scores by the deciles of the test rows."""
    bounds = [0.0, *drift.edges, 1.0]
    rows = [
        (f"{low:.1%} to {high:.1%}", percent(tested), percent(now))
        for (low, high), tested, now in zip(
            pairwise(bounds), drift.tested, drift.month, strict=True
        )
    ]
    return _table(("Churn probability", "Test rows", "The month"), rows)


def most_moved_first(features: Iterable[FeatureDrift]) -> list[FeatureDrift]:
    """The features, drifted ones first, then by descending effect."""
    return sorted(features, key=lambda one: (not one.drifted, -(one.effect or 0.0)))


def _verdicts(verdicts: dict[str, Verdict]) -> str:
    marks = {"failed": "**failed**"}
    rows = [
        (VERDICTS[name], marks.get(verdict.outcome, verdict.outcome), verdict.description)
        for name, verdict in verdicts.items()
    ]
    return _table(("Check", "Outcome", "Why"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot break out of its cell: category names come from customer data."""
    escaped = text.translate({ord(sign): f"\\{sign}" for sign in "\\|[]`"})
    return " ".join(escaped.replace("<", "&lt;").split())
