"""The paper's tables and figures: the runs that each needs, and how it is shown."""

import os
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np

from ..errors import InputError
from ..method import METHODS
from ..visualization import comparison_figure
from .figures import (
    MOST_BANDS,
    CalibrationCurves,
    ROCCurve,
    calibration_figure,
    pseudo_boxes_figure,
    roc_figure,
    save_figure,
    stages_figure,
)
from .gallery import Column, choose_images, model_rows
from .groups import FIXED_THRESHOLD, Entry, Group, external_sets, group
from .metrics import (
    Bootstrap,
    Estimate,
    auc_of_folds,
    brier_score,
    compare_all,
    detector_differences,
    detector_metrics,
    gain,
    group_metrics,
    localisation,
    metric_differences,
    pooled,
    roc_band,
)
from .page import FigureFile, Section
from .paper import ABLATIONS, MARK, OURS, PARTS, STAC_REMARK, finds_boxes, paper_rows, title
from .plan import Experiment
from .tables import (
    MethodRow,
    comparisons_table,
    fraction_text,
    gains_table,
    methods_table,
    probabilities_table,
    stages_table,
    teachers_table,
)

GALLERY_IMAGES = 6
GALLERY_DPI = 110
ROC_GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class View:
    """What an experiment shows, and where.

    Attributes:
        entries: all of the plan, in the order of :func:`~tsdd_d2.experiments.groups.read_entries`, at least one.
        output_dir: where its figures go.
        threshold: one of :data:`~tsdd_d2.experiments.groups.THRESHOLDS`.
        pdf: whether each figure comes as PDF too.
    """

    experiment: Experiment
    entries: Sequence[Entry]
    output_dir: str
    threshold: str = FIXED_THRESHOLD
    pdf: bool = False
    bootstrap: Bootstrap = Bootstrap()

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def groups(self) -> List[Group]:
        return group(self.entries)

    @property
    def where(self) -> str:
        """Data set, profile and threshold in words."""
        run = self.entries[0].run
        threshold = "0.5" if self.threshold == FIXED_THRESHOLD else "of the largest Youden index on validation data"
        return f"{run.data}, {run.profile} profile, threshold {threshold}"

    def by_p(self) -> Dict[float, List[Group]]:
        found: Dict[float, List[Group]] = {}
        for x in self.groups:
            found.setdefault(x.p, []).append(x)
        return found

    def save(self, figure, name: str, dpi: Optional[int] = None) -> None:
        options = {} if dpi is None else {"dpi": dpi}
        save_figure(figure, os.path.join(self.output_dir, name), self.pdf, **options)


def render(view: View) -> Section:
    """Writes the figures of an experiment, and returns its section of the report; what is not finished is missing there.

    Raises:
        InputError: a gallery finds no images, or the plan has none of the methods that the experiment is about.
    """
    return view.experiment.render(view)


def _table1(view: View) -> Section:
    section = _methods(view, "table1")
    section.tables[0].notes.extend(_notes_on_other_schedules(view))
    section.tables[0].notes.extend(_notes_on_fewer_rois(view.groups))
    return section


def _notes_on_other_schedules(view: View) -> Iterator[str]:
    """Notes on what does not draw as many images as the other methods in the small profile."""
    if view.entries[0].run.profile != "cpu":
        return
    shown = {x.method for x in view.groups if x.folds}
    if shown & {"cnet_oracle", "cnet_whole_image"}:
        yield "C-Net without a detector draws fewer images than the others: it learns its few ROIs by heart sooner."
    if "yolov7" in shown:
        yield (
            f"{title('yolov7')} has no pretrained weights: it starts from random initialisation, and draws as many images as "
            "all methods do from there."
        )
    if "stac" in shown:
        yield f"{title('stac')} draws twice as many images: its student as many as the others, and before it its teacher."


def _notes_on_fewer_rois(groups: Sequence[Group]) -> Iterator[str]:
    """A note if methods without a use for images without ROI stand beside rows of the paper at p = 1.0."""
    quoted = {method for method, row in paper_rows("table1") if row.p == 1.0}
    fa_only = {x.name for x in METHODS.values() if not x.sees.pa_images}
    fewer = dict.fromkeys(x.method for x in groups if x.method in quoted & fa_only and x.p < 1.0)
    if fewer:
        yield (
            f"{', '.join(map(title, fewer))}: trained on fa images only, so that at p < 1.0 they see the ROIs of a share p "
            "of the patients, and stand beside the paper's rows at p = 1.0 with fewer ROIs."
        )


