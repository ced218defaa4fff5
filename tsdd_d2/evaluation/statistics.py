"""
Diagnosis metrics and their confidence intervals, as pure functions of arrays.

Shape shorthand in this module:

    N: number of images
    P: number of patients
    B: number of bootstrap resamples

A label is 1 for malignant (the positive class) and 0 for benign; a probability is that of malignant, in
[0, 1]. A case is called malignant when its probability is at or above the threshold, as in
:mod:`sklearn.metrics`.
"""

import logging
import math
import warnings
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from scipy import stats

CONFIDENCE_LEVEL = 0.95

# Bounds the (B, N) arrays of one bootstrap batch to 8 MB each, whatever the size of the data set.
MAX_WEIGHTS_PER_BATCH = 2**20


def diagnosis_metrics(
    labels: Sequence[int],
    probabilities: Sequence[float],
    threshold: float = 0.5,
    weights: Optional[np.ndarray] = None,
) -> Dict[str, np.ndarray]:
    """
    The metrics of the paper's tables (Sec. IV.B) and the area under the ROC curve.

    Args:
        labels: (N,), 0 benign or 1 malignant.
        probabilities: (N,), probability of malignant in [0, 1].
        threshold: a case with ``probability >= threshold`` is called malignant.
        weights: (..., N), how often each case counts; None counts each once. The leading dimensions are
            those of the returned arrays: the (B, N) weights of all bootstrap resamples are evaluated in one
            call, for which :mod:`sklearn.metrics` would need a loop.

    Returns:
        dict: "AUC", "accuracy", "sensitivity", "specificity", "youden_index", each a (...) array (a scalar
        without ``weights``). Fractions in [0, 1]; the Youden index, sensitivity + specificity - 1, in
        [-1, 1]. What needs a class that is absent (or has no weight) is nan.

    Raises:
        ValueError: no case, shapes differ, a label that is not 0 or 1, a probability outside [0, 1] or nan.
    """
    labels, probabilities = _check_cases(labels, probabilities)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)
    called_malignant = probabilities >= threshold
    malignant = weights @ (labels == 1)
    benign = weights @ (labels == 0)
    true_positives = weights @ (called_malignant & (labels == 1))
    true_negatives = weights @ (~called_malignant & (labels == 0))
    sensitivity = _divide(true_positives, malignant)
    specificity = _divide(true_negatives, benign)
    return {
        "AUC": _area_under_roc_curve(labels, probabilities, weights),
        "accuracy": _divide(true_positives + true_negatives, malignant + benign),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "youden_index": sensitivity + specificity - 1,
    }


def roc_points(labels: Sequence[int], probabilities: Sequence[float]) -> Dict[str, List[float]]:
    """
    The corners of the ROC curve, from (0, 0) to (1, 1).

    Returns:
        dict: "fpr", "tpr" and "thresholds", lists of one length. The first threshold is inf: nothing is
        called malignant. With one class only there is no curve, and the lists are empty.
    """
    labels, probabilities = _check_cases(labels, probabilities)
    if labels.min() == labels.max():
        return {"fpr": [], "tpr": [], "thresholds": []}
    from sklearn.metrics import roc_curve  # which import tsdd_d2 does without

    fpr, tpr, thresholds = roc_curve(labels, probabilities)
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "thresholds": thresholds.tolist()}


def sensitivity_at(
    labels: Sequence[int],
    probabilities: Sequence[float],
    false_positive_rates: Sequence[float],
    weights: Optional[np.ndarray] = None,
) -> np.ndarray:
    """
    The ROC curve on a grid: curves of several test sets or resamples can be averaged there (Fawcett, "An
    introduction to ROC analysis", Pattern Recognition Letters 27, 2006, vertical averaging).

    Args:
        labels, probabilities: (N,) each.
        false_positive_rates: (G,), ascending in [0, 1].
        weights: (..., N), how often each case counts; None counts each once.

    Returns:
        (..., G): the sensitivity, linear between the corners of the curve; where the curve rises
        vertically, its upper end. nan where the weights leave one class only.
    """
    labels, probabilities = _check_cases(labels, probabilities)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(-probabilities, kind="stable")
    starts_of_ties = np.flatnonzero(np.diff(-probabilities[order], prepend=-np.inf))
    rates = []
    for is_class in (labels == 0, labels == 1):
        counts = np.add.reduceat((weights * is_class)[..., order], starts_of_ties, axis=-1).cumsum(axis=-1)
        counts = np.concatenate([np.zeros_like(counts[..., :1]), counts], axis=-1)
        rates.append(_divide(counts, counts[..., -1:]))
    corners = zip(*(rate.reshape(-1, rate.shape[-1]) for rate in rates))
    # numpy interpolates nan among the false-positive rates to numbers
    curves = [np.interp(false_positive_rates, *corner) + 0 * np.sum(corner) for corner in corners]
    return np.reshape(curves, (*weights.shape[:-1], len(false_positive_rates)))


