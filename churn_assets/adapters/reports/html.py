"""Reports as self-contained HTML files."""

import base64
from collections.abc import Mapping

from churn_assets.adapters.reports import words
from churn_assets.adapters.reports.markdown import most_moved_first
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.monitoring.drift import DriftReport

Plots = Mapping[str, bytes]
"""PNG images by name."""


def render_evaluation(report: EvaluationReport, plots: Plots) -> str:
    """One self-contained page about a model's quality, with its `evaluation_plots`."""
    return _render("evaluation.html.j2", report, plots)


def render_drift(report: DriftReport, plots: Plots) -> str:
    """One self-contained page about a month's drift, with its `drift_plots`."""
    return _render("drift.html.j2", report, plots, features=most_moved_first(report.features))


def _render(
    template: str, report: EvaluationReport | DriftReport, plots: Plots, **values: object
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("churn_assets.adapters.reports"),
        # Category names come from customer data: none of them may become markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        percent=words.percent,
        interval=words.interval,
        p_value=words.p_value,
        headline=words.headline,
    )
    images = {name: base64.b64encode(png).decode() for name, png in plots.items()}
    return environment.get_template(template).render(
        report=report, verdicts=report.verdicts, plots=images, words=words, **values
    )
