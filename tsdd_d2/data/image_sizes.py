"""
The sizes of images, and what tells equal ones, read by decoding them: what cannot be decoded shows before training, not
during it.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import ResizeShortestEdge
from PIL import Image
from tqdm import tqdm

from ..errors import BBUIError

__all__ = ["DecodedImage", "decode_image_files", "is_too_narrow", "reason_against", "read_image_sizes"]


class DecodedImage(NamedTuple):
    """
    Attributes:
        size: (height, width) in pixels.
        digest: of the pixels; only images with the same pixels have the same.
    """

    size: Tuple[int, int]
    digest: bytes


def read_image_sizes(
    image_root: Union[str, os.PathLike], file_names: Sequence[str]
) -> List[Tuple[int, int]]:
    """
    The (height, width) in pixels of every image, decoded as the data loader does (EXIF orientation applied).

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


def reason_against(image: Image.Image) -> Optional[str]:
    """Why an image of which the header was read, and nothing else, must not be used though it can be decoded, or None.

    Of more than 8 bits Pillow cuts grey values at 255 and keeps the upper 8 bits of colours; of several pages it reads the
    first.
    """
    arguments = image.tile[0].args if image.format in ("PNG", "TIFF") else image.mode  # of the decoder
    raw_mode = arguments if isinstance(arguments, str) else arguments[0]
    if image.mode.startswith(("I", "F")) or ";16" in raw_mode:
        return f"has pixels of more than 8 bits (Pillow's mode {raw_mode}); convert it to 8 bits"
    # PNG and WebP may be animated; not a JPEG, which may hold a preview of itself
    pages = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "TIFF", "WEBP") else 1
    return f"has {pages} pages; save each as a file" if pages > 1 else None


def _decode(path: str) -> Union[DecodedImage, BBUIError]:
    if not os.path.isfile(path):
        return BBUIError(f"the file {path} does not exist")
    if os.path.getsize(path) == 0:
        return BBUIError(f"the file {path} is empty")
    try:
        with Image.open(path) as image:  # reads the header alone
            against = reason_against(image)
        # What Detectron2's mapper calls: OpenCV, for one, would accept a truncated PNG.
        pixels = read_image(path, format="BGR")
    except Exception as error:  # a decoder may raise anything on a damaged file
        return BBUIError(f"the file {path} cannot be decoded: {type(error).__name__}: {error}")
    if against:
        return BBUIError(f"the file {path} {against}")
    height, width = pixels.shape[:2]
    if height == 0 or width == 0:
        return BBUIError(f"the file {path} holds an image of {width}x{height} pixels")
    digest = hashlib.sha256(f"{height}x{width} ".encode())
    digest.update(np.ascontiguousarray(pixels))
    return DecodedImage((height, width), digest.digest())
