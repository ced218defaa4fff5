"""
Whether probabilities can be taken at their word, as pure functions of arrays; see :mod:`.statistics` for the
conventions. The Brier score is :func:`sklearn.metrics.brier_score_loss`.
"""

from typing import Sequence, Tuple

import numpy as np
from sklearn.calibration import calibration_curve


def reliability_curve(
    labels: Sequence[int], probabilities: Sequence[float], bins: int = 10
) -> Tuple[np.ndarray, np.ndarray]:
    """
    How often lesions that were given a probability are malignant. The bins hold equally many images (fewer
    where ties forbid it), so that each point is about equally sure.

    Returns:
        tuple: mean probability of malignant and share of malignant images, (bins,) each or less.
    """
    share, mean_probability = calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    return mean_probability, share


def net_benefit(labels: Sequence[int], probabilities: Sequence[float], thresholds: Sequence[float]) -> np.ndarray:
    """
    The decision curve of a model: what acting on "malignant from the threshold on" is worth, in true positives
    for each image. A threshold t says that one missed cancer weighs as much as (1 - t) / t needless biopsies.

    Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26, 2006.

    Args:
        labels, probabilities: (N,) each.
        thresholds: (T,), in [0, 1).

    Returns:
        (T,): at most the share of malignant images. Acting on no image has 0; acting on all of them has what this
        function gives for probabilities of 1.
    """
    labels, thresholds = np.asarray(labels), np.asarray(thresholds, dtype=float)
    acted = np.asarray(probabilities)[:, None] >= thresholds
    true_positives = (acted & (labels == 1)[:, None]).mean(axis=0)
    false_positives = (acted & (labels == 0)[:, None]).mean(axis=0)
    return true_positives - false_positives * thresholds / (1 - thresholds)
