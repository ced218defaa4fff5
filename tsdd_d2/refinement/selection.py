"""The selection rule of the candidate selection mechanism (paper III.B, Fig. 4), as pure functions."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..modeling.boxes import elementwise_iou


class ROISlots(NamedTuple):
    """What a selection rule decides on: N places of a ROI at once, K candidates for each.

    A place is a ROI or an image without any. The score of a box is C-Net's probability of the image's *true*
    class.

    Attributes:
        current_boxes: (N, 4) absolute XYXY; ignored where ``current_scores`` is -inf.
        current_scores: (N,) in [0, 1], -inf where there is no ROI yet.
        candidate_boxes: (N, K, 4) absolute XYXY, in D-Net's order.
        candidate_scores: (N, K) in [0, 1], -inf where there is no such candidate.
        locked: (N,) bool, ROIs that are never replaced, and images that are never given one.
        manual_boxes: (N, 4) the manual ROI, NaN where nobody drew one.
    """

    current_boxes: Tensor
    current_scores: Tensor
    candidate_boxes: Tensor
    candidate_scores: Tensor
    locked: Tensor
    manual_boxes: Tensor


class Selection(NamedTuple):
    """boxes: (N, 4) the new ROIs; scores: (N,) their class scores; replaced: (N,) bool, the candidate won."""

    boxes: Tensor
    scores: Tensor
    replaced: Tensor


def select_rois(slots: ROISlots, min_iou_with_manual: float = 0.0) -> Selection:
    """Class-guided candidate selection: "the ROI with high score will replace the previous one with low score".

    The best candidate replaces the current ROI if its score is strictly higher; an image without a ROI takes the
    best candidate.

    Args:
        min_iou_with_manual: candidates that overlap the manual ROI less are out.
    """
    drift_allowed = elementwise_iou(slots.candidate_boxes, slots.manual_boxes[:, None]) >= min_iou_with_manual
    drift_allowed |= slots.manual_boxes.isnan().any(dim=1)[:, None]
    eligible = slots.candidate_scores.masked_fill(~drift_allowed | slots.locked[:, None], -torch.inf)
    best_scores, best = eligible.max(dim=1)
    best_boxes = slots.candidate_boxes[torch.arange(len(best)), best]
    replaced = best_scores > slots.current_scores
    return Selection(
        torch.where(replaced[:, None], best_boxes, slots.current_boxes),
        torch.where(replaced, best_scores, slots.current_scores),
        replaced,
    )


def pseudo_label_rois(slots: ROISlots, min_iou_with_manual: float = 0.0) -> Selection:
    """No candidate selection (TSDDNet-B, paper IV.B): manual ROIs stay, the others follow D-Net's first box.

    The class scores decide nothing, and neither does ``min_iou_with_manual``.
    """
    available = slots.candidate_scores[:, 0] > -torch.inf
    replaced = slots.manual_boxes.isnan().any(dim=1) & available & ~slots.locked
    return Selection(
        torch.where(replaced[:, None], slots.candidate_boxes[:, 0], slots.current_boxes),
        torch.where(replaced, slots.candidate_scores[:, 0], slots.current_scores),
        replaced,
    )


SELECTION_RULES = {"class_guided": select_rois, "pseudo_label": pseudo_label_rois}