def _table2(view: View) -> Section:
    section = _methods(view, "table2")
    gains = []
    for groups in view.by_p().values():
        of_method = {x.method: x for x in groups}
        for part, method, without in PARTS:
            if method in of_method and without in of_method:
                gains.append(gain(part, of_method[method], of_method[without], view.bootstrap))
    gains = [x for x in gains if x is not None]
    if gains:
        caption = f"What candidate selection (CS) and self-distillation (SD) give ({view.where})."
        section.tables.insert(1, gains_table(f"{view.name}_gains", caption, gains))
    return section


def _table3(view: View) -> Section:
    section = _methods(view, "table3", by_p=True)
    section.tables[0].notes.append(STAC_REMARK)
    return section


def _methods(view: View, table: str, by_p: bool = False) -> Section:
    """The methods beside the rows of one of the paper's tables, the tests between them, and external validation."""
    heading, unit = view.experiment.title, "Mean ± standard deviation over the folds, with the 95% interval of the mean."
    rows = [MethodRow(x, group_metrics(x, view.bootstrap)) for x in view.groups]
    tables = [methods_table(view.name, f"{heading} ({view.where}). {unit}", rows, paper_rows(table), by_p)]
    several = [x for x in view.groups if len(x.folds) > 1]
    if several:
        tables[0].notes.append(f"AUC, fold by fold: {'; '.join(map(_auc_of_folds, several))}.")
    comparisons = []
    for groups in view.by_p().values():
        ours = [x for x in groups if x.method == OURS]
        if ours:
            comparisons += compare_all(ours[0], [x for x in groups if x is not ours[0]], view.bootstrap)
    if comparisons:
        caption = f"{title(OURS)} compared with each method on the same images ({view.where})."
        if any(len(x.seeds) > 1 for x in view.groups):
            caption += " Of several seeds the first that both methods have counts, so that no image counts twice."
        tables.append(comparisons_table(f"{view.name}_comparisons", caption, comparisons))
    for test_set in external_sets(view.groups):
        tested = [x.tested_on(test_set) for x in view.groups]
        rows = [MethodRow(x, group_metrics(x, view.bootstrap, test_set)) for x in tested]
        caption = f"{heading}, external validation on {test_set} ({view.where}). {unit}"
        tables.append(methods_table(f"{view.name}_on_{test_set}", caption, rows, by_p=by_p))
    return Section(view.name, heading, tables, [], view.entries)


def _auc_of_folds(x: Group) -> str:
    values = ", ".join(f"{fold}: {fraction_text(auc)}" for fold, auc in auc_of_folds(x).items())
    return f"{title(x.method)} (p = {x.p}) {values}"


def _roc(view: View) -> Section:
    section = Section(view.name, view.experiment.title, [], [], view.entries)
    for test_set in (None, *external_sets(view.groups)):
        _add_roc_on(view, test_set, section)
    return section


