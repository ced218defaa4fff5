"""Decoding of image files for the loaders."""

import numpy as np

from detectron2.data.detection_utils import read_image


def read_pixels(file_name: str, image_format: str) -> np.ndarray:
    """Detectron2's ``read_image``, with one channel where all three are equal.

    B-mode images are grey, in files of colour too: one channel costs a third in everything that follows.

    Args:
        image_format: "RGB" or "BGR".
    Returns:
        (H, W, 1) uint8 of a grey image, (H, W, 3) of any other.
    """
    pixels = read_image(file_name, image_format)
    first, second, third = np.moveaxis(pixels, 2, 0)
    if np.array_equal(first, second) and np.array_equal(first, third):
        return np.ascontiguousarray(first)[:, :, None]
    return pixels
