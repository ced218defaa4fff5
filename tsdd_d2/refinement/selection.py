"""The selection rules of the candidate selection mechanism (paper III.B, Fig. 4): which ROIs a round replaces.

A rule is a pure function from :class:`ROISlots` to :class:`Selection`. :data:`SELECTION_RULE_REGISTRY` holds, by the name
in ``REFINEMENT.RULE``, the functions that make one from a configuration, so that a rule may have keys of its own. They
are also called before a training, and raise InputError for a value that cannot be::

    name(cfg) -> rule
"""

from functools import partial
from typing import Callable, NamedTuple

import torch
from torch import Tensor

from detectron2.utils.registry import Registry

from ..errors import InputError
from ..modeling.boxes import elementwise_iou, enlarge_boxes, mean_boxes

SELECTION_RULE_REGISTRY = Registry("SELECTION_RULE")
SELECTION_RULE_REGISTRY.__doc__ = "From a configuration to its selection rule; see :mod:`tsdd_d2.refinement.selection`."


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
    """What a rule decides; :func:`decide` sees to it that locked ROIs stay.

    Attributes:
        replaced: (N,) bool, a new ROI takes the place.
        boxes: (N, 4) the new ROIs, which are clipped to their images later; ignored where nothing is replaced.
        scores: (N,) their class scores, likewise.
    """

    boxes: Tensor
    scores: Tensor
    replaced: Tensor


SelectionRule = Callable[[ROISlots], Selection]


def build_selection_rule(cfg) -> SelectionRule:
    """The rule of a configuration; KeyError names an unknown one."""
    return SELECTION_RULE_REGISTRY.get(cfg.REFINEMENT.RULE)(cfg)


def decide(rule: SelectionRule, slots: ROISlots) -> Selection:
    """The selection of a rule without locked places and boxes that do not exist, and with what stays where nothing is
    replaced.

    Raises:
        InputError: what the rule returns is no :class:`Selection` of these places.
    """
    selection = rule(slots)
    expected = [slots.current_boxes.shape, slots.current_scores.shape, slots.locked.shape]
    if (
        not isinstance(selection, Selection)
        or [x.shape for x in selection] != expected
        or selection.replaced.dtype != torch.bool
    ):
        raise InputError(
            f"The selection rule (REFINEMENT.RULE) must return a Selection of boxes (N, 4), scores (N,) and replaced (N,) bool, "
            f"see tsdd_d2/refinement/selection.py; for {len(slots.locked)} places it returned {selection}."
        )
    replaced = selection.replaced & ~slots.locked & selection.scores.isfinite()
    return Selection(
        torch.where(replaced[:, None], selection.boxes, slots.current_boxes),
        torch.where(replaced, selection.scores, slots.current_scores),
        replaced,
    )


def check_rule(rule: SelectionRule) -> None:
    """Raises InputError if a rule does not return what it must, of two places with two candidates each."""
    current, candidates = torch.tensor([[10.0, 10, 50, 50]] * 2), torch.tensor([[[12.0, 12, 52, 52], [20, 20, 60, 60]]] * 2)
    manual = torch.tensor([[10.0, 10, 50, 50], [torch.nan] * 4])
    decide(
        rule, ROISlots(current, torch.full((2,), 0.5), candidates, torch.full((2, 2), 0.6), torch.zeros(2).bool(), manual)
    )


def select_rois(slots: ROISlots, min_iou_with_manual: float = 0.0) -> Selection:
    """Class-guided candidate selection: "the ROI with high score will replace the previous one with low score".

    The best candidate replaces the current ROI if its score is strictly higher; an image without a ROI takes the
    best candidate.

    Args:
        min_iou_with_manual: candidates that overlap the manual ROI less are out.
    """
    drift_allowed = elementwise_iou(slots.candidate_boxes, slots.manual_boxes[:, None]) >= min_iou_with_manual
    drift_allowed |= slots.manual_boxes.isnan().any(dim=1)[:, None]
    best_scores, best = slots.candidate_scores.masked_fill(~drift_allowed, -torch.inf).max(dim=1)
    best_boxes = slots.candidate_boxes[torch.arange(len(best)), best]
    return Selection(best_boxes, best_scores, best_scores > slots.current_scores)


@SELECTION_RULE_REGISTRY.register()
def class_guided(cfg) -> SelectionRule:
    """The paper's candidate selection, :func:`select_rois`, with the bound ``REFINEMENT.MIN_IOU_WITH_MANUAL``."""
    return partial(select_rois, min_iou_with_manual=cfg.REFINEMENT.MIN_IOU_WITH_MANUAL)


def pseudo_label_rois(slots: ROISlots) -> Selection:
    """No candidate selection (TSDDNet-B, paper IV.B): manual ROIs stay, the others follow D-Net's first box.

    The class scores decide nothing.
    """
    return Selection(slots.candidate_boxes[:, 0], slots.candidate_scores[:, 0], slots.manual_boxes.isnan().any(dim=1))


@SELECTION_RULE_REGISTRY.register()
def pseudo_label(cfg) -> SelectionRule:
    """:func:`pseudo_label_rois`, which has no keys."""
    return pseudo_label_rois


# A box of D-Net's that overlaps a manual ROI less (IoU) shows something else.
SAME_LESION = 0.3
# One that overlaps a manual ROI at least this much (IoU) says nothing against it: so well D-Net finds boxes drawn with care.
SAME_BOX = 0.8


def averaged_rois(slots: ROISlots, weight_of_dnet: float) -> Selection:
    """Not the paper's: the mean of the manual ROI and D-Net's first box, whose errors are independent where manual ROIs are
    coarse, since D-Net has averaged over those of all images. An image without a manual ROI takes D-Net's first box.

    Before, D-Net's boxes are scaled to be as large as the manual ROIs in the geometric mean over all images. The class scores
    decide nothing; a new ROI has that of D-Net's box. A ROI stays where D-Net's box overlaps the manual one by less than
    :data:`SAME_LESION`, and is the manual one where it then overlaps it by :data:`SAME_BOX`.

    Args:
        weight_of_dnet: in [0, 1], see :func:`~tsdd_d2.modeling.boxes.mean_boxes`.
    """
    first = slots.candidate_boxes[:, 0]
    available = slots.candidate_scores[:, 0] > -torch.inf
    is_pa = slots.manual_boxes.isnan().any(dim=1)
    near = elementwise_iou(first, slots.manual_boxes) >= SAME_LESION  # never of a NaN
    if (both := near & available).any():
        ratios = (slots.manual_boxes[both, 2:] - slots.manual_boxes[both, :2]) / (first[both, 2:] - first[both, :2])
        first = enlarge_boxes(first, ratios.log().mean().exp())
    agrees = elementwise_iou(first, slots.manual_boxes) >= SAME_BOX
    means = mean_boxes(slots.manual_boxes, first, weight_of_dnet)
    boxes = torch.where(is_pa[:, None], first, torch.where(agrees[:, None], slots.manual_boxes, means))
    return Selection(boxes, slots.candidate_scores[:, 0], is_pa | near & (boxes != slots.current_boxes).any(dim=1))


@SELECTION_RULE_REGISTRY.register()
def averaged(cfg) -> SelectionRule:
    """:func:`averaged_rois` with ``REFINEMENT.WEIGHT_OF_DNET``."""
    return partial(averaged_rois, weight_of_dnet=cfg.REFINEMENT.WEIGHT_OF_DNET)
