"""Reports as markdown, short enough to be read beside an asset."""

import base64
from collections.abc import Iterable

from churn_assets.adapters.reports.words import (
    METRICS,
    NOTHING,
    TESTS,
    VERDICTS,
    interval,
    number,
    p_value,
    percent,
)
from churn_assets.core.drift import DriftReport, FeatureDrift
from churn_assets.core.evaluation import EvaluationReport
from churn_assets.core.verdict import Verdict


def markdown_image(png: bytes, alt: str) -> str:
    """A PNG as a markdown image that carries its own data."""
    return f"![{_cell(alt)}](data:image/png;base64,{base64.b64encode(png).decode()})"


def evaluation_table(report: EvaluationReport) -> str:
    """Verdicts, metrics with 95% intervals, and the slices that are judged."""
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
        ("Offers to nobody", NOTHING, "0"),
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
    """Verdicts, and every feature with the ones that drifted first."""
    rows = [
        (one.name, TESTS[one.test], number(one.effect), p_value(one.corrected_p_value),
         number(one.psi), percent(one.training.null_share), percent(one.month.null_share),
         percent(one.unseen_share), "; ".join(one.reasons) or "no")
        for one in most_moved_first(report)
    ]  # fmt: skip
    header = (
        "Feature", "Test", "Effect", "Corrected p", "PSI", "Nulls in training", "Nulls now",
        "New categories", "Drifted",
    )  # fmt: skip
    return "\n\n".join((_verdicts(report.verdicts), _table(header, rows)))


def most_moved_first(report: DriftReport) -> list[FeatureDrift]:
    """The features, those that drifted before the others, then by falling effect."""
    return sorted(report.features, key=lambda one: (not one.drifted, -(one.effect or 0.0)))


def _verdicts(verdicts: dict[str, Verdict]) -> str:
    rows = [
        (VERDICTS[name], "passed" if verdict.passed else "**failed**", verdict.description)
        for name, verdict in verdicts.items()
    ]
    return _table(("Check", "Outcome", "Why"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot break out of its cell: categories are whatever a customer's data says."""
    escaped = text.translate({ord(sign): f"\\{sign}" for sign in "\\|[]`"})
    return " ".join(escaped.replace("<", "&lt;").split())
