"""From the plan of an experiment and the predictions of its finished runs to its files and the page."""

import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..data.files import write_json
from ..errors import InputError
from ..experiments.methods import METHODS
from ..visualization import comparison_figure
from . import paper
from .figures import (
    CalibrationCurves,
    ROCCurve,
    calibration_figure,
    roc_figure,
    save_figure,
    stages_figure,
)
from .gallery import Column, choose_images, model_rows
from .methods import OURS, title
from .page import write_report
from .results import (
    Bootstrap,
    auc_of_folds,
    brier_score,
    compare_all,
    gain,
    group_metrics,
    metric_differences,
    pooled,
    roc_band,
)
from .runs import FIXED_THRESHOLD, Group, Planned, external_sets, group, match, share
from .tables import (
    OurRow,
    Table,
    comparisons_table,
    fraction_text,
    gains_table,
    methods_table,
    probabilities_table,
    stages_table,
)

# What Table II removes: the part, a method with it, and the method that differs in this part alone.
PARTS = (
    ("CS", "tsdd_b_cs", "tsdd_b"),
    ("CS", OURS, "tsdd_b_sd"),
    ("SD", "tsdd_b_sd", "tsdd_b"),
    ("SD", OURS, "tsdd_b_cs"),
)

GALLERY_IMAGES = 6
GALLERY_DPI = 110
ROC_GRID = np.linspace(0, 1, 101)


class Context(NamedTuple):
    """What the experiments share.

    Attributes:
        planned: all of the plan; groups: the final models.
        where: data set, profile and threshold in words.
    """

    planned: List[Planned]
    groups: List[Group]
    output_dir: str
    where: str
    bootstrap: Bootstrap

    def of_p(self, groups: Sequence[Group]) -> Dict[float, List[Group]]:
        by_p: Dict[float, List[Group]] = {}
        for x in groups:
            by_p.setdefault(x.p, []).append(x)
        return by_p


class FigureFile(NamedTuple):
    """A figure in ``<name>.png`` and ``.pdf``; ``wide`` if it must not be shrunk to the width of a phone."""

    name: str
    caption: str
    wide: bool = False


class Content(NamedTuple):
    title: str
    tables: List[Table]
    figures: List[FigureFile]


