"""Averages of pixels."""

from torch import Tensor
from torch.nn import functional as F


def average_pool(images: Tensor, stride: int) -> Tensor:
    """``F.avg_pool2d(images, stride)``: (N, C, H, W) -> (N, C, H / stride, W / stride); the stride divides both."""
    if stride == 2:
        # bilinear sampling in the middle of four pixels is their mean; on a CPU its kernel is several times as fast
        return F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False)
    return F.avg_pool2d(images, stride)
