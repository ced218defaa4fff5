"""What was measured of runs and of candidate selection, as Markdown tables."""

import math
from typing import Dict, List, Sequence

from tabulate import tabulate

# Title of the column, and where the evaluators put the figure.
FIGURES = (
    ("images", "cases", "images"),
    ("with ROI", "cases", "with_roi"),
    ("IoU >= 0.5", "localisation", "share_iou50"),
    ("mean IoU", "localisation", "mean_iou"),
    ("mean IoU, true box", "localisation", "mean_iou_true"),
    ("AUC", "diagnosis", "AUC"),
    ("threshold", "cases", "threshold"),
    ("accuracy", "diagnosis", "accuracy"),
    ("sensitivity", "diagnosis", "sensitivity"),
    ("specificity", "diagnosis", "specificity"),
    ("patient AUC", "diagnosis_patient", "AUC"),
)
LABELS = ("weights", "data set", "box")

# Title of the column, and the entry of RoundStatistics.
ROUND_FIGURES = {
    "round": "round",
    "replaced, fa": "replaced_fa",
    "replaced, pa": "replaced_pa",
    "mean IoU with manual box, fa": "iou_with_manual",
    "mean IoU with withheld box, pa": "iou_with_withheld_pa",
    "mean IoU with true box, fa": "iou_with_true_fa",
    "mean IoU with true box, pa": "iou_with_true_pa",
}


# Title of the column, and the figure of tools/explain_selection.py.
EXPLANATION_FIGURES = {
    "images of": "images_of",
    "images": "images",
    "candidates": "candidates",
    "IoU, first candidate": "iou_first",
    "IoU, guided by the class": "iou_guided",
    "IoU, best candidate": "iou_best",
    "rank correlation": "rank_correlation",
    "saturated": "saturated",
    "current ROI scores as high": "keeps_roi",
    "current ROI fits as well": "roi_fits",
}
MARGIN_FIGURES = {
    "images of": "images_of",
    "images": "images",
    "margin": "margin",
    "replaced": "replaced",
    "of these improved": "improved",
    "IoU before": "iou_before",
    "IoU after": "iou_after",
}


def results_table(results: Dict[str, Dict]) -> str:
    """The main figures of :func:`~tsdd_d2.engine.final_evaluation.evaluate_run` that were measured, with 95% intervals.

    Args:
        results: weights -> data set -> the box that is diagnosed -> results of the evaluators.
    """
    rows: List[Dict[str, str]] = []
    for weights, by_dataset in results.items():
        for dataset, by_box in by_dataset.items():
            for box, result in by_box.items():
                row = dict(zip(LABELS, (weights, dataset, box)))
                for title, group, key in FIGURES:
                    row[title] = _with_interval(result.get(group, {}), key)
                rows.append(row)
    return _markdown_of_filled_columns(rows)


def rounds_table(rounds: Sequence[Dict[str, float]]) -> str:
    """What every round did to the ROIs; a figure that no round has gets no column.

    Args:
        rounds: the entries of :class:`~tsdd_d2.refinement.rounds.RoundStatistics` that could be measured, and
            "round"; round 0 is the annotation that training started from.
    """
    rows = [{title: _figure(entry.get(key)) for title, key in ROUND_FIGURES.items()} for entry in rounds]
    return _markdown_of_filled_columns(rows)


def explanation_tables(candidates: Sequence[Dict], margins: Sequence[Dict]) -> str:
    """What C-Net's score says about the fit of a box, and what a margin would change.

    Args:
        candidates, margins: the figures of :mod:`tsdd_d2.refinement.explanation`, with "images_of" and "images", and
            "candidates" (where they come from) or "margin".
    """
    tables = ((EXPLANATION_FIGURES, candidates), (MARGIN_FIGURES, margins))
    return "\n\n".join(
        markdown_table([{title: _figure(row.get(key)) for title, key in figures.items()} for row in rows])
        for figures, rows in tables
    )


def markdown_table(rows: Sequence[Dict[str, str]]) -> str:
    """
    Args:
        rows: title of the column -> text, the same columns in each.
    """
    if not rows:
        return ""
    # tabulate would read the texts as numbers again and cut their last zeros off
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True, colalign=["left"] * len(rows[0]))


def _with_interval(figures: Dict[str, float], key: str) -> str:
    value = figures.get(key)
    if value is None or math.isnan(value):  # not measured, or not defined: an AUC of one class
        return ""
    interval = [_figure(figures.get(f"{key}_{end}")) for end in ("low", "high")]
    return f"{_figure(value)} ({'–'.join(interval)})" if all(interval) else _figure(value)


def _figure(value) -> str:
    """Three decimals of a fraction, a count as it is, nothing for what was not measured or is not defined."""
    if value is None or value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _markdown_of_filled_columns(rows: Sequence[Dict[str, str]]) -> str:
    titles = [title for title in next(iter(rows), ()) if any(row[title] for row in rows)]
    return markdown_table([{title: row[title] for title in titles} for row in rows])
