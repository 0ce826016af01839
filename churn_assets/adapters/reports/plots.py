"""The plots of the reports as PNG images, drawn without pyplot and its global state.

Matplotlib is imported when the first plot is drawn.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from churn_assets.adapters.reports.markdown import most_moved_first
from churn_assets.core.drift import DriftReport
from churn_assets.core.evaluation import EvaluationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = TypeVar("Report", EvaluationReport, DriftReport)

BLUE, RED, GREY, INK = "#2457a6", "#b3261e", "#8a94a3", "#1c2530"
SIZE = (6.0, 4.0)
DPI = 150


def evaluation_plots(report: EvaluationReport) -> dict[str, bytes]:
    """PNG images by name: "calibration", "profit", "roc", "precision_recall" and "gains"."""
    drawings: dict[str, Callable[[Axes, EvaluationReport], None]] = {
        "calibration": _calibration,
        "profit": _profit,
        "roc": _roc,
        "precision_recall": _precision_recall,
        "gains": _gains,
    }
    return {name: _png(draw, report, SIZE) for name, draw in drawings.items()}


def drift_plots(report: DriftReport) -> dict[str, bytes]:
    """PNG images by name: "effects", how far each feature moved, with the limit."""
    height = 1.2 + 0.3 * len(report.features)
    return {"effects": _png(_effects, report, (8.0, height))}


def _png(
    draw: Callable[["Axes", Report], None], report: Report, size: tuple[float, float]
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color="#e4e8ee", linewidth=0.8)
    axes.set_axisbelow(True)
    draw(axes, report)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _shares(axes: "Axes", x: str, y: str) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _calibration(axes: "Axes", report: EvaluationReport) -> None:
    from matplotlib.ticker import PercentFormatter

    bins = report.curves.calibration
    x = [one.mean_probability for one in bins]
    y = [one.churn_rate for one in bins]
    # Wilson's interval holds the rate up to rounding, and matplotlib takes no negative bar.
    below = [max(one.churn_rate - one.low, 0.0) for one in bins]
    above = [max(one.high - one.churn_rate, 0.0) for one in bins]
    end = min(1.0, 1.08 * max(*x, *(one.high for one in bins)))
    axes.plot([0, end], [0, end], color=GREY, linestyle="--", label="perfect")
    axes.errorbar(
        x, y, yerr=[below, above], color=BLUE, fmt="o-", capsize=3, markersize=5,
        label="model, 95% interval",
    )  # fmt: skip
    axes.set(
        xlabel="Foreseen churn probability", ylabel="Actual churn rate", xlim=(0, end),
        ylim=(0, end),
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _profit(axes: "Axes", report: EvaluationReport) -> None:
    from matplotlib.ticker import PercentFormatter

    profit, curve = report.profit, report.curves.profit
    axes.plot(curve.x, [1000 * y for y in curve.y], color=BLUE, linewidth=2)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(
        profit.threshold, color=INK, linestyle="--", label=f"break-even, {profit.threshold:.1%}"
    )
    if profit.best.threshold is not None:
        axes.plot(
            [profit.best.threshold], [1000 * profit.best.profit_per_customer], "o", color=RED,
            label=f"best in hindsight, {profit.best.threshold:.1%}",
        )  # fmt: skip
    axes.set(
        xlabel="Offers go to customers at or above this probability",
        ylabel=f"Profit, {profit.currency} per 1,000 customers",
        xlim=(0, min(1.0, 1.05 * max(*curve.x, profit.threshold))),
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(frameon=False, fontsize=9)


def _roc(axes: "Axes", report: EvaluationReport) -> None:
    curve = report.curves.roc
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="guessing")
    axes.plot(curve.x, curve.y, color=BLUE, linewidth=2, label="model")
    _shares(axes, "Stayers taken for leavers", "Leavers found")
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _precision_recall(axes: "Axes", report: EvaluationReport) -> None:
    curve, rate = report.curves.precision_recall, report.positives / report.rows
    axes.axhline(rate, color=GREY, linestyle="--", label="guessing")
    axes.plot(curve.x, curve.y, color=BLUE, linewidth=2, label="model")
    _shares(axes, "Leavers found (recall)", "Leavers among those contacted (precision)")
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _gains(axes: "Axes", report: EvaluationReport) -> None:
    curve, rate = report.curves.gains, report.positives / report.rows
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="guessing")
    axes.plot([0, rate, 1], [0, 1, 1], color=GREY, linewidth=1, label="perfect")
    axes.plot(curve.x, curve.y, color=BLUE, linewidth=2, label="model")
    _shares(axes, "Customers contacted, highest score first", "Leavers found")
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _effects(axes: "Axes", report: DriftReport) -> None:
    features = most_moved_first(report)[::-1]
    axes.barh(
        [one.name for one in features],
        [one.effect or 0.0 for one in features],
        color=[RED if one.drifted else BLUE for one in features],
        height=0.6,
    )
    limit = report.limits.min_drift_effect
    axes.axvline(limit, color=INK, linestyle="--", label=f"limit, {limit:g}")
    largest = max(one.effect or 0.0 for one in features)
    axes.set(xlabel="Effect: 0 is as in training, 1 has nothing in common",
             xlim=(0, min(1.0, 1.15 * max(largest, limit * 1.5))))  # fmt: skip
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
