"""The two groups of training images (paper III.B): fully (fa) and partially annotated (pa)."""

from typing import Dict, List

import torch
from torch import Tensor


def partially_annotated_images(batched_inputs: List[Dict], device: torch.device) -> Tensor:
    """(N,) bool from the entry ``partially_annotated`` of each image; without the entry: fully annotated.

    The group is the image's: it stays what it is where the augmentation moved the ROIs out of view.
    """
    return torch.tensor([x.get("partially_annotated", False) for x in batched_inputs], device=device)


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