def youden_optimal_threshold(labels: Sequence[int], probabilities: Sequence[float]) -> float:
    """
    The probability at which "malignant from here on" has the largest Youden index; of several, the highest.

    It is to be chosen on a validation set: on the test set itself it flatters the metrics.

    Returns:
        float: one of ``probabilities``; nan with one class only.
    """
    roc = roc_points(labels, probabilities)
    if not roc["thresholds"]:
        return float("nan")
    # Without the first point, whose threshold is infinite: the last point has the same Youden index of zero.
    # Rounded, since 2/3 - 0 and 1 - 1/3 are a tie that the last bit must not decide.
    youden_index = np.subtract(roc["tpr"], roc["fpr"])[1:].round(12)
    return roc["thresholds"][1:][int(youden_index.argmax())]


def threshold_for_sensitivity(labels: Sequence[int], probabilities: Sequence[float], sensitivity: float) -> float:
    """
    A threshold with at least a sensitivity in (0, 1] and the highest specificity that this leaves: midway between the least
    probability that it calls malignant and the next lower one, so that rounding takes no image over it.

    As with :func:`youden_optimal_threshold` it is to be chosen on a validation set; nan without a malignant case.
    """
    labels, probabilities = _check_cases(labels, probabilities)
    malignant = np.sort(probabilities[labels == 1])[::-1]
    # rounded, since 0.95 of 20 are 19
    if not len(malignant):
        return float("nan")
    least = malignant[math.ceil(round(sensitivity * len(malignant), 9)) - 1]
    lower = probabilities[probabilities < least]
    return float((least + lower.max()) / 2 if len(lower) else least)


