"""Images from outside any data set: files and arrays, one at a time."""

import glob
import logging
import os
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Set, Tuple, Union

import numpy as np
import pydicom
from PIL import Image

from ..data.decoding import decode_image, pixels_of
from ..data.files import MASK_SUFFIX, walk
from ..errors import InputError
from .dicom import DICOM_SUFFIXES, is_dicom_file, read_dicom

__all__ = [
    "ImageSource", "InputImage", "file_stem", "find_image_files", "picture_name", "read_image_file", "read_images",
    "read_pixels",
]  # fmt: skip

logger = logging.getLogger(__name__)

ImageSource = Union[str, os.PathLike, np.ndarray, Image.Image, pydicom.Dataset]

# What is taken from a folder for an image.
IMAGE_SUFFIXES = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", *DICOM_SUFFIXES)
# What a folder may hold besides, of which no frame is read.
VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".wmv")
# A table of contents, beside the images of a DICOM medium.
DICOM_DIRECTORY = "DICOMDIR"


@dataclass(frozen=True, eq=False)
class InputImage:
    """One image, or one frame of a file.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, the whole image.
        file_name: where it comes from; None for an array, a Pillow image or a pydicom data set.
        frame: the number of the frame from 1 on, as DICOM counts; None where the file holds one image.
        region: (x0, y0, x1, y1) in pixels: the part ``pixels[y0:y1, x0:x1]`` is what the model is to see.
    """

    pixels: np.ndarray
    region: Tuple[int, int, int, int]
    file_name: Optional[str] = None
    frame: Optional[int] = None


def read_images(
    inputs: Iterable[ImageSource],
    channel_order: Optional[str] = None,
    on_error: Optional[Callable[[InputError], None]] = None,
) -> Iterator[InputImage]:
    """
    The images of the inputs, in their order, each read when it is asked for.

    Args:
        inputs: paths of image files (DICOM too), pydicom data sets, Pillow images, or uint8 arrays (H, W), (H, W, 1) or
            (H, W, 3).
        channel_order: "RGB" or "BGR", of the arrays with three channels (``cv2.imread`` gives BGR).
        on_error: if given, it is called with the error of an input that cannot be read, and the others follow;
            otherwise the error is raised.

    Raises:
        InputError: an input cannot be read; the message names the file or the place in ``inputs``.
    """
    for number, source in enumerate(inputs, start=1):
        try:
            if isinstance(source, np.ndarray):
                yield _from_array(source, channel_order, f"input {number}")
            elif isinstance(source, Image.Image):
                yield _whole(pixels_of(source, f"input {number}"))
            elif isinstance(source, pydicom.Dataset):
                for frame, pixels, region in read_dicom(f"input {number}", source):
                    yield InputImage(pixels, region, frame=frame)
            elif isinstance(source, (str, os.PathLike)):
                yield from read_image_file(os.fspath(source))
            else:
                raise InputError(
                    f"input {number}: a path, a pydicom data set, a Pillow image or a numpy array is needed, not "
                    f"{type(source).__name__}."
                )
        except InputError as error:
            if on_error is None:
                raise
            on_error(error)


def read_image_file(path: str) -> Iterator[InputImage]:
    """
    The images of one file: each frame of a DICOM file, see :func:`~tsdd_d2.inference.dicom.read_dicom`, or the one image
    of any other.

    Raises:
        InputError: the file is missing, damaged, or of a kind that is not read.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder; find_image_files lists the images in it.")
    if not os.path.isfile(path):
        raise InputError(f"{path}: the file does not exist.")
    if is_dicom_file(path):
        for frame, pixels, region in read_dicom(path):
            yield InputImage(pixels, region, path, frame)
    else:
        yield _whole(decode_image(path).pixels, path)


def read_pixels(path: str) -> np.ndarray:
    """
    Returns:
        (H, W, 3) uint8 RGB: the one image of a file, or the first of several.

    Raises:
        InputError: as of :func:`read_image_file`.
    """
    return next(read_image_file(path)).pixels


def find_image_files(patterns: Sequence[str]) -> List[str]:
    """
    The files that paths, folders and patterns such as ``"scans/*.png"`` name, each once, in their order.

    Of a folder and the folders below it, linked ones too, these are, sorted, the files whose suffix is one of an image, and
    DICOM files, without masks beside their image; what a path or a pattern names is taken whatever it is.

    Raises:
        InputError: naming all patterns without a file.
    """
    files, problems = [], []
    for pattern in patterns:
        # a name may hold brackets
        found = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        found = [file for x in found for file in (_images_below(x) if os.path.isdir(x) else [x])]
        files += found
        if not found:
            problems.append(f"{pattern}: no such file, or a folder without images.")
    if problems:
        raise InputError("\n  ".join(["There is nothing to read:", *problems]))
    first_name = {}
    for file in files:
        first_name.setdefault(os.path.abspath(file), file)
    return list(first_name.values())


def file_stem(path: str) -> str:
    """The name of an image file without folder and suffix."""
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    # a DICOM file is often named by a number with dots
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def picture_name(path: str, taken: Set[str], frame: Optional[int] = None) -> str:
    """
    A name for the picture of an image, after its file, that no other picture has, on file systems that ignore case too.
    A long name is cut.

    Args:
        taken: the names so far, in lower case; the new one is added.
    """
    stem = file_stem(path)
    while len(os.fsencode(stem)) > 220:  # a name has at most 255 bytes, also with what follows
        stem = stem[:-1]
    if frame is not None:
        stem += f"_frame{frame:04d}"
    name, number = f"{stem}.png", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}_{number}.png"
    taken.add(name.lower())
    return name


def _images_below(folder: str) -> List[str]:
    files = sorted(os.path.join(root, name) for root, names in walk(folder) for name in names)
    videos = [x for x in files if x.lower().endswith(VIDEO_SUFFIXES)]
    if videos:
        logger.warning(
            "%s: %d videos, such as %s, are left out: save their frames as images.", folder, len(videos), videos[0]
        )
    images = [x for x in files if _looks_like_image(x)]
    stem_of = {x: os.path.splitext(x)[0] for x in images}
    stems = set(stem_of.values())
    masks = [x for x, stem in stem_of.items() if MASK_SUFFIX.search(stem) and MASK_SUFFIX.sub("", stem) in stems]
    if masks:
        logger.warning("%s: %d masks beside their images, such as %s, are left out.", folder, len(masks), masks[0])
    return sorted(set(images) - set(masks))


def _looks_like_image(path: str) -> bool:
    name = os.path.basename(path)
    if name.startswith(".") or name == DICOM_DIRECTORY:
        return False
    return name.lower().endswith(IMAGE_SUFFIXES) or os.path.isfile(path) and is_dicom_file(path)


def _from_array(array: np.ndarray, channel_order: Optional[str], name: str) -> InputImage:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] == 3):
        raise InputError(
            f"{name}: an array of shape {array.shape} and type {array.dtype}; (H, W) or (H, W, 3) of uint8 is needed."
        )
    if array.ndim == 2:
        return _whole(np.stack([array] * 3, axis=2))
    if channel_order not in ("RGB", "BGR"):
        raise InputError(f"{name}: an array of three channels needs channel_order RGB or BGR, not {channel_order}.")
    return _whole(array if channel_order == "RGB" else array[:, :, ::-1])


def _whole(pixels: np.ndarray, path: Optional[str] = None) -> InputImage:
    height, width = pixels.shape[:2]
    return InputImage(pixels, (0, 0, width, height), path)
