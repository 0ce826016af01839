"""Reports for people: self-contained pages, plots, and tables that no data can break."""

import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from churn_assets.adapters.reports.check_pages import drift_check_page
from churn_assets.adapters.reports.html import render_drift, render_evaluation
from churn_assets.adapters.reports.markdown import drift_table, evaluation_table, markdown_image
from churn_assets.adapters.reports.plots import drift_plots, evaluation_plots
from churn_assets.adapters.reports.words import METRICS, VERDICTS, headline, worst
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.leaks import Association
from churn_assets.core.evaluation import metrics
from churn_assets.core.evaluation.evaluation import About, EvaluationReport, evaluate
from churn_assets.core.evaluation.metrics import Interval
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.drift import DriftReport, compare_month, compare_traffic
from churn_assets.core.monitoring.performance import RealisedPerformance
from churn_assets.core.scoring.scores import prediction_drift
from churn_assets.core.scoring.traffic import as_traffic
from churn_assets_tests.core.typed_rows import TEXT, typed_rows, with_labels

CONTRACT = load_contract("telecom")
HOSTILE = "<script>alert('$x_1$')</script> | [a](javascript:b) `c`"
PNG = b"\x89PNG\r\n\x1a\n"


def evaluated(*, label: bool | None = None) -> EvaluationReport:
    frame, hazard = with_labels(typed_rows(CONTRACT, 400), CONTRACT, "avg_monthly_charges")
    frame["contract_type"] = pd.Series([HOSTILE, "One year"] * 200, dtype=TEXT)
    if label is not None:
        frame["churned"] = pd.array([label] * 400, dtype="boolean")
    about = About(model_version="7", mlflow_run_id="abc", baseline_feature="tenure",
                  table_versions={"training_set": 12})  # fmt: skip
    return evaluate(frame, hazard, np.full(400, 0.2), CONTRACT, Limits(), resamples=30, about=about)


def compared(rows: int = 300) -> DriftReport:
    month = typed_rows(CONTRACT, rows, seed=2)
    month["location"] = pd.Series([HOSTILE] * rows, dtype=TEXT)
    return compare_month(typed_rows(CONTRACT, 400), month, CONTRACT, Limits(), name="2026-04")


