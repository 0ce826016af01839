"""Summary at the end of the demo, read from the lake, the reports and the instance."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg
from dagster import DagsterInstance

from churn_assets.adapters.records import BentoRecord
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.evaluation.metrics import Interval
from churn_assets.defs.platform.check_records import latest_result
from churn_assets.defs.platform.platform import Platform
from churn_assets.demo.history import history, read

WIDTH, INDENT = 110, 14
SHOWN_METRICS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "brier": "Brier",
    "calibration_error": "calibration error",
}


def summary(
    platform: Platform,
    definitions: dg.Definitions,
    instance: DagsterInstance,
    seconds: float,
    *,
    complete: bool,
    faults: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> str:
    """Returns the summary as text; it says so where a part does not exist yet.

    Args:
        platform: Platform of the demo.
        definitions: Definitions of the graph.
        instance: Instance of the runs.
        seconds: Duration of the demo.
        complete: Whether the demo materialised everything.
        faults: Months of each fault that no check reports, by asset and message.
    """
    reports = platform.reports
    bento = read(BentoRecord, reports / "churn_bento.json")
    parts = [
        "",
        f"Done in {seconds:.0f} s"
        if complete
        else f"Not all was made ({seconds:.0f} s); what follows may be of an earlier run",
        *_listed("failed", _faults(faults or {})),
        *_data(platform),
        *_listed("chain", history(platform, definitions, instance)),
        *_model(read(EvaluationReport, reports / "evaluation_report.json")),
        *_checks(definitions, instance),
        *_bento(bento),
        *_next(platform, bento),
    ]
    return "\n".join(parts)


def _faults(faults: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    for (asset, message), months in faults.items():
        yield f"{', '.join([asset, *months])}: {message}"


def _data(platform: Platform) -> list[str]:
    known = set(platform.closed_months.get_partition_keys())
    rows, rejected = (
        {month: n for month, n in platform.lake.rows_by_month(table).items() if month in known}
        for table in ("validated_features", "quarantined_customers")
    )
    if not rows:
        return ["  data        no month was validated"]
    months = sorted(rows)
    return [
        f"  data        {sum(rows.values()):,} rows in {len(rows)} month(s), "
        f"{months[0]} to {months[-1]}; {sum(rejected.values()):,} quarantined"
    ]


def _model(report: EvaluationReport | None) -> list[str]:
    if report is None:
        return ["  model       none was evaluated"]
    metrics = (f"{label} {_interval(report.metrics[k])}" for k, label in SHOWN_METRICS.items())
    money, profit = report.profit, report.profit.per_1000_customers
    return [
        f"  model       version {report.about.model_version}, tested on {report.rows:,} "
        f"customers of {', '.join(report.months)}",
        *(f"              {text}" for text in metrics),
        f"              offers from probability {money.threshold:.2f} bring {_interval(profit, 0)} "
        f"{money.currency} per 1,000 customers",
    ]


def _checks(definitions: dg.Definitions, instance: DagsterInstance) -> list[str]:
    keys = sorted(definitions.resolve_asset_graph().asset_check_keys, key=str)
    failed, passed, not_judged = [], 0, 0
    for key in keys:
        record = latest_result(instance, key)
        if record is None:
            continue
        if not record.judged:
            not_judged += 1
        elif record.result.passed:
            passed += 1
        else:
            asset = key.asset_key.to_user_string()
            failed.append(f"{asset}: {key.name}: {record.result.description}")
    did_not_run = len(keys) - passed - len(failed) - not_judged
    return [
        f"  checks      {passed} passed, {len(failed)} failed, {not_judged} not judged, "
        f"{did_not_run} did not run",
        *_listed("", failed),
    ]


def _bento(record: BentoRecord | None) -> list[str]:
    if record is None:
        return ["  bento       none was built"]
    return [f"  bento       {record.tag} ({record.archive})"]


def _next(platform: Platform, bento: BentoRecord | None) -> list[str]:
    page = platform.reports / "evaluation_report.html"
    return [
        "",
        "Next",
        "  make dev    the graph in the Dagster UI",
        *(["  make serve  the model behind POST /predict"] if bento else []),
        *([f"  open {page.as_uri()}"] if page.is_file() else []),
    ]


def _listed(name: str, texts: Iterable[str]) -> Iterator[str]:
    """Yields a block of lines: the name, then the texts below each other, wrapped.

    Lines of a text stay lines with their indentation, so that a run config can be copied.
    """
    below = " " * (INDENT + 2)
    for text in texts:
        first, *others = text.splitlines() or [""]
        start = f"  {name}".ljust(INDENT)
        yield from _wrapped(first, start, below)
        for line in others:
            # A long value goes on deeper than its key, as YAML wants it.
            indent = below + line[: len(line) - len(line.lstrip())]
            yield from _wrapped(line.strip(), indent, f"{indent}  ")
        name = ""


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Returns the lines of a text with indentation; a path or an URL stays whole."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=others,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _interval(interval: Interval, digits: int = 3) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return "undefined"
    value, low, high = (f"{v:,.{digits}f}" for v in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"
