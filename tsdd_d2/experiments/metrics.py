"""
Metrics of groups of runs, each with a 95% interval from a bootstrap over patients.

A metric of a group is its mean over the folds (over the seeds of a fold first). A resample draws patients, keeps
all their images, and computes this mean anew, so that the interval belongs to the number that is shown.
"""

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from sklearn.metrics import brier_score_loss

from ..errors import InputError
from ..evaluation.comparison import DeLongTest, McNemarTest, delong_test, holm, mcnemar_test
from ..evaluation.localisation import average_precision_of_one_box
from ..evaluation.statistics import diagnosis_metrics, patient_bootstrap, sensitivity_at
from .groups import Cases, Entry, Group, cases


class Metric(NamedTuple):
    """How a fraction is shown.

    Attributes:
        label: in figures; in_percent: in tables, otherwise as the fraction that it is.
    """

    label: str
    in_percent: bool = False

    @property
    def title(self) -> str:
        """Of its column."""
        return f"{self.label} (%)" if self.in_percent else self.label


# Name in diagnosis_metrics -> how it is shown, in the order of the paper's tables.
METRICS = {
    "accuracy": Metric("accuracy", in_percent=True),
    "sensitivity": Metric("sensitivity", in_percent=True),
    "specificity": Metric("specificity", in_percent=True),
    "youden_index": Metric("YI", in_percent=True),
    "AUC": Metric("AUC"),
}
# of what finds boxes; AP50 is that of the one box of each image
DETECTOR_METRICS = {
    **{x: METRICS[x] for x in ("AUC", "accuracy")},
    **{x: Metric(x) for x in ("AP50", "mean IoU", "IoU ≥ 0.5")},
}


class Estimate(NamedTuple):
    """
    Attributes:
        mean: over the folds.
        std: sample standard deviation over the folds, None for a single one.
        low, high: 95% interval of the mean, nan where it is unknown.
    """

    mean: float
    std: Optional[float]
    low: float
    high: float


class Bootstrap(NamedTuple):
    resamples: int = 1000
    seed: int = 0


class CasePair(NamedTuple):
    """Two models' diagnoses of the same images, in the same order."""

    a: Cases
    b: Cases

    @property
    def patient_ids(self) -> np.ndarray:
        return self.a.patient_ids


class Comparison(NamedTuple):
    """Two groups on the folds that both have.

    Attributes:
        a, b: the groups; folds: those that both have.
        num_images, num_patients: that both diagnosed.
        difference: AUC of ``a`` less that of ``b``, the mean over the folds.
        delong, mcnemar: the tests, over the pooled images; delong_holm, mcnemar_holm: adjusted p-values.
    """

    a: Group
    b: Group
    folds: Tuple[int, ...]
    num_images: int
    num_patients: int
    difference: Estimate
    delong: DeLongTest
    mcnemar: McNemarTest
    delong_holm: float = float("nan")
    mcnemar_holm: float = float("nan")


class Gain(NamedTuple):
    """What one part of a method gives.

    Attributes:
        part: in words.
        a, b: the groups with it and without it, which differ in nothing else.
        differences: metric -> that of ``a`` less that of ``b``, see :func:`metric_differences`.
        of_seeds: seed -> the difference in AUC.
    """

    part: str
    a: Group
    b: Group
    differences: Dict[str, Estimate]
    of_seeds: Dict[int, float]


# Cases or pairs of them of one run, and (..., N) weights of its images -> {metric: (...) array}
Statistic = Callable[[Union[Cases, CasePair], Optional[np.ndarray]], Mapping[str, np.ndarray]]


def group_metrics(group: Group, bootstrap: Bootstrap, test_set: Optional[str] = None) -> Dict[str, Estimate]:
    """The metrics of the paper's tables for the runs of a group, as fractions.

    Args:
        test_set: by default that of each run; otherwise an external one, see :meth:`Group.tested_on`.
    Returns:
        an estimate for each of :data:`METRICS`; empty if no run is finished.
    """
    return estimate(_diagnosis, _items(group, test_set), bootstrap)


def auc_of_folds(group: Group) -> Dict[int, float]:
    """Fold -> AUC on its own test set, the mean over its seeds."""
    items = _items(group)
    by_fold = _by_fold(items, [_diagnosis(x, None) for _, x in items])
    return {fold: float(values["AUC"]) for fold, values in zip(dict.fromkeys(fold for fold, _ in items), by_fold)}


def brier_score(group: Group, bootstrap: Bootstrap, test_set: Optional[str] = None) -> Estimate:
    """Mean squared difference of the malignancy and the label, in [0, 1]; lower is better. ``test_set`` as in
    :func:`group_metrics`.
    """

    def brier(x: Cases, weights):
        if weights is None:
            return {"Brier": brier_score_loss(x.labels, x.probabilities)}
        with np.errstate(invalid="ignore"):  # a fold that a resample left out
            return {"Brier": (weights * (x.probabilities - x.labels) ** 2).sum(-1) / weights.sum(-1)}

    return estimate(brier, _items(group, test_set), bootstrap)["Brier"]