def complete_report() -> DriftReport:
    """A report with scores, served traffic and realised performance."""
    month = typed_rows(CONTRACT, 300, seed=2)
    one = Interval(value=0.8, low=0.7, high=0.9)
    series = [
        RealisedPerformance(month=m, model_version="1", source=source, rows=90, positives=9,
                 expected_positives=8.5, roc_auc=auc, brier=one, profit_per_customer=one,
                 in_training=m == "2026-02")
        for m in ("2026-02", "2026-03") for source in ("scores", "served")
        for auc in (one, Interval(value=None, low=None, high=None))
    ]  # fmt: skip
    requested = month.assign(age="f" * 32, gender="f" * 32, location="f" * 32)
    requested["tenure"] += 500
    return compared().model_copy(
        update={
            "model_version": "1", "tested_auc": one, "performance": tuple(series),
            "predictions": prediction_drift([0.9] * 50, [0.1, 0.2, 0.3]),
            "served": compare_traffic(
                month, as_traffic(requested, CONTRACT, "2026-04"), CONTRACT, Limits()
            ),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def evaluation() -> EvaluationReport:
    return evaluated()


@pytest.fixture(scope="module")
def drift() -> DriftReport:
    return compared()


class Page(HTMLParser):
    """Collects tags and links that a browser would run or fetch; checks that tags are closed."""

    VOID = frozenset({"meta", "img", "br", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_pages_are_self_contained(evaluation: EvaluationReport, drift: DriftReport) -> None:
    for page in (
        render_evaluation(evaluation, evaluation_plots(evaluation)),
        render_drift(drift, drift_plots(drift)),
    ):
        found = Page(page)
        assert found.open == []
        assert not found.tags & {"script", "link", "iframe", "object"}
        assert found.links
        assert all(link.startswith("data:image/png;base64,") for link in found.links)


def test_the_evaluation_page_shows_what_features_alone_know(evaluation: EvaluationReport) -> None:
    plots = evaluation_plots(evaluation)
    assert "did not measure it" in render_evaluation(evaluation, plots)
    found = (
        Association(features=("tenure", "age"), auc=0.7, identified=0.0),
        Association(features=("usage_days",), auc=0.93, identified=0.877),
    )
    page = render_evaluation(evaluation.model_copy(update={"associations": found}), plots)
    assert Page(page).open == []
    honest, leak = re.findall(r"<tr[^>]*><td>(?:tenure|usage).*?</tr>", page, re.DOTALL)
    assert "tenure + age" in honest
    assert "plausible" in honest
    for text in ('class="flagged"', "0.930", "87.7%", "leak"):
        assert text in leak


def test_the_evaluation_page_shows_every_verdict_metric_and_slice(
    evaluation: EvaluationReport,
) -> None:
    page = render_evaluation(evaluation, evaluation_plots(evaluation))
    for name, verdict in evaluation.verdicts.items():
        assert VERDICTS[name] in page
        assert verdict.description.replace("'", "&#39;") in page
    for label, _ in METRICS.values():
        assert label in page
    for text in ("30 to 45", "version 12", "abc", "telecom 1.0.0", "2026-03", "(sensitive)"):
        assert text in page
    assert "&lt;script&gt;" in page


def test_the_drift_page_shows_every_verdict_and_feature(drift: DriftReport) -> None:
    page = render_drift(drift, drift_plots(drift))
    for name in drift.verdicts:
        assert VERDICTS[name] in page
    for one in drift.features:
        assert one.name in page
    assert "What drifted" in page
    assert "2 of 6 checks failed" in page


def test_reports_show_nulls_that_fell_categories_that_vanished_and_a_spread_that_shrank() -> None:
    training, month = typed_rows(CONTRACT, 400), typed_rows(CONTRACT, 300, seed=2)
    some = np.arange(400) < 36
    training["location"] = training["location"].mask(some, "Pisa")
    training["avg_call_minutes"] = training["avg_call_minutes"].mask(some)
    training["avg_data_usage"] = np.where(some, 90.0, 10.0)
    month["avg_data_usage"] = 10.0
    report = compare_month(training, month, CONTRACT, Limits(), name="2026-04")
    table, page = drift_table(report), render_drift(report, drift_plots(report))
    for text in ("nulls fell from 9.0% to 0.0%", "has now (limit 5.0%): Pisa", "its spread fell"):
        assert text in table
        assert text in page
    assert "| Spread in training | Spread now | New categories | Vanished categories |" in table
    assert "Categories, new and vanished" in page
    for name in ("nulls_as_in_training", "no_new_categories"):
        assert f"![{name}](data:image/png" in drift_check_page(report, name)


def test_pages_of_one_class_and_of_empty_months() -> None:
    for label in (True, False):
        report = evaluated(label=label)
        assert "undefined" in render_evaluation(report, evaluation_plots(report))
    report = compared(rows=0)
    assert "nothing to compare" in render_drift(report, drift_plots(report))


@pytest.mark.parametrize("label", [None, True, False])
def test_evaluation_plots_are_pngs(label: bool | None) -> None:
    plots = evaluation_plots(evaluated(label=label))
    assert list(plots) == ["calibration", "profit", "roc", "precision_recall", "gains"]
    assert all(png.startswith(PNG) for png in plots.values())


def test_drift_plots_are_deterministic_pngs(drift: DriftReport) -> None:
    plots = drift_plots(drift)
    assert list(plots) == ["effects"]
    assert plots["effects"].startswith(PNG)
    assert drift_plots(drift) == plots
    assert drift_plots(compared(rows=0))["effects"].startswith(PNG)


def test_a_markdown_image_embeds_its_data() -> None:
    assert markdown_image(b"abc", "A plot") == "![A plot](data:image/png;base64,YWJj)"


def test_hostile_data_does_not_break_tables(
    evaluation: EvaluationReport, drift: DriftReport
) -> None:
    for text in (evaluation_table(evaluation), drift_table(drift)):
        for table in text.split("\n\n"):
            lines = table.split("\n")
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert "<script" not in text
        assert "[a]" not in re.sub(r"\\\[a\\\]", "", text)


def test_every_metric_and_verdict_has_a_label(
    evaluation: EvaluationReport, drift: DriftReport
) -> None:
    assert set(METRICS) == set(metrics.METRICS)
    assert set(VERDICTS) == {*evaluation.verdicts, *drift.verdicts}


def test_the_headline_counts_failures(drift: DriftReport) -> None:
    same = compare_month(*[typed_rows(CONTRACT, 50)] * 2, CONTRACT, Limits(), name="2026-04")
    assert headline(same.verdicts) == "3 of 6 checks passed, 3 not judged"
    assert headline(drift.verdicts) == "2 of 6 checks failed, 3 not judged"
    judged = {name: one for name, one in same.verdicts.items() if one.judged}
    assert headline(judged) == "All 3 checks passed"


def test_what_was_not_judged_is_shown_as_neither_passed_nor_failed(drift: DriftReport) -> None:
    same = compare_month(*[typed_rows(CONTRACT, 50)] * 2, CONTRACT, Limits(), name="2026-04")
    for report, banner in ((same, "open"), (drift, "bad")):
        page = render_drift(report, drift_plots(report))
        assert f'<div class="banner {banner}">{headline(report.verdicts)}</div>' in page
        for name, verdict in report.verdicts.items():
            label, outcome = VERDICTS[name], verdict.outcome
            style = {"passed": "good", "failed": "bad", "not judged": "open"}[outcome]
            assert f'{label}: <span class="{style}">{outcome}</span>' in page
            assert f"| {label} | {'**failed**' if outcome == 'failed' else outcome} |" in (
                drift_table(report)
            )
    judged = {name: one for name, one in same.verdicts.items() if one.judged}
    assert (worst(judged), worst(same.verdicts)) == ("passed", "not judged")


def test_the_drift_page_shows_scores_traffic_and_performance() -> None:
    report = complete_report()
    plots = drift_plots(report)
    assert list(plots) == ["effects", "predictions", "performance", "served"]
    page = render_drift(report, plots)
    assert Page(page).open == []
    for text in ("Realised performance", "(in training)", "predictions of the service",
                 "Served traffic"):  # fmt: skip
        assert text in page
    assert "2026-03" in drift_table(report)


@pytest.mark.parametrize("make", [complete_report, partial(compared, rows=0)])
def test_each_check_has_a_small_page_with_its_plot_and_table(
    make: Callable[[], DriftReport],
) -> None:
    report = make()
    for name, verdict in report.verdicts.items():
        page = drift_check_page(report, name)
        if page != verdict.description:
            image, _, table = page.partition("\n\n")
            assert image.startswith(f"![{name}](data:image/png;base64,")
            assert table.startswith("| ")
            assert len(page) < 80_000
        else:
            assert make is not complete_report
