"""
The sizes of images, and what tells equal ones, read by decoding them: what cannot be decoded shows before training, not
during it.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

from detectron2.data.transforms import ResizeShortestEdge

from ..errors import BBUIError
from .decoding import decode_image

__all__ = ["DecodedImage", "decode_image_files", "is_too_narrow", "read_image_sizes"]


class DecodedImage(NamedTuple):
    """
    Attributes:
        size: (height, width) in pixels, upright.
        digest: of the pixels; only images with the same pixels have the same.
        turned: see :class:`~tsdd_d2.data.decoding.DecodedFile`.
    """

    size: Tuple[int, int]
    digest: bytes
    turned: bool = False


def read_image_sizes(image_root: Union[str, os.PathLike], file_names: Sequence[str]) -> List[Tuple[int, int]]:
    """
    The (height, width) in pixels of every image, decoded as the data loader does.

    Raises:
        BBUIError: naming all images that are missing, empty, damaged, of more than 8 bits or of several pages.
    """
    images = decode_image_files([os.path.join(image_root, file_name) for file_name in file_names])
    problems = [str(image) for image in images if isinstance(image, BBUIError)]
    if problems:
        raise BBUIError(f"Images below {os.fspath(image_root)} that cannot be used:", problems)
    return [image.size for image in images]


def decode_image_files(paths: Sequence[str]) -> List[Union[DecodedImage, BBUIError]]:
    """Size and digest of each image, or the error that says why it cannot be used."""
    # Threads are enough: the decoders release the GIL.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        # Shown on a terminal only, and not if all is done within a second.
        progress = tqdm(total=len(paths), desc="Decoding images", unit="image", delay=1, disable=None)
        images = []
        for image in pool.map(_decode, paths):
            images.append(image)
            progress.update()
        progress.close()
    return images


def is_too_narrow(height: int, width: int, min_size: int, max_size: int) -> bool:
    """Whether no pixel is left of an image's shorter side where Detectron2's ``ResizeShortestEdge`` reduces the longer one
    to ``max_size``; a ``min_size`` of 0 switches the resizing off."""
    return min_size > 0 and min(ResizeShortestEdge.get_output_shape(height, width, min_size, max_size)) == 0


def _decode(path: str) -> Union[DecodedImage, BBUIError]:
    try:
        decoded = decode_image(path)
    except BBUIError as error:
        return error
    height, width = decoded.pixels.shape[:2]
    digest = hashlib.sha256(f"{height}x{width} ".encode())
    digest.update(np.ascontiguousarray(decoded.pixels))
    return DecodedImage((height, width), digest.digest(), decoded.turned)