def _add_roc_on(view: View, test_set: Optional[str], section: Section) -> None:
    """On each run's own test set (None), or on an external one."""
    suffix = "" if test_set is None else f"_on_{test_set}"
    where = view.where if test_set is None else f"external validation on {test_set}; {view.where}"
    rows = []
    for p, groups in view.by_p().items():
        curves, calibration = [], []
        for x in groups if test_set is None else [x.tested_on(test_set) for x in groups]:
            if not x.shown:
                rows.append((x, {}))
                continue
            auc = group_metrics(x, view.bootstrap, test_set)["AUC"]
            brier = brier_score(x, view.bootstrap, test_set)
            boxes = localisation(x, view.bootstrap, test_set) if finds_boxes(x.method) else {}
            rows.append((x, {"AUC": auc, "Brier score": brier, **_at_validation_threshold(x, view, test_set), **boxes}))
            curves.append(ROCCurve(x, ROC_GRID, *roc_band(x, ROC_GRID, view.bootstrap, test_set), auc))
            # the models of all folds diagnose the same external images
            calibration.append(CalibrationCurves(x, pooled(x, test_set), brier))
        if curves:
            view.save(roc_figure(curves, _paper_auc(curves) if test_set is None else ""), f"roc_p{p}{suffix}")
            view.save(calibration_figure(calibration), f"calibration_p{p}{suffix}")
            pool = "the pooled test images"
            if test_set is not None:
                pool = "its images, of each method by the first of its models (the Brier score is the mean of all)"
            roc = f"Fig. 7, p = {p} ({where}): ROC curves, averaged over the folds at equal false-positive rates, with "
            calibrated = f"Calibration, p = {p} ({where}): reliability in ten bins of equally many images, and decision "
            bands = "95% bands" if len(curves) <= MOST_BANDS else f"the 95% band of {title(OURS)}"
            section.figures.append(FigureFile(f"roc_p{p}{suffix}", f"{roc}{bands}, pointwise."))
            section.figures.append(FigureFile(f"calibration_p{p}{suffix}", f"{calibrated}curves, over {pool}."))
    caption = f"Area under the ROC curve, Brier score and localisation ({where}), with 95% intervals."
    section.tables.append(probabilities_table(f"{view.name}{suffix}", caption, rows))


def _at_validation_threshold(x: Group, view: View, test_set: Optional[str]) -> Dict[str, Optional[Estimate]]:
    thresholds = [entry.result.youden_threshold for entry in x.shown]
    if None in thresholds:
        return {}
    shown = tuple(entry._replace(threshold=value) for entry, value in zip(x.shown, thresholds))
    metrics = group_metrics(x._replace(planned=shown), view.bootstrap, test_set)
    return {f"{name}*": metrics[name] for name in ("sensitivity", "specificity")}


def _paper_auc(curves: Sequence[ROCCurve]) -> str:
    """What the paper states of ours, if ours is among the curves."""
    rows = [row for method, row in paper_rows("table1") if method == OURS and row.auc is not None]
    if not rows or all(x.group.method != OURS for x in curves):
        return ""
    return f"{MARK}: {title(OURS)} {rows[0].auc} at p = {rows[0].p}"


def _gallery(view: View) -> Section:
    """The same images under several methods, one figure for each p."""
    section = Section(view.name, view.experiment.title, [], [], view.entries)
    for p, groups in view.by_p().items():
        fold = _fold_of_most(groups)
        shown = {x.method: entry for x in groups for entry in x.shown[::-1] if entry.run.fold == fold}
        if not shown:
            continue
        test_set = next(iter(shown.values())).run.split("test")
        columns = [
            Column(title(method), x.threshold, {y["image_id"]: y for y in x.result.predictions.get(test_set, ())})
            for method, x in shown.items()
        ]
        reference = list(shown).index(OURS) if OURS in shown else len(shown) - 1
        images = choose_images(columns, GALLERY_IMAGES, reference)
        if not images:
            raise InputError(f"No image of {test_set} has a prediction by each of {', '.join(shown)}.")
        figure = comparison_figure([x.title for x in columns], model_rows(columns, images, test_set))
        view.save(figure, f"{view.name}_p{p}", GALLERY_DPI)
        missing = [title(x.method) for x in groups if x.method not in shown]
        caption = (
            f"{view.experiment.title}, p = {p} ({view.where}), test images of fold {fold}: manual and predicted boxes, "
            "and the diagnosis with its probability of malignant. Chosen by rule, to show where the methods differ: both "
            f"classes, images that {columns[reference].title} gets right and wrong."
        )
        caption += f" Not finished: {', '.join(missing)}." if missing else ""
        section.figures.append(FigureFile(f"{view.name}_p{p}", caption, wide=True))
    return section


def _fold_of_most(groups: Sequence[Group]) -> Optional[int]:
    """The fold that most methods have finished; of several, the first."""
    counts: Dict[int, int] = {}
    for x in groups:
        for fold in x.folds:
            counts[fold] = counts.get(fold, 0) + 1
    return min(counts, key=lambda fold: (-counts[fold], fold), default=None)


