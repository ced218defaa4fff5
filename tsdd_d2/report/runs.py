"""
What an experiment planned and what of it is finished: runs with their predictions, grouped by method.

A run is one training of a method on one fold. Its own test set is ``<data>_fold<fold>_test``; predictions on any
other set are an external validation.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..errors import InputError
from .methods import first_stage_method, position

FIXED_THRESHOLD, YOUDEN_THRESHOLD = "0.5", "youden-val"
THRESHOLDS = (FIXED_THRESHOLD, YOUDEN_THRESHOLD)
FINISHED, MISSING = "finished", "missing"
WITHOUT_THRESHOLD = "no threshold from validation"


class Key(NamedTuple):
    """What tells one run from another; ``stage`` is None for a method of one stage, ``p`` the share of the training
    patients that keep their ROIs."""

    method: str
    stage: Optional[int]
    data: str
    profile: str
    fold: int
    p: float
    seed: int

    @classmethod
    def of(cls, descriptor: Mapping[str, Any]) -> "Key":
        lacking = [name for name in cls._fields if name not in descriptor]
        if lacking:
            raise InputError(f"The description of a run lacks {', '.join(lacking)}: {_shorten(descriptor)}")
        key = cls(*(descriptor[name] for name in cls._fields))
        return key._replace(method=first_stage_method(key.method)) if key.stage == 1 else key


class Planned(NamedTuple):
    """
    Attributes:
        status: "finished", "failed", "missing", or why a finished run cannot be shown.
        log: path of the log relative to the report, or None.
        run: the finished run, None if there is none that can be shown.
    """

    key: Key
    status: str
    log: Optional[str]
    run: Optional["Run"]


class Run(NamedTuple):
    """
    Attributes:
        seconds: wall time, or None.
        git_revision: of this software, or None.
        threshold: an image with at least this malignancy is called malignant.
        predictions: test set -> one entry for each image, see :func:`tsdd_d2.report.render`.
    """

    key: Key
    seconds: Optional[float]
    git_revision: Optional[str]
    threshold: float
    predictions: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def test_set(self) -> str:
        return f"{self.key.data}_fold{self.key.fold}_test"


class Cases(NamedTuple):
    """One model's diagnoses of N images.

    Attributes:
        image_ids, patient_ids: (N,).
        labels: (N,), 1 for malignant, 0 for benign; probabilities: (N,) of malignant.
        threshold: of the model.
    """

    image_ids: np.ndarray
    patient_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float

    @property
    def right(self) -> np.ndarray:
        """(N,) whether the decision at the threshold is right."""
        return (self.probabilities >= self.threshold) == (self.labels == 1)


class Group(NamedTuple):
    """The runs of one method at one p: all that were planned, finished or not, by fold and seed."""

    method: str
    stage: Optional[int]
    p: float
    planned: Tuple[Planned, ...]

    @property
    def runs(self) -> List[Run]:
        return [planned.run for planned in self.planned if planned.run is not None]

    def tested_on(self, test_set: str) -> "Group":
        """The same group, in which a run without predictions for a test set counts as missing."""
        planned = (x if x.run and test_set in x.run.predictions else x._replace(run=None) for x in self.planned)
        return self._replace(planned=tuple(planned))

    def of_seed(self, seed: int) -> "Group":
        return self._replace(planned=tuple(x for x in self.planned if x.key.seed == seed))

    @property
    def folds(self) -> List[int]:
        """Folds with a run that can be shown."""
        return sorted({run.key.fold for run in self.runs})

    @property
    def seeds(self) -> List[int]:
        """Seeds with a run that can be shown."""
        return sorted({run.key.seed for run in self.runs})

    @property
    def planned_folds(self) -> List[int]:
        return sorted({planned.key.fold for planned in self.planned})

    @property
    def extent(self) -> str:
        """How much of the plan the figures of this group stand for, such as "4 folds" or "3 of 4 folds"."""
        folds, all_folds = len(self.folds), len(self.planned_folds)
        if folds < all_folds:
            return f"{folds} of {all_folds} folds"
        text = f"{folds} fold{'s' * (folds != 1)}"
        if len(self.runs) < len(self.planned):
            text += f", {len(self.runs)} of {len(self.planned)} runs"
        return text

    @property
    def remark(self) -> str:
        """What stands behind each figure of a group that is not complete, such as " [3/4 folds]"; else nothing."""
        if len(self.runs) == len(self.planned):
            return ""
        if len(self.folds) < len(self.planned_folds):
            return f" [{len(self.folds)}/{len(self.planned_folds)} folds]"
        return f" [{len(self.runs)}/{len(self.planned)} runs]"


def match(planned: Sequence[Mapping], runs: Sequence[Mapping], threshold: str) -> List[Planned]:
    """
    The plan with the finished run of each entry, ordered by p, method, stage, fold and seed. Entries for one first
    stage that two variants share become one.

    Args:
        planned, runs, threshold: see :func:`tsdd_d2.report.render`.

    Raises:
        InputError: an entry cannot be understood, or the plan is of several data sets or profiles.
    """
    if threshold not in THRESHOLDS:
        raise InputError(f"The threshold is one of {', '.join(THRESHOLDS)}, not {threshold!r}.")
    contents = {Key.of(content): content for content in runs}
    entries: Dict[Key, Planned] = {}
    for descriptor in planned:
        key = Key.of(descriptor)
        status, run = descriptor.get("status", MISSING), None
        if key in contents:
            limit = 0.5 if threshold == FIXED_THRESHOLD else contents[key].get("youden_threshold")
            status = FINISHED if limit is not None else WITHOUT_THRESHOLD
            run = None if limit is None else _run(key, contents[key], limit)
        elif status == FINISHED:
            status = "finished, predictions missing"
        if key not in entries or entries[key].run is None:
            entries[key] = Planned(key, status, descriptor.get("log"), run)
    kinds = {(key.data, key.profile) for key in entries}
    if len(kinds) != 1:
        raise InputError(f"One report shows one data set in one profile, not {sorted(kinds) or 'an empty plan'}.")
    return sorted(entries.values(), key=_order)


def group(planned: Sequence[Planned], stages: Sequence[Optional[int]] = (None, 2)) -> List[Group]:
    """The groups of what :func:`match` returned, in its order; by default those of final models."""
    groups: Dict[Tuple, List[Planned]] = {}
    for entry in planned:
        if entry.key.stage in stages:
            groups.setdefault((entry.key.method, entry.key.stage, entry.key.p), []).append(entry)
    return [Group(*name, tuple(entries)) for name, entries in groups.items()]


def cases(run: Run, test_set: Optional[str] = None) -> Cases:
    """The diagnoses of a run on a test set, by default its own.

    Raises:
        InputError: there are none, or they are no diagnoses.
    """
    test_set = test_set or run.test_set
    predictions = run.predictions.get(test_set)
    if not predictions:
        raise InputError(f"{describe(run.key)}: no predictions for {test_set}, only for {sorted(run.predictions)}.")
    try:
        columns = [np.array([x[name] for x in predictions]) for name in ("image_id", "patient_id", "label")]
        probabilities = np.array([x["malignancy"] for x in predictions], dtype=float)
        wrong = next((i for i, x in zip(columns[0], probabilities) if not 0 <= x <= 1), None)
        if wrong is not None:
            raise ValueError(f"the malignancy of image {wrong} is no probability")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{describe(run.key)}: the predictions for {test_set} are unusable: {error!r}") from error
    return Cases(columns[0], columns[1].astype(str), columns[2], probabilities, run.threshold)


def external_sets(groups: Sequence[Group]) -> List[str]:
    """The test sets that are no fold of the data set that the models were trained on, in alphabetic order."""
    return sorted({name for x in groups for run in x.runs for name in run.predictions if name != run.test_set})


def share(p: float) -> str:
    """p as it is written everywhere: 0.2, 1.0."""
    return str(float(p))


def describe(key: Key) -> str:
    """A run in words."""
    stage = "" if key.stage is None else f" stage {key.stage},"
    return f"{key.method},{stage} p = {share(key.p)}, fold {key.fold}, seed {key.seed}"


def _run(key: Key, content: Mapping[str, Any], threshold: float) -> Run:
    if not isinstance(content.get("predictions"), dict):
        raise InputError(f"{describe(key)}: its file holds no predictions by test set.")
    return Run(key, content.get("seconds"), content.get("git_revision"), float(threshold), content["predictions"])


def _order(planned: Planned) -> Tuple:
    key = planned.key
    return key.p, position(key.method), key.stage or 0, key.fold, key.seed


def _shorten(descriptor: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in descriptor.items() if name != "predictions"}
