"""The two groups of training images (paper III.B): fully (fa) and partially annotated (pa)."""

from typing import List

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
