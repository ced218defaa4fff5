"""The curves of the report as matplotlib figures. They are narrow, so that their text is readable on a phone."""

import os
from typing import Dict, Mapping, NamedTuple, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.files import replacing
from ..evaluation.calibration import net_benefit, reliability_curve
from .methods import line_style, stage_title, title
from .results import METRICS, Estimate
from .runs import Cases, Group
from .tables import OurRow, fraction_text, interval_text

WIDTH = 5.2  # inches
DPI = 160
METRIC_LABELS = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "youden_index": "YI",
    "AUC": "AUC",
}


class ROCCurve(NamedTuple):
    """
    Attributes:
        group: whose curve it is.
        false_positive_rates, sensitivity, low, high: (G,), see :func:`~tsdd_d2.report.results.roc_band`.
        auc: with its interval.
    """

    group: Group
    false_positive_rates: np.ndarray
    sensitivity: np.ndarray
    low: np.ndarray
    high: np.ndarray
    auc: Estimate


class CalibrationCurves(NamedTuple):
    """
    Attributes:
        group: whose curves they are.
        cases: pooled test images.
        brier: Brier score with its interval.
    """

    group: Group
    cases: Cases
    brier: Estimate


def roc_figure(curves: Sequence[ROCCurve], remark: str = "") -> Figure:
    """ROC curves with 95% bands; AUCs with intervals in the legend (Fig. 7).

    Args:
        remark: a line under the legend.
    """
    figure = Figure(figsize=(WIDTH, WIDTH + 0.2 * len(curves) + 0.2), layout="constrained")
    axes = figure.add_subplot()
    for number, x in enumerate(curves):
        style = line_style(x.group.method, number)
        label = _label(x.group, x.auc)
        rates = np.concatenate([[0], x.false_positive_rates])
        axes.plot(rates, np.concatenate([[0], x.sensitivity]), label=label, **style)
        axes.fill_between(x.false_positive_rates, x.low, x.high, color=style["color"], alpha=0.12, linewidth=0)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=(0, (1, 3)))
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="1 – specificity", ylabel="sensitivity")
    _legend_below(figure, axes, "AUC (95% interval)", remark)
    return figure


def calibration_figure(curves: Sequence[CalibrationCurves]) -> Figure:
    """Reliability curves with Brier scores, and decision curves."""
    figure = Figure(figsize=(WIDTH, 1.7 * WIDTH + 0.2 * len(curves)), layout="constrained")
    reliability, decision = figure.subplots(2)
    thresholds = np.linspace(0.01, 0.99, 99)
    highest = 0.0
    for number, x in enumerate(curves):
        style = line_style(x.group.method, number)
        label = _label(x.group, x.brier)
        points = reliability_curve(x.cases.labels, x.cases.probabilities)
        reliability.plot(*points, label=label, marker=".", **style)
        decision.plot(thresholds, net_benefit(x.cases.labels, x.cases.probabilities, thresholds), **style)
        highest = max(highest, x.cases.labels.mean())
    reliability.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=(0, (1, 3)))
    reliability.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean predicted malignancy", ylabel="share of malignant images")
    if curves:
        labels = max((x.cases.labels for x in curves), key=len)  # a method may lack folds
        for probability, name, colour in ((1.0, "act on all", "0.45"), (0.0, "act on none", "0.7")):
            benefit = net_benefit(labels, np.full(len(labels), probability), thresholds)
            decision.plot(thresholds, benefit, color=colour, linewidth=1, label=name)
        decision.legend(frameon=False, fontsize=8, loc="upper right")
    limits = (-0.1 * highest - 0.01, 1.05 * highest + 0.01)
    decision.set(xlim=(0, 1), ylim=limits, xlabel="threshold", ylabel="net benefit")
    _legend_below(figure, reliability, "Brier score (95% interval)")
    return figure


def stages_figure(rows: Sequence[OurRow]) -> Figure:
    """The metrics of two methods after each stage with their 95% intervals (Fig. 9), a panel for each stage.

    Args:
        rows: of one p; those without figures are left out.
    """
    stages = sorted({row.group.stage for row in rows})
    figure = Figure(figsize=(WIDTH, 2.9 * len(stages) + 0.4), layout="constrained")
    for panel, stage in zip(figure.subplots(len(stages), squeeze=False, sharey=True)[:, 0], stages):
        of_stage = [row for row in rows if row.group.stage == stage and row.figures]
        for number, row in enumerate(of_stage):
            style = line_style(row.group.method, number)
            positions = np.arange(len(METRICS)) + 0.22 * (number - (len(of_stage) - 1) / 2)
            means = np.array([row.figures[x].mean for x in METRICS])
            bounds = np.array([[row.figures[x].low, row.figures[x].high] for x in METRICS]).T
            panel.errorbar(
                positions, means, np.abs(bounds - means), fmt="os"[number % 2], color=style["color"], capsize=3,
                label=title(row.group.method) + row.group.remark,
            )  # fmt: skip
        panel.set_xticks(range(len(METRICS)), [METRIC_LABELS[x] for x in METRICS])
        panel.set_title(stage_title(stage), fontsize=10, loc="left")
        panel.set_ylabel("fraction")
        panel.grid(axis="y", color="0.9")
        if of_stage:
            panel.legend(frameon=False, fontsize=8)
    return figure


def save_figure(figure: Figure, folder: str, name: str, dpi: int = DPI) -> None:
    """Writes ``<name>.png`` and ``<name>.pdf``, each completely or not at all; equal figures give equal files."""
    # matplotlib would put the time and its own version into the files
    metadata: Dict[str, Mapping[str, Optional[str]]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }
    for extension, entries in metadata.items():
        with replacing(os.path.join(folder, f"{name}.{extension}"), "wb") as file:
            figure.savefig(file, format=extension, dpi=dpi, metadata=entries)


def _label(group: Group, x: Estimate) -> str:
    return f"{title(group.method)} {fraction_text(x.mean)}{interval_text(x.low, x.high, '.3f')}{group.remark}"


def _legend_below(figure: Figure, axes: Axes, heading: str, remark: str = "") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, title=heading, loc="outside lower left", alignment="left", frameon=False, fontsize=9,
        title_fontsize=9,
    )  # fmt: skip
    if remark:
        axes.text(0.98, 0.03, remark, transform=axes.transAxes, ha="right", fontsize=7.5, color="0.35")
