"""The curves as matplotlib figures. They are narrow, so that their text is readable on a phone."""

import io
from typing import Dict, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..data.files import replacing
from ..evaluation.calibration import net_benefit, reliability_curve
from .groups import Cases, Group
from .metrics import METRICS, Estimate
from .paper import OURS, title
from .tables import STAGES, MethodRow, fraction_text, interval_text

WIDTH = 5.2  # inches
DPI = 130
# Okabe and Ito's colours, which colour-blind people can tell apart, less the yellow, which is faint on white, and the
# orange, which resembles the vermilion that is ours.
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#7F7F7F")
OUR_COLOUR = "#D55E00"
PSEUDO_BOXES = {
    "images": "unlabelled images that have a pseudo-box",
    "box_precision": "pseudo-boxes that overlap the withheld ROI by an IoU of 0.5",
    "class_precision": "pseudo-boxes of the image's class",
}
# more would hide the curves
MOST_BANDS = 4
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


class ROCCurve(NamedTuple):
    """
    Attributes:
        group: whose curve it is.
        false_positive_rates, sensitivity, low, high: (G,), see :func:`~tsdd_d2.experiments.metrics.roc_band`.
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
    """ROC curves with 95% bands, of more than :data:`MOST_BANDS` for ours alone; AUCs with intervals in the legend (Fig. 7).

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
        if len(curves) <= MOST_BANDS or x.group.method == OURS:
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


def stages_figure(rows: Sequence[Tuple[int, str, MethodRow]]) -> Figure:
    """The metrics of two methods after each stage with their 95% intervals (Fig. 9), a panel for each stage.

    Args:
        rows: stage, method and metrics, of one p; those without metrics are left out.
    """
    stages = sorted({stage for stage, _, _ in rows})
    figure = Figure(figsize=(WIDTH, 2.9 * len(stages) + 0.4), layout="constrained")
    for panel, stage in zip(figure.subplots(len(stages), squeeze=False, sharey=True)[:, 0], stages):
        of_stage = [(method, row) for x, method, row in rows if x == stage and row.metrics]
        for number, (method, row) in enumerate(of_stage):
            style = line_style(method, number)
            positions = np.arange(len(METRICS)) + 0.22 * (number - (len(of_stage) - 1) / 2)
            means = np.array([row.metrics[x].mean for x in METRICS])
            bounds = np.array([[row.metrics[x].low, row.metrics[x].high] for x in METRICS]).T
            panel.errorbar(
                positions, means, np.abs(bounds - means), fmt="os"[number % 2], color=style["color"], capsize=3,
                label=title(method) + row.group.remark,
            )  # fmt: skip
        panel.set_xticks(range(len(METRICS)), [x.label for x in METRICS.values()])
        panel.set_title(STAGES[stage], fontsize=10, loc="left")
        panel.set_ylabel("fraction")
        panel.grid(axis="y", color="0.9")
        if of_stage:
            panel.legend(frameon=False, fontsize=8)
    return figure


def pseudo_boxes_figure(runs: Sequence[Tuple[str, Mapping[str, Sequence[Tuple[float, float]]]]]) -> Figure:
    """What teachers made of unlabelled images over a training, a panel for each of :data:`PSEUDO_BOXES`.

    Args:
        runs: method, and see :class:`~tsdd_d2.experiments.run.Result`; those of one method have one colour.
    """
    figure = Figure(figsize=(WIDTH, 2.0 * len(PSEUDO_BOXES) + 0.2), layout="constrained")
    panels = figure.subplots(len(PSEUDO_BOXES), sharex=True, sharey=True)
    methods = list(dict.fromkeys(method for method, _ in runs))
    for panel, (name, heading) in zip(panels, PSEUDO_BOXES.items()):
        for method, series in runs:
            if name in series:
                panel.plot(*zip(*series[name]), label=title(method), **line_style(method, methods.index(method)))
        panel.set_title(heading, fontsize=10, loc="left")
        panel.set(ylim=(0, 1.02), ylabel="fraction")
        panel.grid(axis="y", color="0.9")
    panels[-1].set_xlabel("iteration")
    handles = dict(zip(*panels[0].get_legend_handles_labels()[::-1]))  # one of each method
    figure.legend(handles.values(), handles, loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    return figure


def save_figure(figure: Figure, stem: str, pdf: bool = False, dpi: int = DPI) -> None:
    """Writes ``<stem>.png`` of 64 colours, 256 with photographs, and perhaps ``<stem>.pdf``, completely or not at all; equal
    figures give equal files."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    colours = 256 if any(x.images for x in figure.axes) else 64
    with replacing(f"{stem}.png", "wb") as file:
        Image.open(content).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    if pdf:
        with replacing(f"{stem}.pdf", "wb") as file:
            # matplotlib would put the time and its own version into it
            figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def line_style(method: str, number: int) -> Dict[str, object]:
    """Colour, dashes and width of the ``number``-th of several methods in a plot; ours stands out in each."""
    if method == OURS:
        return {"color": OUR_COLOUR, "linestyle": "-", "linewidth": 2.5, "zorder": 3}
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)], "linewidth": 1.4}


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
