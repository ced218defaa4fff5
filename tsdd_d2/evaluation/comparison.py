"""
Tests between two models that saw the same images, as pure functions of arrays.

Shape shorthand in this module:

    N: number of images
    M: number of malignant images
    B: number of benign images

DeLong's test and McNemar's take the images as independent. Of most patients a data set has several, which
resemble each other, so their p-values are somewhat too small: read them beside an interval of
:func:`~tsdd_d2.evaluation.statistics.patient_bootstrap`, which resamples whole patients.
"""

from typing import List, NamedTuple, Sequence

import numpy as np
from scipy import stats

from .statistics import diagnosis_metrics


class DeLongTest(NamedTuple):
    """
    Attributes:
        auc_a, auc_b: areas under the ROC curves.
        z: ``auc_a - auc_b`` in units of its standard error.
        p_value: two-sided. With an estimated variance of zero there is no test: the p-value is 1 if the areas
            are equal, else nan. With fewer than two images of a class, all is nan but the areas.
    """

    auc_a: float
    auc_b: float
    z: float
    p_value: float


def delong_test(labels: Sequence[int], a: Sequence[float], b: Sequence[float]) -> DeLongTest:
    """
    DeLong's test of two correlated areas under the ROC curve.

    DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988; computed from midranks as in Sun and Xu, "Fast
    implementation of DeLong's algorithm", IEEE Signal Processing Letters 21, 2014.

    Args:
        labels: (N,), 1 for malignant, 0 for benign.
        a, b: (N,) each, what the two models gave the images; higher means more malignant.

    Raises:
        ValueError: shapes differ.
    """
    labels, scores = np.asarray(labels), np.array([a, b], dtype=float)
    if labels.shape != scores.shape[1:]:
        raise ValueError(f"labels and scores differ in shape: {labels.shape}, {scores.shape[1:]}")
    malignant, benign = scores[:, labels == 1], scores[:, labels == 0]
    num_malignant, num_benign = malignant.shape[1], benign.shape[1]
    if min(num_malignant, num_benign) < 2:
        areas = (float(diagnosis_metrics(labels, stats.rankdata(x) / len(x))["AUC"]) for x in scores)
        return DeLongTest(*areas, np.nan, np.nan)
    ranks = stats.rankdata(np.concatenate([malignant, benign], axis=1), axis=1)
    # The share of the other class that each image is on the right side of: (2, M) and (2, B).
    above_benign = (ranks[:, :num_malignant] - stats.rankdata(malignant, axis=1)) / num_benign
    below_malignant = 1 - (ranks[:, num_malignant:] - stats.rankdata(benign, axis=1)) / num_malignant
    auc_a, auc_b = above_benign.mean(axis=1).tolist()
    variance = sum(np.var(x[0] - x[1], ddof=1) / x.shape[1] for x in (above_benign, below_malignant))
    # Rounding leaves about 1e-34 where two models rank alike.
    if variance < 1e-20:
        equal = np.isclose(auc_a, auc_b, atol=1e-12)
        return DeLongTest(auc_a, auc_b, 0.0 if equal else np.nan, 1.0 if equal else np.nan)
    z = (auc_a - auc_b) / np.sqrt(variance)
    return DeLongTest(auc_a, auc_b, float(z), float(2 * stats.norm.sf(abs(z))))


class McNemarTest(NamedTuple):
    """
    Attributes:
        only_a, only_b: images that this model alone diagnoses rightly.
        p_value: two-sided and exact; 1 if there is no such image.
    """

    only_a: int
    only_b: int
    p_value: float


def mcnemar_test(right_a: Sequence[bool], right_b: Sequence[bool]) -> McNemarTest:
    """
    McNemar's exact test of two models' decisions: of the images that one of them alone gets right, either
    should get half.

    McNemar, Psychometrika 12, 1947.

    Args:
        right_a, right_b: (N,) each, whether the decision is right.
    """
    right_a, right_b = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    if right_a.shape != right_b.shape:
        raise ValueError(f"the two models' decisions differ in shape: {right_a.shape}, {right_b.shape}")
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = only_a + only_b
    return McNemarTest(only_a, only_b, stats.binomtest(only_a, discordant).pvalue if discordant else 1.0)


def holm(p_values: Sequence[float]) -> List[float]:
    """
    Holm's adjusted p-values of one family of tests: those at or below a level are significant at this
    family-wise level.

    Holm, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: of the tests; nan for a test that could not be made, which stays nan and does not count.
    """
    p_values = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p_values), np.nan)
    order = [i for i in np.argsort(p_values, kind="stable") if not np.isnan(p_values[i])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return adjusted.tolist()