def localisation(group: Group, bootstrap: Bootstrap, test_set: Optional[str] = None) -> Dict[str, Estimate]:
    """Of the found box and the manual ROI, over the images that have one: the mean IoU, and the share with an IoU of 0.5 or
    more. ``test_set`` as in :func:`group_metrics`.
    """
    return estimate(localisation_metrics, _items(group, test_set), bootstrap)


def detector_metrics(group: Group, bootstrap: Bootstrap) -> Dict[str, Estimate]:
    """An estimate for each of :data:`DETECTOR_METRICS`, as fractions; empty if no run is finished."""
    return estimate(_detection, _items(group), bootstrap)


def detector_differences(a: Group, b: Group, bootstrap: Bootstrap) -> Dict[str, Estimate]:
    """Those of ``a`` less those of ``b`` on the folds and seeds that both have; empty if there are none."""
    return _differences(_detection, a, b, bootstrap)


def roc_band(
    group: Group, grid: Sequence[float], bootstrap: Bootstrap, test_set: Optional[str] = None
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The ROC curve of a group, averaged over its folds at equal false-positive rates. ``test_set`` as in
    :func:`group_metrics`.

    Returns:
        sensitivity and the bounds of its pointwise 95% interval, (G,) each, at the false-positive rates of ``grid``.
    """

    def curve(x: Cases, weights):
        sensitivity = sensitivity_at(x.labels, x.probabilities, grid, weights)
        return {index: sensitivity[..., index] for index in range(len(grid))}

    points = estimate(curve, _items(group, test_set), bootstrap).values()
    return tuple(np.array([getattr(x, name) for x in points]) for name in ("mean", "low", "high"))


def metric_differences(a: Group, b: Group, bootstrap: Bootstrap) -> Dict[str, Estimate]:
    """The metrics of ``a`` less those of ``b`` on the folds and seeds that both have; empty if there are none."""
    return _differences(_diagnosis, a, b, bootstrap)


def gain(part: str, a: Group, b: Group, bootstrap: Bootstrap) -> Optional[Gain]:
    """What ``part`` gives, which ``a`` has and ``b`` lacks; None if they have no fold and seed in common."""
    differences = metric_differences(a, b, bootstrap)
    if not differences:
        return None
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    of_seeds = {seed: metric_differences(a.of_seed(seed), b.of_seed(seed), Bootstrap(resamples=0)) for seed in seeds}
    return Gain(part, a, b, differences, {seed: x["AUC"].mean for seed, x in of_seeds.items() if x})


def compare_all(reference: Group, others: Sequence[Group], bootstrap: Bootstrap) -> List[Comparison]:
    """
    A group with each of several others; those without a common fold are left out. Each of the two tests is one family for
    Holm's correction.
    """
    comparisons = [x for other in others if (x := compare(reference, other, bootstrap)) is not None]
    delong = holm([x.delong.p_value for x in comparisons])
    mcnemar = holm([x.mcnemar.p_value for x in comparisons])
    return [x._replace(delong_holm=d, mcnemar_holm=m) for x, d, m in zip(comparisons, delong, mcnemar)]


def compare(a: Group, b: Group, bootstrap: Bootstrap) -> Optional[Comparison]:
    """Two groups, without the correction for other tests; None if they have no fold and seed in common.

    Of a fold with several common seeds, the first counts in the tests: an image must not be counted twice.
    """
    first_seeds: Dict[int, CasePair] = {}
    for fold, pair in _paired_items(a, b):
        first_seeds.setdefault(fold, pair)
    if not first_seeds:
        return None
    pairs = list(first_seeds.values())
    patient_ids = np.concatenate([x.patient_ids for x in pairs])
    labels = np.concatenate([x.a.labels for x in pairs])
    scores = [np.concatenate([x[side].probabilities for x in pairs]) for side in (0, 1)]
    right = [np.concatenate([x[side].right for x in pairs]) for side in (0, 1)]
    return Comparison(
        a,
        b,
        tuple(first_seeds),
        len(labels),
        len(np.unique(patient_ids)),
        metric_differences(a, b, bootstrap)["AUC"]._replace(std=None),
        delong_test(labels, *scores),
        mcnemar_test(*right),
    )


def pooled(group: Group, test_set: Optional[str] = None) -> Optional[Cases]:
    """
    All test images of a group's folds, of each fold those of the first seed; None without a run. On an external
    ``test_set``, which is the same for all folds, those of the first run.

    The threshold of the result has no meaning, since that of the runs may differ.
    """
    first_seeds: Dict[int, Cases] = {}
    for fold, x in _items(group, test_set)[: None if test_set is None else 1]:
        first_seeds.setdefault(fold, x)
    if not first_seeds:
        return None
    columns = zip(*(x[:-1] for x in first_seeds.values()))
    return Cases(*(np.concatenate(column) for column in columns), float("nan"))


def estimate(
    statistic: Statistic, items: Sequence[Tuple[int, Union[Cases, CasePair]]], bootstrap: Bootstrap
) -> Dict[str, Estimate]:
    """
    The mean of a statistic over folds with its interval.

    Args:
        items: pairs of a fold and what one run found there.
    """
    if not items:
        return {}
    patient_ids = np.concatenate([item.patient_ids for _, item in items])
    ends = np.cumsum([len(item.patient_ids) for _, item in items])

    def mean(weights):
        parts = np.split(np.asarray(weights), ends[:-1], axis=-1)
        return _mean_over_folds(items, [statistic(item, part) for (_, item), part in zip(items, parts)])

    intervals = patient_bootstrap(patient_ids, mean, bootstrap.resamples, bootstrap.seed)
    of_folds = _by_fold(items, [statistic(item, None) for _, item in items])
    return {
        name: _estimate(interval, np.std([x[name] for x in of_folds], ddof=1) if len(of_folds) > 1 else None)
        for name, interval in intervals.items()
    }


def _diagnosis(x: Cases, weights: Optional[np.ndarray]) -> Dict[str, np.ndarray]:
    return diagnosis_metrics(x.labels, x.probabilities, x.threshold, weights)


def _detection(x: Cases, weights: Optional[np.ndarray]) -> Dict[str, np.ndarray]:
    all_of_them = np.ones(len(x.labels)) if weights is None else weights
    values = {**_diagnosis(x, weights), **localisation_metrics(x, weights)}
    values["AP50"] = average_precision_of_one_box(x.overlaps, x.scores, x.num_rois, all_of_them, (0.5,))
    return {name: values[name] for name in DETECTOR_METRICS}


def localisation_metrics(x: Cases, weights: Optional[np.ndarray]) -> Dict[str, np.ndarray]:
    """See :func:`localisation`; (...) arrays for (..., N) weights of the images."""
    weights = (1.0 if weights is None else weights) * ~np.isnan(x.overlaps)
    values = {"mean IoU": np.nan_to_num(x.overlaps), "IoU ≥ 0.5": np.nan_to_num(x.overlaps) >= 0.5}
    with np.errstate(invalid="ignore"):  # a fold that a resample left out
        return {name: (weights * value).sum(-1) / weights.sum(-1) for name, value in values.items()}


def _differences(statistic: Statistic, a: Group, b: Group, bootstrap: Bootstrap) -> Dict[str, Estimate]:
    def difference(x: CasePair, weights):
        first, second = statistic(x.a, weights), statistic(x.b, weights)
        return {name: first[name] - second[name] for name in first}

    return estimate(difference, _paired_items(a, b), bootstrap)


def _items(group: Group, test_set: Optional[str] = None) -> List[Tuple[int, Cases]]:
    return [(x.run.fold, cases(x, test_set)) for x in group.shown]


def _paired_items(a: Group, b: Group) -> List[Tuple[int, CasePair]]:
    others = {(x.run.fold, x.run.seed): x for x in b.shown}
    pairs = [(x, others.get((x.run.fold, x.run.seed))) for x in a.shown]
    return [(x.run.fold, _pair(x, other)) for x, other in pairs if other is not None]


def _pair(entry: Entry, other: Entry) -> CasePair:
    return pair_cases(cases(entry), cases(other), f"{entry.run} and {other.run}, in {entry.run.split('test')}")


def pair_cases(a: Cases, b: Cases, of: str) -> CasePair:
    """The images that both have, in one order.

    Args:
        of: names both in a message.

    Raises:
        InputError: each has images that the other lacks, or one has another class or patient for an image.
    """
    common, in_a, in_b = np.intersect1d(a.image_ids, b.image_ids, return_indices=True)
    # C-Net on the manual ROI has nothing to say of an image without one
    one_has_all = len(common) == min(len(a.image_ids), len(b.image_ids))
    a, b = (Cases(*(column[index] for column in x[:-1]), x.threshold) for x, index in ((a, in_a), (b, in_b)))
    if not one_has_all or (a.labels != b.labels).any() or (a.patient_ids != b.patient_ids).any():
        raise InputError(
            f"{of} were tested on other images: each has images that the other lacks, or another class or patient for one."
        )
    return CasePair(a, b)


def _mean_over_folds(items, values: Sequence[Mapping[str, np.ndarray]]) -> Dict[str, np.ndarray]:
    of_folds = _by_fold(items, values)
    return {name: np.mean([x[name] for x in of_folds], axis=0) for name in of_folds[0]}


def _by_fold(items, values: Sequence[Mapping[str, np.ndarray]]) -> List[Dict[str, np.ndarray]]:
    """The mean over the seeds of each fold."""
    folds: Dict[int, List[Mapping[str, np.ndarray]]] = {}
    for (fold, _), value in zip(items, values, strict=True):
        folds.setdefault(fold, []).append(value)
    return [{name: np.mean([x[name] for x in seeds], axis=0) for name in seeds[0]} for seeds in folds.values()]


def _estimate(interval: Mapping[str, float], std: Optional[float]) -> Estimate:
    nan = float("nan")
    return Estimate(
        interval["value"], None if std is None else float(std), interval.get("low", nan), interval.get("high", nan)
    )
