"""Plots of the reports as PNG images, drawn without pyplot and its global state.

Matplotlib is imported when the first plot is drawn.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from churn_assets.adapters.reports.markdown import most_moved_first
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.core.monitoring.feature_drift import nulls_changed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = TypeVar("Report", EvaluationReport, DriftReport)

BLUE, RED, GREY, INK = "#2457a6", "#b3261e", "#8a94a3", "#1c2530"
SIZE = (6.0, 4.0)
DPI = 150
EFFECT = "Effect: 0 is as in training, 1 has nothing in common"


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
    """PNG images by name: "effects" of the features, and the optional plots that have data.

    The optional plots are "predictions", the scores next to those of the test rows; "performance",
    the ROC AUC by month; and "served", the effects of the features in the served traffic.
    """
    has_data = {
        "effects": True,
        "predictions": report.predictions is not None,
        "performance": bool(report.performance),
        "served": report.served is not None,
    }
    return {name: drift_plot(report, name) for name, drawn in has_data.items() if drawn}


def drift_plot(report: DriftReport, name: str, dpi: int = DPI) -> bytes:
    """One plot as PNG: one of `drift_plots`, or "nulls" or "unseen" of the features.

    Raises:
        KeyError: The plot does not exist.
    """
    drawings: dict[str, Callable[[Axes, DriftReport], None]] = {
        "effects": _effects,
        "nulls": _nulls,
        "unseen": _unseen,
        "served": _served,
        "predictions": _predictions,
        "performance": _performance,
    }
    bars = report.served.features if name == "served" and report.served else report.features
    wide = name in ("predictions", "performance")
    return _png(drawings[name], report, SIZE if wide else (8.0, 1.2 + 0.3 * len(bars)), dpi)


def _png(
    draw: Callable[["Axes", Report], None],
    report: Report,
    size: tuple[float, float],
    dpi: int = DPI,
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
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
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
    # Wilson's interval contains the rate up to rounding; matplotlib rejects negative error bars.
    below = [max(one.churn_rate - one.low, 0.0) for one in bins]
    above = [max(one.high - one.churn_rate, 0.0) for one in bins]
    end = min(1.0, 1.08 * max(*x, *(one.high for one in bins)))
    axes.plot([0, end], [0, end], color=GREY, linestyle="--", label="perfect")
    axes.errorbar(
        x, y, yerr=[below, above], color=BLUE, fmt="o-", capsize=3, markersize=5,
        label="model, 95% interval",
    )  # fmt: skip
    axes.set(
        xlabel="Predicted churn probability", ylabel="Actual churn rate", xlim=(0, end),
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
    _shares(axes, "Retained customers flagged (false positives)", "Churned customers found")
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _precision_recall(axes: "Axes", report: EvaluationReport) -> None:
    curve, rate = report.curves.precision_recall, report.positives / report.rows
    axes.axhline(rate, color=GREY, linestyle="--", label="guessing")
    axes.plot(curve.x, curve.y, color=BLUE, linewidth=2, label="model")
    _shares(axes, "Churned customers found (recall)", "Churned among contacted (precision)")
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _gains(axes: "Axes", report: EvaluationReport) -> None:
    curve, rate = report.curves.gains, report.positives / report.rows
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="guessing")
    axes.plot([0, rate, 1], [0, 1, 1], color=GREY, linewidth=1, label="perfect")
    axes.plot(curve.x, curve.y, color=BLUE, linewidth=2, label="model")
    _shares(axes, "Customers contacted, highest score first", "Churned customers found")
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _effects(axes: "Axes", report: DriftReport) -> None:
    bars = [(one.name, one.effect, one.drifted) for one in most_moved_first(report.features)]
    _bars(axes, bars, report.limits.min_drift_effect, EFFECT)


def _served(axes: "Axes", report: DriftReport) -> None:
    features = report.served.features if report.served else ()
    bars = [(one.name, one.effect, one.drifted) for one in most_moved_first(features)]
    _bars(axes, bars, report.limits.min_drift_effect, EFFECT)


def _nulls(axes: "Axes", report: DriftReport) -> None:
    bars = [
        (one.name, abs(one.null_share_rise or 0.0), nulls_changed(one, report.limits))
        for one in report.features
    ]
    bars.sort(key=lambda bar: -bar[1])
    _bars(axes, bars, report.limits.max_null_share_rise, "Change of the share of nulls")


def _unseen(axes: "Axes", report: DriftReport) -> None:
    limit = report.limits.max_unseen_share
    shares = [(one.name, max(one.unseen_share, one.vanished_share)) for one in report.features]
    shares.sort(key=lambda bar: -bar[1])
    bars = [(name, share, share > limit) for name, share in shares]
    _bars(axes, bars, limit, "Share of rows with a category that is new or vanished")


def _bars(
    axes: "Axes", bars: Sequence[tuple[str, float | None, bool]], limit: float, label: str
) -> None:
    """Draws one bar per feature, the first on top, bars beyond the limit in red."""
    from_below = bars[::-1]
    axes.barh(
        [name for name, _, _ in from_below],
        [value or 0.0 for _, value, _ in from_below],
        color=[RED if beyond else BLUE for _, _, beyond in from_below],
        height=0.6,
    )
    axes.axvline(limit, color=INK, linestyle="--", label=f"limit, {limit:g}")
    largest = max((value or 0.0 for _, value, _ in bars), default=0.0)
    axes.set(xlabel=label, xlim=(0, min(1.0, 1.15 * max(largest, limit * 1.5))))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _predictions(axes: "Axes", report: DriftReport) -> None:
    from matplotlib.ticker import PercentFormatter

    drift = report.predictions
    if drift is None:
        return
    places = range(len(drift.tested))
    bounds = [0.0, *drift.edges, 1.0]
    width = 0.4
    axes.bar([x - width / 2 for x in places], drift.tested, width, color=GREY, label="test rows")
    axes.bar([x + width / 2 for x in places], drift.month, width, color=BLUE, label=report.name)
    axes.set_xticks(list(places), [f"{low:.1%}" for low in bounds[:-1]], rotation=45)
    axes.set(xlabel="Churn probability from", ylabel="Share of the customers")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, fontsize=9)


def _performance(axes: "Axes", report: DriftReport) -> None:
    months = sorted({one.month for one in report.performance})
    for source, color, shift in (("scores", BLUE, -0.08), ("served", RED, 0.08)):
        for in_training, marker, suffix in ((False, "o", ""), (True, "x", ", in training")):
            shown = [
                (months.index(one.month) + shift, auc.value, auc.low, auc.high)
                for one in report.performance
                if one.source == source and one.in_training is in_training
                for auc in (one.roc_auc,)
                if auc.value is not None and auc.low is not None and auc.high is not None
            ]
            if shown:
                x, y, low, high = zip(*shown, strict=True)
                # A percentile interval may not contain the value.
                below = [max(a - b, 0.0) for a, b in zip(y, low, strict=True)]
                above = [max(b - a, 0.0) for a, b in zip(y, high, strict=True)]
                axes.errorbar(
                    x, y, yerr=[below, above], color=color, fmt=marker, capsize=3,
                    label=f"{source}{suffix}, 95% interval",
                )  # fmt: skip
    if report.tested_auc and report.tested_auc.value is not None:
        level, limit = report.tested_auc.value, report.limits.max_auc_drop
        axes.axhline(level, color=GREY, label=f"test of version {report.model_version}")
        axes.axhline(level - limit, color=INK, linestyle="--", label=f"limit, {limit:g} below")
    axes.set_xticks(range(len(months)), months, rotation=45)
    axes.set(xlabel="Month", ylabel="ROC AUC", xlim=(-0.5, len(months) - 0.5))
    axes.legend(frameon=False, fontsize=8, loc="best")
