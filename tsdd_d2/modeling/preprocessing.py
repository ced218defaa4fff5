"""From pixels to the image tensor, in one way for every network: moved, padded, normalised."""

from typing import Dict, List, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import move_device_like
from detectron2.structures import ImageList


class PreprocessesImages:
    """Mixed into a network that has the buffers ``pixel_mean`` and ``pixel_std`` (C, 1, 1), in 0-255; it replaces the
    ``preprocess_image`` of Detectron2's detectors.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def register_pixel_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Makes the buffers of a network that is no detector of Detectron2; as theirs, they are in no checkpoint."""
        self.register_buffer("pixel_mean", torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(std).view(-1, 1, 1), False)

    @property
    def size_divisibility(self) -> int:
        """The sides of the image tensor are multiples of it; 0: they are those of the largest image."""
        return self.backbone.size_divisibility

    def preprocess_image(self, batched_inputs: List[Dict[str, Tensor]]) -> ImageList:
        """Pads, batches and normalises the images, in the memory format of the weights; the padding is zero.

        Detectron2 normalises each image and pads after it; here bytes are padded, and floats are written once.
        """
        padded = ImageList.from_tensors(
            [move_device_like(x["image"], self.pixel_mean) for x in batched_inputs],
            self.size_divisibility,
            padding_constraints=self.backbone.padding_constraints if hasattr(self, "backbone") else None,
        )
        normalised = torch.zeros_like(padded.tensor, dtype=self.pixel_mean.dtype)
        for x, image, (height, width) in zip(padded.tensor, normalised, padded.image_sizes):
            image = image[:, :height, :width]
            torch.sub(x[:, :height, :width], self.pixel_mean, out=image).div_(self.pixel_std)
        return ImageList(normalised.contiguous(memory_format=torch.channels_last), padded.image_sizes)

    def preprocess_tensor(self, images: Tensor) -> ImageList:
        """The same of (N, C, H, W) images of one size, without loops and writing in place, for export."""
        normalised = (images.float() - self.pixel_mean) / self.pixel_std
        padded = pad_to_multiple(normalised, max(1, self.size_divisibility))
        return ImageList(padded, [tuple(images.shape[-2:])] * len(images))


def pad_to_multiple(images: Tensor, divisor: int) -> Tensor:
    """Zeros below and to the right of (N, C, H, W) until ``divisor`` divides H and W, as ``ImageList`` does."""
    height, width = images.shape[-2:]
    # The sum is divided, not -height % divisor taken: the exporter can follow the sizes of the features then.
    bottom, right = ((side + divisor - 1) // divisor * divisor - side for side in (height, width))
    return F.pad(images, (0, right, 0, bottom))
