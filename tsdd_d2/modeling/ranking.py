"""Rankings of D-Net's regressed boxes: which of them are "the candidates"?

D-Net keeps no class score (paper III.A), so nothing in the paper orders its regressed boxes. Each ranking below is
a pure function, found by name in :data:`RANKING_REGISTRY`, with the signature::

    ranking(boxes, quality_logits, anchors, image_sizes) -> scores

Shapes, here and in :mod:`tsdd_d2.modeling.dnet`: N is the number of images of a batch, R the number of anchors of one
image over all levels.

* ``boxes`` (N, R, 4): regressed boxes, absolute XYXY in the image tensor, *not clipped* to the image;
* ``quality_logits`` (N, R): the localisation-quality channel before the sigmoid, or None if D-Net has none;
* ``anchors`` (R, 4): the anchors the boxes were regressed from, absolute XYXY;
* ``image_sizes`` (N, 2): height and width of each image before padding;
* ``scores`` (N, R): in [0, 1], higher is better. A box outside the image by more than its tolerance scores 0.
"""

from typing import Optional

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detectron2.utils.registry import Registry

from .boxes import elementwise_iou

RANKING_REGISTRY = Registry("DNET_RANKING")
RANKING_REGISTRY.__doc__ = "Rankings of D-Net's regressed boxes; see :mod:`tsdd_d2.modeling.ranking`."

# A regressed box may overshoot the image border by this share of its own side and still count as inside.
BORDER_TOLERANCE = 0.1
# Two regressed boxes agree when their IoU is at least this.
AGREEMENT_IOU = 0.7
# Consensus compares at most this many voters, evenly strided over the anchors, so that its cost stays bounded on
# large images (50,000 anchors at the paper's resolution).
MAX_VOTERS = 2000
# The expected IoU is taken over, and computed for, this many boxes of the highest quality; the others weigh next to
# nothing.
MAX_QUALITY_VOTERS = 200


def needs_quality(name: str) -> bool:
    """Whether D-Net must have a localisation-quality channel for this ranking.

    A ranking that does without says so by its attribute ``needs_quality = False``.
    """
    return getattr(RANKING_REGISTRY.get(name), "needs_quality", True)


def inside_image(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """(N, R) bool: boxes of positive area that stay in the image but for :data:`BORDER_TOLERANCE` of their sides."""
    x0, y0, x1, y1 = boxes.unbind(dim=-1)
    height, width = image_sizes[:, :1], image_sizes[:, 1:]
    slack_x, slack_y = BORDER_TOLERANCE * (x1 - x0), BORDER_TOLERANCE * (y1 - y0)
    in_width = (x0 >= -slack_x) & (x1 <= width + slack_x) & (x1 - x0 > 1)
    in_height = (y0 >= -slack_y) & (y1 <= height + slack_y) & (y1 - y0 > 1)
    return in_width & in_height


@RANKING_REGISTRY.register()
def quality(boxes: Tensor, quality_logits: Optional[Tensor], anchors: Tensor, image_sizes: Tensor) -> Tensor:
    """The predicted IoU of each box with the ROI, as in IoU-aware detectors and OLN (arXiv:2108.06753)."""
    return torch.where(inside_image(boxes, image_sizes), quality_logits.sigmoid(), 0.0)


@RANKING_REGISTRY.register()
def expected_iou(boxes: Tensor, quality_logits: Optional[Tensor], anchors: Tensor, image_sizes: Tensor) -> Tensor:
    """The mean IoU of a box with the others, weighted by their quality: ``sum_j q_j IoU(i, j) / sum_j q_j``.

    The sums are over the :data:`MAX_QUALITY_VOTERS` boxes of the highest quality; every other box scores 0.

    If the qualities say where the lesion may be, this is the IoU to be expected of a box (a minimum Bayes risk
    choice). One high quality among low ones no longer decides alone.
    """
    qualities = quality(boxes, quality_logits, anchors, image_sizes)
    weights, top = qualities.topk(_at_most(MAX_QUALITY_VOTERS, qualities.shape[1]), dim=1)
    # one plane for each coordinate: three times as fast
    voters = torch.stack([x.gather(1, top) for x in boxes.unbind(dim=-1)]).movedim(0, -1)
    iou = elementwise_iou(voters[:, :, None], voters[:, None])
    # no matrix product: under autocast that would round the scores to bfloat16, and near ties decide the best box
    expected = (iou * weights[:, None]).sum(dim=-1) / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.zeros_like(qualities).scatter(1, top, expected * (weights > 0))


def _at_most(limit: int, size):
    """The minimum, for a size that torch.export sees as a symbol and the tracer of Detectron2's FLOP counter as a tensor."""
    return torch.sym_min(limit, int(size) if isinstance(size, Tensor) else size)


@RANKING_REGISTRY.register()
def consensus(boxes: Tensor, quality_logits: Optional[Tensor], anchors: Tensor, image_sizes: Tensor) -> Tensor:
    """How many regressed boxes agree with a box, over the number of *anchors* that overlap it as much.

    Anchors near a lesion all regress onto it, the others scatter. The division matters: where many anchors lie
    close together, many boxes agree although nothing pulled them there. Boxes are compared before clipping, since
    clipped boxes agree with each other at the border.
    """
    valid = inside_image(boxes, image_sizes)
    return torch.stack([_consensus_of_image(b, v, anchors) for b, v in zip(boxes, valid)])


def _consensus_of_image(boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
    """(R,) scores of the (R, 4) boxes of one image; all but the ``valid`` ones score 0."""
    step = (valid.sum().clamp(min=1) - 1).div(MAX_VOTERS, rounding_mode="floor") + 1
    # masks instead of slices: the step stays a tensor, which an exported network can compute
    candidates = (valid & ((valid.cumsum(0) - 1) % step == 0)).nonzero().flatten()
    anchors = anchors[torch.arange(anchors.shape[0], device=anchors.device) % step == 0]
    agreeing = (box_iou(boxes[candidates], boxes[candidates]) >= AGREEMENT_IOU).sum(dim=1)
    by_density = (box_iou(boxes[candidates], anchors) >= AGREEMENT_IOU).sum(dim=1)
    scores = torch.zeros_like(boxes[:, 0])
    ratio = (agreeing - 1).float() / (by_density + 1).float()  # a box agrees with itself: not counted
    scores[candidates] = ratio / (1 + ratio)  # monotone, into [0, 1)
    return scores


consensus.needs_quality = False
