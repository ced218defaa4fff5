import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from tsdd_d2.experiments.figures import (
    CalibrationCurves,
    ROCCurve,
    calibration_figure,
    pseudo_boxes_figure,
    roc_figure,
    save_figure,
    stages_figure,
)
from tsdd_d2.experiments.groups import cases
from tsdd_d2.experiments.metrics import METRICS, Estimate
from tsdd_d2.experiments.tables import MethodRow

from .conftest import entry, groups_of, missing, random_entry

ESTIMATE = Estimate(0.8, 0.1, 0.7, 0.9)


def labels(legend):
    return [x.get_text() for x in legend.get_texts()]


def test_an_auc_that_is_not_measured_has_a_dash():
    (x,) = groups_of(random_entry("retinanet"))
    unknown = Estimate(*[float("nan")] * 4)
    figure = roc_figure([ROCCurve(x, *[np.array([0.0, 1.0])] * 4, unknown)])
    assert labels(figure.legends[0]) == ["RetinaNet –"]


def test_roc_curves_with_their_bands():
    x, ours = groups_of(random_entry("retinanet"), random_entry("tsddnet"), missing("retinanet", 2))
    grid = np.array([0, 0.5, 1])
    sensitivity = np.array([0.4, 0.8, 1])
    figure = roc_figure([ROCCurve(g, grid, sensitivity, sensitivity - 0.1, sensitivity, ESTIMATE) for g in (x, ours)])
    assert labels(figure.legends[0]) == ["RetinaNet 0.800 (0.700–0.900) [1/2 folds]", "TSDDNet 0.800 (0.700–0.900)"]
    (axes,) = figure.axes
    first, second, diagonal = axes.lines
    assert first.get_xydata().tolist() == [[0, 0], [0, 0.4], [0.5, 0.8], [1, 1]]  # from the corner upwards
    assert second.get_linewidth() > first.get_linewidth() and second.get_color() != first.get_color()
    assert axes.collections[0].get_datalim(axes.transData).y0 == pytest.approx(0.3)  # the lower end of the band


def test_of_many_roc_curves_ours_alone_has_a_band():
    methods = ("retinanet", "faster_rcnn", "yolov4", "stac", "tsddnet")
    rates = np.array([0.0, 1.0])
    curves = [ROCCurve(x, *[rates] * 4, ESTIMATE) for x in groups_of(*map(random_entry, methods))]
    assert [len(roc_figure(x).axes[0].collections) for x in (curves, curves[1:])] == [1, 4]


def test_calibration_and_decision_curves():
    (x,) = groups_of(entry("retinanet", [0.125, 0.25, 0.75, 1.0] * 10, [0, 0, 1, 1] * 10))
    figure = calibration_figure([CalibrationCurves(x, cases(x.shown[0]), ESTIMATE)])
    reliability, decision = figure.axes
    points = reliability.lines[0].get_xydata()
    assert {tuple(point) for point in points} == {(0.125, 0), (0.25, 0), (0.75, 1), (1, 1)}
    # between 0.25 and 0.75 the model acts on all malignant images and on no other
    thresholds, benefit = decision.lines[0].get_xydata().T
    assert benefit[(thresholds > 0.26) & (thresholds < 0.74)] == pytest.approx(0.5)
    assert labels(decision.get_legend()) == ["act on all", "act on none"]


def test_a_panel_for_each_stage():
    metrics = dict.fromkeys(METRICS, ESTIMATE)
    sd, ours = groups_of(random_entry("tsdd_b_sd"), random_entry("tsddnet"))
    rows = [(stage, x.method, MethodRow(x, metrics)) for stage in (1, 2) for x in (sd, ours)]
    figure = stages_figure([*rows[:-1], (2, "tsddnet", MethodRow(ours, {}))])
    assert [x.get_title(loc="left") for x in figure.axes] == ["first stage", "second stage"]
    assert [labels(x.get_legend()) for x in figure.axes] == [["TSDDNet-B+SD", "TSDDNet"], ["TSDDNet-B+SD"]]


def test_pseudo_boxes_of_a_method_have_one_colour():
    series = {"images": [[19, 0.5], [39, 0.75]], "class_precision": [[39, 1.0]]}
    figure = pseudo_boxes_figure([("stac", series), ("soft_teacher", series), ("soft_teacher", {"images": [[19, 0.25]]})])
    images, boxes, classes = figure.axes
    assert images.lines[1].get_xydata().tolist() == [[19, 0.5], [39, 0.75]] and len(classes.lines) == 2
    assert (
        [x.get_color() for x in images.lines][1:] == [images.lines[1].get_color()] * 2 != [images.lines[0].get_color()] * 2
    )
    assert labels(figure.legends[0]) == ["STAC", "Soft Teacher"] and not boxes.lines


def test_a_figure_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    stem = str(tmp_path / "x")
    save_figure(Figure(), stem, pdf=True)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    assert set(before) == {"x.png", "x.pdf"}

    def breaks(self, file, **options):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", breaks)
    with pytest.raises(OSError):
        save_figure(Figure(), stem, pdf=True)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
