"""The selection rule of the candidate selection mechanism (paper III.B, Fig. 4), as pure functions."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..modeling.dnet import elementwise_iou


class Selection(NamedTuple):
    """boxes: (N, 4) the new ROIs; scores: (N,) their class scores; replaced: (N,) bool, the candidate won."""

    boxes: Tensor
    scores: Tensor
    replaced: Tensor


def select_rois(
    current_boxes: Tensor,
    current_scores: Tensor,
    candidate_boxes: Tensor,
    candidate_scores: Tensor,
    locked: Tensor,
    manual_boxes: Tensor,
    min_iou_with_manual: float = 0.0,
) -> Selection:
    """Class-guided candidate selection: "the ROI with high score will replace the previous one with low score".

    N ROIs at once, K candidates each. The score of a box is C-Net's probability of the image's *true* class. The
    best candidate replaces the current ROI if its score is strictly higher; an image without a ROI takes the best
    candidate.

    Args:
        current_boxes: (N, 4) absolute XYXY; ignored where ``current_scores`` is -inf.
        current_scores: (N,) in [0, 1], -inf where there is no ROI yet.
        candidate_boxes: (N, K, 4) absolute XYXY.
        candidate_scores: (N, K) in [0, 1], -inf where there is no such candidate.
        locked: (N,) bool, ROIs that are never replaced.
        manual_boxes: (N, 4) the manual ROI, NaN where nobody drew one.
        min_iou_with_manual: candidates that overlap the manual ROI less are out.
    """
    drift_allowed = elementwise_iou(candidate_boxes, manual_boxes[:, None]) >= min_iou_with_manual
    drift_allowed |= manual_boxes.isnan().any(dim=1)[:, None]
    eligible = candidate_scores.masked_fill(~drift_allowed | locked[:, None], -torch.inf)
    best_scores, best = eligible.max(dim=1)
    best_boxes = candidate_boxes[torch.arange(len(best)), best]
    replaced = best_scores > current_scores
    return Selection(
        torch.where(replaced[:, None], best_boxes, current_boxes),
        torch.where(replaced, best_scores, current_scores),
        replaced,
    )


def pseudo_label_rois(
    current_boxes: Tensor,
    current_scores: Tensor,
    candidate_boxes: Tensor,
    candidate_scores: Tensor,
    locked: Tensor,
    manual_boxes: Tensor,
    min_iou_with_manual: float = 0.0,
) -> Selection:
    """No candidate selection (TSDDNet-B, paper IV.B): manual ROIs stay, the others follow D-Net's first box.

    Arguments as in :func:`select_rois`; the class scores decide nothing.
    """
    available = candidate_scores[:, 0] > -torch.inf
    replaced = manual_boxes.isnan().any(dim=1) & available & ~locked
    return Selection(
        torch.where(replaced[:, None], candidate_boxes[:, 0], current_boxes),
        torch.where(replaced, candidate_scores[:, 0], current_scores),
        replaced,
    )


SELECTION_RULES = {"class_guided": select_rois, "pseudo_label": pseudo_label_rois}
