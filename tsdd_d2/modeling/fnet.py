"""F-Net: the fusion of D-Net's and C-Net's features (paper III.C, Fig. 5).

The paper does not say how D-Net's feature levels become one vector for each box. A pooling is a pure function, found
by name in :data:`DNET_POOLING_REGISTRY`, with the signature::

    pooling(features, strides, boxes, image_sizes) -> vectors

* ``features``: L levels, each (N, C, Hi, Wi); ``strides``: the L strides in pixels of the image tensor;
* ``boxes``: N tensors (Ri, 4), absolute XYXY in the image tensor;
* ``image_sizes``: N pairs (height, width) before padding;
* ``vectors``: (sum of Ri, L * C).
"""

from typing import List

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

from .boxes import sizes_as_tensor
from .cnet import NUM_CLASSES

DNET_POOLING_REGISTRY = Registry("DNET_POOLING")
DNET_POOLING_REGISTRY.__doc__ = "Poolings of D-Net's feature levels; see :mod:`tsdd_d2.modeling.fnet`."


class FNet(nn.Module):
    """Two fully connected layers on the concatenated features of both networks; the softmax is the caller's."""

    def __init__(self, *, in_features: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, NUM_CLASSES)

    def forward(self, dnet_features: Tensor, cnet_features: Tensor) -> Tensor:
        """(R, D) and (R, C) -> (R, 2) logits, with D + C = in_features."""
        fused = torch.cat([dnet_features, cnet_features.to(dnet_features.dtype)], dim=1)
        return self.fc2(self.fc1(fused).relu())


def num_pooled_features(levels: List[ShapeSpec]) -> int:
    """L * C, the length of what a pooling returns for each box."""
    return sum(level.channels for level in levels)


def pool_rois(features: List[Tensor], strides: List[int], boxes: List[Tensor], image_sizes: List[tuple]) -> Tensor:
    """The mean of every level over the box, levels concatenated."""
    pooled = [
        # one bin with as many samples as the box has cells: the mean over the box
        roi_align(level.contiguous(), boxes, output_size=1, spatial_scale=1 / stride, aligned=True).flatten(1)
        for level, stride in zip(features, strides)
    ]
    return torch.cat(pooled, dim=1)


def pool_globally(features: List[Tensor], strides: List[int], boxes: List[Tensor], image_sizes: List[tuple]) -> Tensor:
    """The mean of every level over the image without its padding, repeated for each box, levels concatenated."""
    sizes = sizes_as_tensor(image_sizes, like=boxes[0])
    whole = torch.cat([torch.zeros_like(sizes), sizes.flip(1)], dim=1)
    pooled = pool_rois(features, strides, list(whole.split(1)), image_sizes)
    return torch.cat([vector.expand(len(b), -1) for vector, b in zip(pooled.split(1), boxes)])


# under other names than the functions have: "global" is a keyword of Python
DNET_POOLING_REGISTRY._do_register("global", pool_globally)
DNET_POOLING_REGISTRY._do_register("roi", pool_rois)
