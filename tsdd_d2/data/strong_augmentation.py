"""Strong augmentation of the semi-supervised methods, as augmentations of Detectron2: they draw from numpy's generator.

Images are (H, W, C) uint8 of one channel or three; what only changes colours leaves a grey image as it is.
"""

from typing import Callable, Tuple

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from detectron2.data import transforms as T


def photometric(change: Callable[[torch.Tensor], torch.Tensor]) -> T.Transform:
    """A change of pixels that moves none; ``change`` takes and returns (C, H, W) uint8."""

    def of_image(image: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
        return change(tensor).permute(1, 2, 0).numpy()

    return T.ColorTransform(of_image)


class ColourJitter(T.Augmentation):
    """Brightness, contrast, saturation and hue by random factors, in random order, as torchvision's ``ColorJitter``."""

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        """
        Args:
            brightness, contrast, saturation: factors are in [1 - x, 1 + x].
            hue: the hue moves by at most this share of the circle.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        strengths = self.brightness, self.contrast, self.saturation
        factors = [np.random.uniform(1 - x, 1 + x) for x in strengths] + [np.random.uniform(-self.hue, self.hue)]
        changes = F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue
        order = np.random.permutation(len(changes))

        def jitter(x):
            for i in order:
                x = changes[i](x, factors[i])
            return x

        return photometric(jitter)


class Grey(T.Augmentation):
    """The image without its colours."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return photometric(lambda x: F.rgb_to_grayscale(x, num_output_channels=len(x)))


class Blur(T.Augmentation):
    """A Gaussian blur."""

    def __init__(self, low: float, high: float):
        """
        Args:
            low, high: the range of its standard deviation in pixels.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        sigma = np.random.uniform(self.low, self.high)
        return T.ColorTransform(lambda x: cv2.GaussianBlur(x, (0, 0), sigma).reshape(x.shape))


class Erasing(T.Augmentation):
    """A rectangle of random pixels (arXiv:1708.04896)."""

    TRIES = 10

    def __init__(self, area: Tuple[float, float], ratio: Tuple[float, float]):
        """
        Args:
            area: range of its share of the image.
            ratio: range of height by width.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        for _ in range(self.TRIES):
            area = np.random.uniform(*self.area) * height * width
            ratio = np.exp(np.random.uniform(*np.log(self.ratio)))
            h, w = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
                noise = np.random.randint(0, 256, (h, w, image.shape[2]), dtype=np.uint8)
                return T.ColorTransform(lambda pixels: _pasted(pixels, noise, y, x))
        return T.NoOpTransform()


def _pasted(image: np.ndarray, patch: np.ndarray, y: int, x: int) -> np.ndarray:
    image = image.copy()
    image[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return image
