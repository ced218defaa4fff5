"""The two groups of training images (paper III.B): fully (fa) and partially annotated (pa)."""

from typing import Dict, List

import torch
from torch import Tensor

from detectron2.utils import comm


def partially_annotated_images(batched_inputs: List[Dict], device: torch.device) -> Tensor:
    """(N,) bool from the entry ``partially_annotated`` of each image; without the entry: fully annotated.

    The group is the image's: it stays what it is where the augmentation moved the ROIs out of view.
    """
    return torch.tensor([x.get("partially_annotated", False) for x in batched_inputs], device=device)


def group_size(members: Tensor) -> Tensor:
    """What the loss of a group is divided by: the number of its members, at least 1.

    In training on several processes it is the mean over them: DistributedDataParallel averages their gradients, which
    are then those of one process with the whole minibatch.

    Args:
        members: bool, of this process.
    """
    processes = comm.get_world_size()
    if processes == 1:
        return members.sum().clamp(min=1)
    total = members.sum().float()
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / processes


def fa_and_pa_terms(name: str, losses: Tensor, is_pa: Tensor, weight: float) -> Dict[str, Tensor]:
    """L(fa) + weight L(pa), each half averaged over its own members, as two entries.

    Args:
        losses: (M,) one loss for each image or ROI.
        is_pa: (M,) bool.
    Returns:
        ``{name}_fa`` and ``{name}_pa``, the latter weighted; zero for a half without members. On several processes their
        mean over the processes is that.
    """
    return {
        f"{name}_{group}": factor * (losses * in_group).sum() / group_size(in_group)
        for group, in_group, factor in (("fa", ~is_pa, 1.0), ("pa", is_pa, weight))
    }
