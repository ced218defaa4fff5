"""Arithmetic on boxes, absolute XYXY."""

from typing import List, Tuple

import torch
from torch import Tensor
from torchvision.ops import box_convert


def elementwise_iou(boxes: Tensor, other: Tensor) -> Tensor:
    """IoU of corresponding boxes: (..., 4) and (..., 4) absolute XYXY -> (...); the shapes are broadcast."""
    x0, y0, x1, y1 = boxes.unbind(dim=-1)
    other_x0, other_y0, other_x1, other_y1 = other.unbind(dim=-1)
    width = (torch.minimum(x1, other_x1) - torch.maximum(x0, other_x0)).clamp(min=0)
    height = (torch.minimum(y1, other_y1) - torch.maximum(y0, other_y0)).clamp(min=0)
    intersection = width * height
    area = (x1 - x0).clamp(min=0) * (y1 - y0).clamp(min=0)
    other_area = (other_x1 - other_x0).clamp(min=0) * (other_y1 - other_y0).clamp(min=0)
    return intersection / (area + other_area - intersection).clamp(min=1e-6)


def mean_boxes(boxes: Tensor, other: Tensor, weight_of_other) -> Tensor:
    """Weighted mean of corresponding boxes, (N, 4) absolute XYXY each: the arithmetic one of the centres and the geometric
    one of the sides.

    Args:
        weight_of_other: in [0, 1]; a number, or (N, 1).
    """
    # without box_convert: on a CPU powers of its strided sides have another last digit
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    other_centres, other_sides = (other[:, :2] + other[:, 2:]) / 2, other[:, 2:] - other[:, :2]
    centres = centres + weight_of_other * (other_centres - centres)
    half_sides = sides ** (1 - weight_of_other) * other_sides**weight_of_other / 2
    return torch.cat([centres - half_sides, centres + half_sides], dim=1)


def enlarge_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Scales (R, 4) XYXY boxes about their centres."""
    if factor == 1.0:
        return boxes
    centres, sides = box_convert(boxes, "xyxy", "cxcywh").split(2, dim=1)
    return box_convert(torch.cat([centres, sides * factor], dim=1), "cxcywh", "xyxy")


def square_boxes(boxes: Tensor) -> Tensor:
    """(R, 4) XYXY boxes -> squares about their centres with the longer of their sides."""
    centres, sides = box_convert(boxes, "xyxy", "cxcywh").split(2, dim=1)
    sides = sides.amax(dim=1, keepdim=True).expand_as(centres)
    return box_convert(torch.cat([centres, sides], dim=1), "cxcywh", "xyxy")


def jitter_boxes(boxes: Tensor, amount: float) -> Tensor:
    """Moves each side of (R, 4) XYXY boxes by a uniform share in [-amount, amount] of the box's width or height."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + (torch.rand_like(boxes) * 2 - 1) * amount * sides


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Clips (N, K, 4) boxes of N images to these; image_sizes: (N, 2), height and width."""
    limit = image_sizes.flip(1).repeat(1, 2)[:, None].to(boxes)
    return boxes.clamp(min=0).minimum(limit)


def sizes_as_tensor(image_sizes: List[Tuple[int, int]], like: Tensor) -> Tensor:
    """N pairs (height, width) -> (N, 2), of the type and on the device of ``like``."""
    # torch.tensor(image_sizes) would write the size of one image into an exported network
    return torch.stack([torch.stack([like.new_full((), side) for side in size]) for size in image_sizes])