def render(
    experiment: str,
    planned: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    output_dir: str,
    threshold: str = FIXED_THRESHOLD,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> str:
    """
    Writes all files of an experiment and makes ``report.html`` anew from it and from the other experiments that were
    rendered into the same folder before. What is not finished is shown as missing.

    Args:
        experiment: one of :data:`EXPERIMENTS`.
        planned: a description of every run of the experiment: "method", "stage" (None for a method of one stage),
            "data", "profile", "fold", "p", "seed", "status" (finished, failed or missing) and "log" (a path relative to
            ``output_dir``, or None). All have one data set and one profile.
        runs: the content of the finished runs' ``predictions.json``: the same keys without status and log, and
            "seconds", "git_revision", "youden_threshold" (from the validation set, or None) and
            "predictions": test set -> list of "image_id", "file_name" (relative to the image_root of the test set),
            "patient_id", "label" (1 malignant, 0 benign), "malignancy", "box" (XYXY in pixels, or None) and "roi" (the
            manual box, or None). Others than the planned ones are ignored.
        output_dir: where the files go: ``<name>.md``, ``.tex`` and ``.csv`` of a table, ``<name>.png`` and ``.pdf`` of
            a figure, ``<experiment>.json``, from which the page is made, and ``report.html``.
        threshold: one of :data:`~tsdd_d2.report.runs.THRESHOLDS`: a fixed one of 0.5, or for each run the
            Youden-optimal one of its validation set.
        bootstrap, seed: number of resamples of the patients, and seed.
    Returns:
        the path of ``report.html``.
    Raises:
        InputError: the input cannot be understood, or fig6 or fig8 finds no images.
    """
    if experiment not in EXPERIMENTS:
        raise InputError(f"The experiment is one of {', '.join(EXPERIMENTS)}, not {experiment!r}.")
    entries = match(planned, runs, threshold)
    key = entries[0].key
    where = f"{key.data}, {key.profile} profile, threshold {_describe_threshold(threshold)}"
    context = Context(entries, group(entries), output_dir, where, Bootstrap(bootstrap, seed))
    content = EXPERIMENTS[experiment](context)
    for table in content.tables:
        table.write(output_dir)
    write_json(
        os.path.join(output_dir, f"{experiment}.json"),
        {
            "title": content.title,
            "where": where,
            "bootstrap": bootstrap,
            "tables": [
                {"name": x.name, "caption": x.caption, "rows": x.rows, "notes": x.notes} for x in content.tables
            ],
            "figures": [x._asdict() for x in content.figures],
            "runs": [_run_entry(x) for x in entries],
        },
    )
    return write_report(output_dir)


def _table1(context: Context) -> Content:
    content = _paper_table(context, "table1", "Table I: diagnosis by different methods", paper.TABLE1)
    content.tables[0].notes.extend(_notes_on_fewer_rois(context.groups, paper.TABLE1))
    return content


def _notes_on_fewer_rois(groups: Sequence[Group], papers: Sequence[paper.PaperRow]) -> List[str]:
    """A note if methods without a use for images without ROI stand beside rows of the paper at p = 1.0."""
    fa_only = [x.name for x in METHODS.values() if not x.uses_pa_images]
    quoted = {row.method for row in papers if row.p == 1.0}
    fewer = dict.fromkeys(x.method for x in groups if x.method in fa_only and x.method in quoted and x.p < 1.0)
    if not fewer:
        return []
    return [
        f"{', '.join(map(title, fewer))}: trained on fa images only, so that at p < 1.0 they see the ROIs of a share p of "
        "the patients, and stand beside the paper's rows at p = 1.0 with fewer ROIs."
    ]


def _table2(context: Context) -> Content:
    content = _paper_table(context, "table2", "Table II: ablation", paper.TABLE2)
    gains = []
    for groups in context.of_p(context.groups).values():
        of_method = {x.method: x for x in groups}
        for part, method, without in PARTS:
            if method in of_method and without in of_method:
                gains.append(gain(part, of_method[method], of_method[without], context.bootstrap))
    gains = [x for x in gains if x is not None]
    if gains:
        caption = f"What candidate selection (CS) and self-distillation (SD) give ({context.where})."
        content.tables.insert(1, gains_table("table2_gains", caption, gains))
    return content


def _table3(context: Context) -> Content:
    content = _paper_table(context, "table3", "Table III: share p of annotated patients", paper.TABLE3, by_p=True)
    content.tables[0].notes.append(paper.TABLE3_REMARK)
    return content


def _paper_table(
    context: Context, name: str, heading: str, papers: Sequence[paper.PaperRow], by_p: bool = False
) -> Content:
    rows = [OurRow(x, group_metrics(x, context.bootstrap)) for x in context.groups]
    unit = "Mean ± standard deviation over the folds, with the 95% interval of the mean."
    tables = [methods_table(name, f"{heading} ({context.where}). {unit}", rows, papers, by_p)]
    several = [x for x in context.groups if len(x.folds) > 1]
    if several:
        tables[0].notes.append(f"AUC, fold by fold: {'; '.join(map(_auc_of_folds, several))}.")
    comparisons = []
    for groups in context.of_p(context.groups).values():
        ours = [x for x in groups if x.method == OURS]
        if ours:
            comparisons += compare_all(ours[0], [x for x in groups if x is not ours[0]], context.bootstrap)
    if comparisons:
        caption = f"{title(OURS)} compared with each method on the same images ({context.where})."
        if any(len(x.seeds) > 1 for x in context.groups):
            caption += " Of several seeds the first that both methods have counts, so that no image counts twice."
        tables.append(comparisons_table(f"{name}_comparisons", caption, comparisons))
    for test_set in external_sets(context.groups):
        tested = [x.tested_on(test_set) for x in context.groups]
        rows = [OurRow(x, group_metrics(x, context.bootstrap, test_set)) for x in tested]
        caption = f"{heading}, external validation on {test_set} ({context.where}). {unit}"
        tables.append(methods_table(f"{name}_on_{test_set}", caption, rows, (), by_p))
    return Content(heading, tables, [])


def _auc_of_folds(x: Group) -> str:
    values = ", ".join(f"{fold}: {fraction_text(auc)}" for fold, auc in auc_of_folds(x).items())
    return f"{title(x.method)} (p = {share(x.p)}) {values}"


def _roc(context: Context) -> Content:
    contents = [_roc_on(context, test_set) for test_set in (None, *external_sets(context.groups))]
    tables = [table for x in contents for table in x.tables]
    return Content(contents[0].title, tables, [figure for x in contents for figure in x.figures])


def _roc_on(context: Context, test_set: Optional[str]) -> Content:
    """On each run's own test set (None), or on an external one."""
    suffix = "" if test_set is None else f"_on_{test_set}"
    where = context.where if test_set is None else f"external validation on {test_set}; {context.where}"
    figures: List[FigureFile] = []
    rows = []
    for p, groups in context.of_p(context.groups).items():
        curves, calibration = [], []
        for x in groups if test_set is None else [x.tested_on(test_set) for x in groups]:
            if not x.runs:
                rows.append((x, None, None))
                continue
            auc = group_metrics(x, context.bootstrap, test_set)["AUC"]
            brier = brier_score(x, context.bootstrap, test_set)
            rows.append((x, auc, brier))
            curves.append(ROCCurve(x, ROC_GRID, *roc_band(x, ROC_GRID, context.bootstrap, test_set), auc))
            # the models of all folds diagnose the same external images
            calibration.append(CalibrationCurves(x, pooled(x, test_set), brier))
        if curves:
            shows_ours = test_set is None and any(x.group.method == OURS for x in curves)
            remark = f"{paper.MARK}: {title(OURS)} {paper.TSDDNET.auc} at p = {paper.TSDDNET.p}" if shows_ours else ""
            roc, calibrated = f"roc_p{share(p)}{suffix}", f"calibration_p{share(p)}{suffix}"
            save_figure(roc_figure(curves, remark), context.output_dir, roc)
            save_figure(calibration_figure(calibration), context.output_dir, calibrated)
            pool = "the pooled test images"
            if test_set is not None:
                pool = "its images, of each method by the first of its models (the Brier score is the mean of all)"
            figures += [
                FigureFile(
                    roc,
                    f"Fig. 7, p = {share(p)} ({where}): ROC curves, averaged over the folds at equal false-positive "
                    "rates, with pointwise 95% bands.",
                ),
                FigureFile(
                    calibrated,
                    f"Calibration, p = {share(p)} ({where}): reliability in ten bins of equally many images, and "
                    f"decision curves, over {pool}.",
                ),
            ]
    caption = f"Area under the ROC curve and Brier score ({where}), with 95% intervals."
    table = probabilities_table(f"roc{suffix}", caption, rows)
    return Content("ROC curves, calibration, decision curves", [table], figures)


def _fig6(context: Context) -> Content:
    return _gallery(context, "fig6", "Fig. 6", "Images under all methods")


def _fig8(context: Context) -> Content:
    return _gallery(context, "fig8", "Fig. 8", "Images under the ablations")


def _gallery(context: Context, name: str, number: str, heading: str) -> Content:
    """The same images under several methods, one figure for each p."""
    figures = []
    for p, groups in context.of_p(context.groups).items():
        fold = _fold_of_most(groups)
        shown = {x.method: run for x in groups for run in x.runs[::-1] if run.key.fold == fold}
        if not shown:
            continue
        columns = [
            Column(title(method), run.threshold, {x["image_id"]: x for x in run.predictions[run.test_set]})
            for method, run in shown.items()
        ]
        reference = list(shown).index(OURS) if OURS in shown else len(shown) - 1
        images = choose_images(columns, GALLERY_IMAGES, reference)
        test_set = next(iter(shown.values())).test_set
        if not images:
            raise InputError(f"No image of {test_set} has a prediction by each of {', '.join(shown)}.")
        figure = comparison_figure([x.title for x in columns], model_rows(columns, images, test_set))
        save_figure(figure, context.output_dir, f"{name}_p{share(p)}", GALLERY_DPI)
        missing = [title(x.method) for x in groups if x.method not in shown]
        caption = (
            f"{number}, p = {share(p)} ({context.where}), test images of fold {fold}: manual and predicted boxes, "
            "and the diagnosis with its probability of malignant. Chosen by rule, to show where the methods differ: both "
            f"classes, images that {columns[reference].title} gets right and wrong."
        )
        caption += f" Not finished: {', '.join(missing)}." if missing else ""
        figures.append(FigureFile(f"{name}_p{share(p)}", caption, wide=True))
    return Content(heading, [], figures)


def _fig9(context: Context) -> Content:
    """TSDDNet and TSDDNet-B+SD after each stage."""
    methods = ("tsdd_b_sd", OURS)
    groups = [x for x in group(context.planned, stages=(1, 2)) if x.method in methods]
    groups.sort(key=lambda x: (x.p, x.stage, methods.index(x.method)))
    if not groups:
        raise InputError("Fig. 9 compares stages 1 and 2 of tsddnet and tsdd_b_sd, and the plan has none of them.")
    rows = [OurRow(x, group_metrics(x, context.bootstrap)) for x in groups]
    by_key = {(x.stage, x.p, x.method): x for x in groups}
    gains = {}
    for stage, p in dict.fromkeys((x.stage, x.p) for x in groups):
        pair = [by_key.get((stage, p, method)) for method in reversed(methods)]
        if all(pair) and (differences := metric_differences(*pair, context.bootstrap)):
            gains[stage, p] = differences
    heading = "Fig. 9: stages with and without candidate selection"
    caption = f"{heading} ({context.where}). Mean ± standard deviation over the folds, with 95% intervals."
    table = stages_table("fig9", caption, rows, gains)
    figures = []
    for p in dict.fromkeys(x.p for x in groups):
        of_p = [row for row in rows if row.group.p == p]
        if any(row.figures for row in of_p):
            name = f"fig9_p{share(p)}"
            save_figure(stages_figure(of_p), context.output_dir, name)
            figures.append(FigureFile(name, f"Fig. 9, p = {share(p)} ({context.where}), with 95% intervals."))
    return Content(heading, [table], figures)


EXPERIMENTS: Dict[str, Callable[[Context], Content]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "roc": _roc,
    "fig6": _fig6,
    "fig8": _fig8,
    "fig9": _fig9,
}


def _fold_of_most(groups: Sequence[Group]) -> Optional[int]:
    """The fold that most methods have finished; of several, the first."""
    counts: Dict[int, int] = {}
    for x in groups:
        for fold in x.folds:
            counts[fold] = counts.get(fold, 0) + 1
    return min(counts, key=lambda fold: (-counts[fold], fold), default=None)


def _run_entry(x: Planned) -> Dict[str, Any]:
    seconds, revision = (x.run.seconds, x.run.git_revision) if x.run else (None, None)
    return {**x.key._asdict(), "status": x.status, "log": x.log, "seconds": seconds, "git_revision": revision}


def _describe_threshold(threshold: str) -> str:
    return "0.5" if threshold == FIXED_THRESHOLD else "of the largest Youden index on validation data"
