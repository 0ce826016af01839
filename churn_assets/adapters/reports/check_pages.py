"""Markdown page for one failed check of the drift report: a plot and a table."""

from churn_assets.adapters.reports.markdown import (
    feature_table,
    markdown_image,
    performance_table,
    prediction_table,
)
from churn_assets.adapters.reports.plots import drift_plot
from churn_assets.core.monitoring.drift import DriftReport

PLOTS = {
    "no_feature_drift": "effects",
    "no_new_categories": "unseen",
    "nulls_as_in_training": "nulls",
    "no_prediction_drift": "predictions",
    "performance_holds": "performance",
    "served_traffic_as_training": "served",
}
DPI = 80
"""Low resolution, because the page is stored in the event of the check."""


def drift_check_page(report: DriftReport, name: str) -> str:
    """The data behind a check of the report, as markdown; the verdict's text where there is none.

    Raises:
        KeyError: The report has no such check.
    """
    plot = PLOTS[name]
    if (found := _table(report, plot)) is None:
        return report.verdicts[name].description
    return f"{markdown_image(drift_plot(report, plot, DPI), name)}\n\n{found}"


def _table(report: DriftReport, plot: str) -> str | None:
    if plot == "predictions":
        return prediction_table(report.predictions) if report.predictions else None
    if plot == "performance":
        return performance_table(report.performance) if report.performance else None
    if plot == "served":
        return feature_table(report.served.features) if report.served else None
    return feature_table(report.features)
