"""
The runs of an experiment with what they found, grouped by method.

The own test set of a run is ``<data>_fold<fold>_test``; predictions on any other set are an external validation.
"""

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from ..errors import InputError
from ..modeling.boxes import elementwise_iou
from .paper import position
from .run import Result, Run

FIXED_THRESHOLD, YOUDEN_THRESHOLD = "0.5", "youden-val"
THRESHOLDS = (FIXED_THRESHOLD, YOUDEN_THRESHOLD)
WITHOUT_THRESHOLD = "no threshold from validation"


class Entry(NamedTuple):
    """A run of the plan.

    Attributes:
        status: "finished", "failed", "missing", or why a finished run cannot be shown.
        result: what it found; None if there is nothing that can be shown.
        threshold: an image with at least this malignancy is called malignant.
    """

    run: Run
    status: str
    result: Optional[Result]
    threshold: float


class Cases(NamedTuple):
    """One model's diagnoses of N images.

    Attributes:
        image_ids, patient_ids: (N,).
        labels: (N,), 1 for malignant, 0 for benign; probabilities: (N,) of malignant.
        overlaps: (N,), IoU of the box with the manual ROI, 0 where nothing was found, nan of an image without ROI.
        scores: (N,) of the box, -1 where nothing was found, nan where it was not kept.
        num_rois: (N,) in the image.
        threshold: of the model.
    """

    image_ids: np.ndarray
    patient_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    overlaps: np.ndarray
    scores: np.ndarray
    num_rois: np.ndarray
    threshold: float

    @property
    def right(self) -> np.ndarray:
        """(N,) whether the decision at the threshold is right."""
        return (self.probabilities >= self.threshold) == (self.labels == 1)


class Group(NamedTuple):
    """The runs of one method at one p: all that were planned, finished or not, by fold and seed."""

    method: str
    p: float
    planned: Tuple[Entry, ...]

    @property
    def shown(self) -> List[Entry]:
        return [x for x in self.planned if x.result is not None]

    def tested_on(self, test_set: str) -> "Group":
        """The same group, in which a run without predictions for a test set counts as missing."""
        planned = (x if x.result and test_set in x.result.predictions else x._replace(result=None) for x in self.planned)
        return self._replace(planned=tuple(planned))

    def of_seed(self, seed: int) -> "Group":
        return self._replace(planned=tuple(x for x in self.planned if x.run.seed == seed))

    @property
    def folds(self) -> List[int]:
        """Folds with a run that can be shown."""
        return sorted({x.run.fold for x in self.shown})

    @property
    def seeds(self) -> List[int]:
        """Seeds with a run that can be shown."""
        return sorted({x.run.seed for x in self.shown})

    @property
    def planned_folds(self) -> List[int]:
        return sorted({x.run.fold for x in self.planned})

    @property
    def extent(self) -> str:
        """How much of the plan the metrics of this group stand for, such as "4 folds" or "3 of 4 folds"."""
        folds, all_folds = len(self.folds), len(self.planned_folds)
        if folds < all_folds:
            return f"{folds} of {all_folds} folds"
        text = f"{folds} fold{'s' * (folds != 1)}"
        if len(self.shown) < len(self.planned):
            text += f", {len(self.shown)} of {len(self.planned)} runs"
        return text

    @property
    def remark(self) -> str:
        """What stands behind each number of a group that is not complete, such as " [3/4 folds]"; else nothing."""
        if len(self.shown) == len(self.planned):
            return ""
        if len(self.folds) < len(self.planned_folds):
            return f" [{len(self.folds)}/{len(self.planned_folds)} folds]"
        return f" [{len(self.shown)}/{len(self.planned)} runs]"


def read_entries(runs: Sequence[Run], threshold: str = FIXED_THRESHOLD) -> List[Entry]:
    """
    What the runs of a plan found, ordered by p, method, fold and seed.

    Args:
        threshold: one of :data:`THRESHOLDS`: 0.5, or for each run the Youden-optimal one of its validation set.

    Raises:
        InputError: the predictions of a run are damaged.
    """
    entries = []
    for run in runs:
        result, status = run.result, run.status
        limit = 0.5 if threshold == FIXED_THRESHOLD or result is None else result.youden_threshold
        if limit is None:
            result, status, limit = None, WITHOUT_THRESHOLD, 0.5
        entries.append(Entry(run, status, result, limit))
    return in_order(entries)


def in_order(entries: Iterable[Entry]) -> List[Entry]:
    """By p, method, fold and seed."""
    return sorted(entries, key=lambda x: (x.run.p, position(x.run.method), x.run.method, x.run.fold, x.run.seed))


def group(entries: Sequence[Entry]) -> List[Group]:
    """The groups of what :func:`read_entries` returned, in its order."""
    groups: Dict[Tuple, List[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.run.method, entry.run.p), []).append(entry)
    return [Group(*name, tuple(found)) for name, found in groups.items()]


def cases(entry: Entry, test_set: Optional[str] = None) -> Cases:
    """The diagnoses of a run on a test set, by default its own.

    Raises:
        InputError: there are none.
    """
    test_set = test_set or entry.run.split("test")
    records = entry.result.predictions.get(test_set)
    if not records:
        raise InputError(f"{entry.run}: no predictions for {test_set}, only for {', '.join(entry.result.predictions)}.")
    return cases_of(records, entry.threshold)


def cases_of(records: Sequence[Mapping[str, Any]], threshold: float = 0.5) -> Cases:
    """The records of one test set in :class:`~tsdd_d2.experiments.run.Result`."""
    columns = [np.array([x[name] for x in records]) for name in ("image_id", "patient_id", "label", "malignancy")]
    scores = np.array([-1.0 if x["box"] is None else x.get("score") for x in records], dtype=float)  # None is nan
    return Cases(*columns, _overlaps(records), scores, np.array([x["num_rois"] for x in records]), threshold)


def _overlaps(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    nowhere = [0.0, 0.0, 0.0, 0.0]
    # in double precision: an IoU of exactly 0.5 must not fall below it by rounding
    boxes, rois = (torch.tensor([x[name] or nowhere for x in records], dtype=torch.float64) for name in ("box", "roi"))
    overlaps = elementwise_iou(boxes, rois).numpy()
    return np.where([x["roi"] is None for x in records], np.nan, overlaps)


def external_sets(groups: Sequence[Group]) -> List[str]:
    """The test sets that are no fold of the data set that the models were trained on, in alphabetic order."""
    shown = [x for group in groups for x in group.shown]
    return sorted({name for x in shown for name in x.result.predictions if name != x.run.split("test")})
