"""Whether the class score knows which box fits, the assumption of candidate selection (paper III.B)."""

from typing import Dict, List

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

# A probability this close to 0 or 1 counts as saturated.
SATURATION = 0.01


def candidate_quality(scores: List[Tensor], overlaps: List[Tensor]) -> Dict[str, float]:
    """
    Args:
        scores: of each image (Ki,), Ki > 0, C-Net's probabilities of the true class for D-Net's candidates, best-ranked first.
        overlaps: of each image (Ki,) their IoU with the true box.
    Returns:
        mean over the images of the IoU of D-Net's first candidate ("iou_first"), of the one with the highest score
        ("iou_guided") and of the best one ("iou_best"), and of Kendall's tau-b between scores and IoUs
        ("rank_correlation"), which is missing if no image has candidates that differ; and the share of all scores within
        :data:`SATURATION` of 0 or 1 ("saturated").
    """
    all_scores = torch.cat(scores)
    figures = {
        "saturated": float(((all_scores - 0.5).abs() >= 0.5 - SATURATION).double().mean()),
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


def replacement(
    current_scores: Tensor, current_overlaps: Tensor, scores: Tensor, overlaps: Tensor, margin: float
) -> Dict[str, float]:
    """
    What candidate selection would do to N ROIs if a challenger had to score higher by more than a margin; 0 is the
    paper's rule.

    Args:
        current_scores, scores: (N,) C-Net's probability of the true class, of the ROI and of its challenger.
        current_overlaps, overlaps: (N,) their IoU with the true box.
    Returns:
        the share of ROIs that are replaced ("replaced"), the share of these whose challenger fits better ("improved", nan
        without any), and the mean IoU of all ROIs before and after ("iou_before", "iou_after").
    """
    replaced = scores > current_scores + margin
    return {
        "replaced": float(replaced.double().mean()),
        "improved": float((overlaps > current_overlaps)[replaced].double().mean()),
        "iou_before": float(current_overlaps.mean()),
        "iou_after": float(torch.where(replaced, overlaps, current_overlaps).mean()),
    }