def patient_level(
    patient_ids: Sequence[str], labels: Sequence[int], probabilities: Sequence[float]
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Merge the images of each patient: the mean of the probabilities; malignant if any image is malignant.

    Args:
        patient_ids, labels, probabilities: (N,) each, one entry for each image.

    Returns:
        tuple: patient ids (sorted), labels and probabilities, (P,) each.
    """
    labels, probabilities = _check_cases(labels, probabilities)
    patients, patient_of_image = _index_patients(patient_ids)
    patient_labels = (np.bincount(patient_of_image, weights=labels) > 0).astype(int)
    patient_probabilities = np.bincount(patient_of_image, weights=probabilities)
    patient_probabilities /= np.bincount(patient_of_image)
    return patients, patient_labels, patient_probabilities


def patient_bootstrap(
    patient_ids: Sequence[str],
    statistic: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    resamples: int = 1000,
    seed: int = 0,
) -> Dict[str, Dict[str, float]]:
    """
    Values of any number of metrics with 95% percentile intervals from one bootstrap over *patients*.

    A resample draws P patients with replacement and keeps all images of each: images of one patient resemble
    each other, and resampling them one by one would give intervals that are too narrow. All metrics see the
    same resamples, and the order of the images does not matter.

    A resample may leave a metric undefined (AUC without a malignant patient): the interval is taken over the
    resamples that define the metric, and their number is returned and, if it is not all of them, logged.

    Args:
        patient_ids: (N,), one for each image.
        statistic: takes weights (..., N), how often each image is in a resample, and returns
            ``{metric: (...) array}``.
        resamples: B. With 0, only the values are computed.
        seed: of the random generator; equal seeds give equal intervals.

    Returns:
        dict: ``{metric: {"value", "low", "high", "resamples"}}``, or ``{metric: {"value"}}`` with
        ``resamples=0``. ``low`` and ``high`` are nan if no resample defines the metric, or if there is one
        patient only.
    """
    patients, patient_of_image = _index_patients(patient_ids)
    num_images, num_patients = len(patient_of_image), len(patients)
    values = {name: float(value) for name, value in statistic(np.ones(num_images)).items()}
    if resamples == 0:
        return {name: {"value": value} for name, value in values.items()}
    if num_patients < 2:
        nothing = {"low": float("nan"), "high": float("nan"), "resamples": 0}
        return {name: {"value": value, **nothing} for name, value in values.items()}

    def resampled_metrics(drawn: np.ndarray, axis: int) -> np.ndarray:
        # (B, P) drawn patients -> (B, P) how often each was drawn -> (B, N) weights -> (metrics, B)
        rows = np.arange(len(drawn))[:, None]
        counts = np.bincount((rows * num_patients + drawn).ravel(), minlength=drawn.size).reshape(drawn.shape)
        metrics = statistic(counts[:, patient_of_image].astype(float))
        return np.stack([metrics[name] for name in values])

    with warnings.catch_warnings():
        # SciPy's own interval is nan as soon as one resample is; ours below is not.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        distribution = stats.bootstrap(
            (np.arange(num_patients),),
            resampled_metrics,
            n_resamples=resamples,
            batch=max(1, MAX_WEIGHTS_PER_BATCH // num_images),
            vectorized=True,
            axis=-1,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution

    tail = (1 - CONFIDENCE_LEVEL) / 2
    results = {}
    for name, samples in zip(values, distribution):
        defined = samples[~np.isnan(samples)]
        low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
        results[name] = {
            "value": values[name],
            "low": float(low),
            "high": float(high),
            "resamples": len(defined),
        }
    undefined: Dict[int, List[str]] = {}
    for name, result in results.items():
        if not np.isnan(result["value"]):  # else nothing is lost
            undefined.setdefault(resamples - result["resamples"], []).append(str(name))
    undefined.pop(0, None)
    if undefined:
        logging.getLogger(__name__).warning(
            "Of %d resamples of %d patients some lack a class; they are left out of the intervals: %s",
            resamples,
            num_patients,
            ", ".join(f"{names[0]}{f' to {names[-1]}' if names[1:] else ''} {n}" for n, names in undefined.items()),
        )
    return results


def flatten_intervals(intervals: Mapping[str, Mapping[str, float]]) -> Dict[str, float]:
    """
    Turn what :func:`patient_bootstrap` returns into the flat floats that Detectron2's evaluators return:
    ``metric``, ``metric_low``, ``metric_high`` (the latter two only where an interval was computed).
    """
    flat = {}
    for name, interval in intervals.items():
        flat[name] = interval["value"]
        for bound in ("low", "high"):
            if bound in interval:
                flat[f"{name}_{bound}"] = interval[bound]
    return flat


def _area_under_roc_curve(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mann-Whitney: the share of (malignant, benign) pairs in the right order, a tie counting half."""
    order = np.argsort(probabilities, kind="stable")
    starts_of_ties = np.flatnonzero(np.diff(probabilities[order], prepend=-np.inf))
    weights = weights[..., order]
    malignant = np.add.reduceat(weights * labels[order], starts_of_ties, axis=-1)
    benign = np.add.reduceat(weights * (1 - labels[order]), starts_of_ties, axis=-1)
    benign_below = np.cumsum(benign, axis=-1) - benign / 2
    return _divide((malignant * benign_below).sum(-1), malignant.sum(-1) * benign.sum(-1))


def _check_cases(labels, probabilities) -> Tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if labels.ndim != 1 or labels.shape != probabilities.shape or not len(labels):
        raise ValueError(
            "labels and probabilities must be two vectors of the same length, at least 1; "
            f"their shapes are {labels.shape} and {probabilities.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 (benign) or 1 (malignant), not {np.unique(labels).tolist()}")
    outside = ~((probabilities >= 0) & (probabilities <= 1))  # true for nan as well
    if outside.any():
        raise ValueError(f"probabilities must lie in [0, 1]; entry {outside.argmax()} is {probabilities[outside.argmax()]}")
    return labels.astype(int), probabilities


def _divide(numerator, denominator) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.true_divide(numerator, denominator)


def _index_patients(patient_ids: Sequence[str]) -> Tuple[np.ndarray, np.ndarray]:
    return np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
