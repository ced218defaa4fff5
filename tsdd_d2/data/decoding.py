"""Decoding of image files for the loaders."""

import mmap
import multiprocessing
from typing import Dict, Iterable

import numpy as np

from detectron2.data.detection_utils import read_image

__all__ = ["DecodedImages", "read_pixels"]


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


class DecodedImages:
    """:func:`read_pixels` that decodes each grey image once, for this process and all that are forked from it.

    A loader's worker lives for one round only; what it decoded stays here, in one anonymous mapping that the forked
    processes share. A page of it takes memory when it is first written. Images of colour are decoded every time.
    """

    def __init__(self, dataset_dicts: Iterable[Dict], max_bytes: int):
        """
        Args:
            dataset_dicts: the images to keep, with ``file_name``, ``height`` and ``width``.
            max_bytes: if all of them, at one byte a pixel, take more, none is kept.
        """
        shapes = {x["file_name"]: (x["height"], x["width"], 1) for x in dataset_dicts}
        ends = np.cumsum([height * width for height, width, _ in shapes.values()], dtype=int)
        if len(ends) and ends[-1] > max_bytes:
            shapes, ends = {}, ends[:0]
        memory = np.split(_shared_bytes(ends[-1] if len(ends) else 0), ends[:-1])
        self._kept = {
            name: (i, pixels.reshape(shape)) for i, ((name, shape), pixels) in enumerate(zip(shapes.items(), memory))
        }
        self._is_decoded = _shared_bytes(len(shapes))
        # other processes see the mark of an image after its pixels
        self._lock = multiprocessing.Lock()

    def __call__(self, file_name: str, image_format: str) -> np.ndarray:
        """See :func:`read_pixels`; the array must not be written to."""
        if file_name not in self._kept:
            return read_pixels(file_name, image_format)
        i, kept = self._kept[file_name]
        with self._lock:
            is_decoded = self._is_decoded[i]
        if is_decoded:
            return kept
        pixels = read_pixels(file_name, image_format)
        if pixels.shape == kept.shape:
            kept[:] = pixels
            with self._lock:
                self._is_decoded[i] = 1
        return pixels

    def __reduce__(self):
        # a process that is spawned, not forked, decodes for itself
        return DecodedImages, ([], 0)


def _shared_bytes(size: int) -> np.ndarray:
    """(size,) uint8 zeros that forked processes share; not in /dev/shm, which containers keep small."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=np.uint8)[:size]