def _fig9(view: View) -> Section:
    """TSDDNet and TSDDNet-B+SD after each stage."""
    methods = ("tsdd_b_sd", OURS)
    of_run = {(x.method, x.p): x for x in view.groups}
    rows, gains = [], {}
    for p in view.by_p():
        for stage in (1, 2):
            names = [METHODS[method].starts_from if stage == 1 else method for method in methods]
            groups = [of_run.get((name, p)) for name in names]
            found = [(method, x) for method, x in zip(methods, groups) if x is not None]
            rows += [(stage, method, MethodRow(x, group_metrics(x, view.bootstrap))) for method, x in found]
            if all(groups) and (differences := metric_differences(*reversed(groups), view.bootstrap)):
                gains[stage, p] = differences
    if not rows:
        raise InputError(f"Fig. 9 compares the stages of {' and '.join(methods)}, and the plan has neither.")
    caption = f"{view.experiment.title} ({view.where}). Mean ± standard deviation over the folds, with 95% intervals."
    figures = []
    for p in view.by_p():
        of_p = [x for x in rows if x[2].group.p == p]
        if any(row.metrics for _, _, row in of_p):
            view.save(stages_figure(of_p), f"{view.name}_p{p}")
            figures.append(FigureFile(f"{view.name}_p{p}", f"Fig. 9, p = {p} ({view.where}), with 95% intervals."))
    return Section(view.name, view.experiment.title, [stages_table(view.name, caption, rows, gains)], figures, view.entries)


def _teachers(view: View) -> Section:
    """The semi-supervised methods beside their own detector without unlabelled images."""
    section = Section(view.name, view.experiment.title, [], [], view.entries)
    rows = []
    for p, groups in view.by_p().items():
        supervised = [x for x in groups if x.method == SUPERVISED]
        for x in groups:
            reference = [y for y in supervised if y is not x]
            gained = detector_differences(x, reference[0], view.bootstrap) if reference else {}
            rows.append((x, detector_metrics(x, view.bootstrap), gained))
        trained = [(x.method, y.result.pseudo_boxes) for x in groups for y in x.shown if y.result.pseudo_boxes]
        if trained:
            view.save(pseudo_boxes_figure(trained), f"{view.name}_p{p}")
            caption = f"Pseudo-boxes over the training, p = {p} ({view.where}): how many there are, and how many are right."
            section.figures.append(FigureFile(f"{view.name}_p{p}", caption))
    caption = f"{view.experiment.title} ({view.where}). With 95% intervals."
    section.tables.append(teachers_table(view.name, caption, rows))
    return section


TABLE2 = (*ABLATIONS, OURS)
# the detector of the semi-supervised methods
SUPERVISED = "faster_rcnn"

EXPERIMENTS: Dict[str, Experiment] = {
    x.name: x
    for x in (
        Experiment("table1", "Table I: diagnosis by different methods", _table1, p=(0.2, 1.0), external=True),
        Experiment("table2", "Table II: ablation", _table2, TABLE2, p=(0.2, 1.0), external=True),
        Experiment("table2_seeds", "Table II with three seeds", _table2, TABLE2, folds=(1,), seeds=(0, 1, 2), external=True),
        Experiment(
            "table3", "Table III: share p of annotated patients", _table3, (OURS, "retinanet"), folds=(1,),
            p=(0.2, 0.4, 0.6, 0.8, 1.0), external=True,
        ),
        Experiment(
            "teachers", "What unlabelled images give", _teachers,
            (SUPERVISED, *(f"{x}{weak}" for x in ("stac", "unbiased_teacher", "soft_teacher") for weak in ("", "_weak"))),
            folds=(1,), seeds=(0, 1, 2),
        ),
        Experiment("roc", "Fig. 7: ROC curves, calibration, decision curves", _roc, p=(0.2, 1.0), external=True),
        Experiment("fig6", "Fig. 6: images under all methods", _gallery, folds=(1,)),
        Experiment("fig8", "Fig. 8: images under the ablations", _gallery, TABLE2, folds=(1,)),
        Experiment(
            "fig9", "Fig. 9: stages with and without candidate selection", _fig9, ("tsdd_b_sd", OURS), p=(0.2, 1.0),
            stages=True,
        ),
    )
}  # fmt: skip
