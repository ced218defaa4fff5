"""The two groups of training images (paper III.B): fully (fa) and partially annotated (pa)."""

from typing import Dict, List

import torch
from torch import Tensor

from detectron2.structures import Instances


def partially_annotated_images(gt_instances: List[Instances]) -> Tensor:
    """(N,) bool from the field ``partially_annotated`` of each image's ROIs; without the field: fully annotated."""
    return torch.stack(
        [
            x.partially_annotated.any()
            if x.has("partially_annotated")
            else torch.zeros((), dtype=torch.bool, device=x.gt_boxes.device)
            for x in gt_instances
        ]
    )


def fa_and_pa_terms(name: str, losses: Tensor, is_pa: Tensor, weight: float) -> Dict[str, Tensor]:
    """L(fa) + weight L(pa), each half averaged over its own members, as two entries.

    Args:
        losses: (M,) one loss for each image or ROI.
        is_pa: (M,) bool.
    Returns:
        ``{name}_fa`` and ``{name}_pa``, the latter weighted; zero for a half without members.
    """
    return {
        f"{name}_{group}": factor * (losses * in_group).sum() / in_group.sum().clamp(min=1)
        for group, in_group, factor in (("fa", ~is_pa, 1.0), ("pa", is_pa, weight))
    }
