"""Whether the class score knows which box fits, the assumption of candidate selection (paper III.B)."""

from typing import Dict, List

import numpy as np
from scipy.stats import kendalltau
from torch import Tensor


def candidate_quality(scores: List[Tensor], overlaps: List[Tensor]) -> Dict[str, float]:
    """
    Args:
        scores: of each image (Ki,) C-Net's probabilities of the true class for D-Net's candidates, best-ranked first.
        overlaps: of each image (Ki,) their IoU with the true box.
    Returns:
        mean over the images of the IoU of D-Net's first candidate ("iou_first"), of the one with the highest score
        ("iou_guided") and of the best one ("iou_best"), and of Kendall's tau-b between scores and IoUs
        ("rank_correlation"), which is missing if no image has candidates that differ.
    """
    figures = {
        "iou_first": float(np.mean([float(o[0]) for o in overlaps])),
        "iou_guided": float(np.mean([float(o[s.argmax()]) for s, o in zip(scores, overlaps)])),
        "iou_best": float(np.mean([float(o.max()) for o in overlaps])),
    }
    correlations = [kendalltau(s, o).statistic for s, o in zip(scores, overlaps) if len(s) > 1]
    correlations = [c for c in correlations if not np.isnan(c)]
    if correlations:
        figures["rank_correlation"] = float(np.mean(correlations))
    return figures


def incumbent_advantage(incumbent: Tensor, challenger: Tensor) -> float:
    """How often the incumbent is at least as good: a share of the (N,) pairs."""
    return float((incumbent >= challenger).double().mean())
