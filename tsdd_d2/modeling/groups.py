"""The two groups of training images (paper III.B): fully (fa) and partially annotated (pa)."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from detectron2.utils import comm


def partially_annotated_images(batched_inputs: List[Dict], device: torch.device) -> Tensor:
    """(N,) bool from the entry ``partially_annotated`` of each image; without the entry: fully annotated.

    The group is the image's: it stays what it is where the augmentation moved the ROIs out of view.
    """
    return torch.tensor([x.get("partially_annotated", False) for x in batched_inputs], device=device)


def group_sizes(is_pa: Tensor) -> Tuple[Tensor, Tensor]:
    """What L(fa) and L(pa) are divided by: the number of the members of each, at least 1.

    In training on several processes it is the mean over them: DistributedDataParallel averages their gradients, which
    are then those of one process with the whole minibatch.

    Args:
        is_pa: (M,) bool, of this process.
    """
    return _group_size(~is_pa), _group_size(is_pa)


def _group_size(members: Tensor) -> Tensor:
    processes = comm.get_world_size()
    if processes == 1:
        return members.sum().clamp(min=1)
    total = members.sum().float()
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / processes


def fa_and_pa_terms(
    name: str, losses: Tensor, is_pa: Tensor, weight: float, sizes: Optional[Tuple[Tensor, Tensor]] = None
) -> Dict[str, Tensor]:
    """L(fa) + weight L(pa) as in Eq. (1) and (3), each half averaged over its own members, as two entries.

    Args:
        losses: (M,) one loss for each anchor, image or ROI.
        is_pa: (M,) bool.
        sizes: what each half is divided by in place of its :func:`group_sizes`.
    Returns:
        ``{name}_fa`` and ``{name}_pa``, the latter weighted; zero for a half without members. On several processes their
        mean over the processes is that.
    """
    fa_size, pa_size = sizes or group_sizes(is_pa)
    return {
        f"{name}_fa": (losses * ~is_pa).sum() / fa_size,
        f"{name}_pa": weight * (losses * is_pa).sum() / pa_size,
    }
