"""The one way from an image file to pixels: for training, rounds, validation, prediction and pictures."""

import io
import mmap
import multiprocessing
import os
import zlib
from typing import Dict, Iterable, NamedTuple, Optional

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import BBUIError

__all__ = ["DecodedFile", "DecodedImages", "decode_image", "in_format", "pixels_of", "read_pixels", "transparencies"]

# EXIF and TIFF: https://www.exiv2.org/tags.html
ORIENTATION = 274
UPRIGHT = 1


class DecodedFile(NamedTuple):
    """
    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright.
        turned: whether an orientation tag says that the file holds them turned or mirrored.
    """

    pixels: np.ndarray
    turned: bool


def decode_image(path: str) -> DecodedFile:
    """
    Decodes an image file, upright as a viewer shows it, whatever its format.

    What a format can tell of damage is asked for: checksums of PNG and of deflated TIFF, the order of a JPEG's codes,
    the length of all of them. BMP, WebP and other TIFF files have no checksum: there a changed byte is another pixel.

    Raises:
        BBUIError: naming the file, which is missing, empty, damaged, of more than 8 bits, or of several pages.
    """
    if not os.path.isfile(path):
        raise BBUIError(f"the file {path} does not exist")
    try:
        with open(path, "rb") as file:
            content = file.read()
        if content:
            return _decode(content)
    except _Refused as error:
        raise BBUIError(f"the file {path} {error}") from error
    except UnidentifiedImageError as error:
        raise BBUIError(f"the file {path} cannot be decoded: it is no image, or its beginning is damaged") from error
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise BBUIError(f"the file {path} cannot be decoded: {type(error).__name__}: {error}") from error
    raise BBUIError(f"the file {path} is empty")


def read_pixels(file_name: str, image_format: str) -> np.ndarray:
    """:func:`decode_image`, with one channel where all three are equal.

    B-mode images are grey, in files of colour too: one channel costs a third in everything that follows.

    Args:
        image_format: "L" (grey), "RGB" or "BGR".
    Returns:
        (H, W, 1) uint8 of a grey image and in the format "L", (H, W, 3) of any other.
    """
    pixels = decode_image(file_name).pixels
    first, second, third = np.moveaxis(pixels, 2, 0)
    if np.array_equal(first, second) and np.array_equal(first, third):
        return np.ascontiguousarray(first)[:, :, None]
    return in_format(pixels, image_format)


def in_format(pixels: np.ndarray, image_format: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W, C) in "L" (one channel, Pillow's luma), "RGB" or "BGR", Detectron2's ``INPUT.FORMAT``."""
    if image_format == "L":
        return np.array(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[:, :, None]
    return pixels[:, :, ::-1] if image_format == "BGR" else pixels


class _Refused(Exception):
    """An image that could be decoded, and must not be used; the text goes on after the name of the file."""


def _decode(content: bytes) -> DecodedFile:
    with Image.open(io.BytesIO(content)) as image:
        against = reason_against(image)
        if against:
            raise _Refused(against)
        _check_sums(image, content)
        turned = getattr(image, "tag_v2", {}).get(ORIENTATION, UPRIGHT) != UPRIGHT
        # Before anything asks for the EXIF data: of a PNG that loads the pixels too, and is silent about damage.
        image.load()
        # the tag of a TIFF is gone by now, where Pillow has turned the image itself
        turned = turned or image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT
        return DecodedFile(_upright_rgb(image), turned)


def _upright_rgb(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if pixels.size == 0:
        raise _Refused(f"holds an image of {pixels.shape[1]}x{pixels.shape[0]} pixels")
    # what a viewer hides has some colour too, and the network would see it
    if (transparencies(image) < 255).any():
        raise _Refused("is transparent in places; save it without transparency")
    return pixels


def pixels_of(image: Image.Image, name: str) -> np.ndarray:
    """
    (H, W, 3) uint8 RGB of a Pillow image, upright.

    Raises:
        BBUIError: with its ``name``; it is damaged, transparent in places, or has more than 8 bits, several pages, or no pixels.
    """
    try:
        against = reason_against(image)
        if against:
            raise _Refused(against)
        return _upright_rgb(image)
    except _Refused as error:
        raise BBUIError(f"{name} {error}") from error
    except OSError as error:  # of what Pillow decodes now
        raise BBUIError(f"{name} cannot be decoded: {error}") from error


def transparencies(image: Image.Image) -> np.ndarray:
    """The values of the alpha channel, or of a palette's transparency: one where an image has none."""
    return np.unique(np.asarray(image.convert("RGBA").getchannel("A"))) if image.has_transparency_data else np.array([255])


def reason_against(image: Image.Image) -> Optional[str]:
    """Why an image of which the header was read, and nothing else, must not be used though it can be decoded, or None.

    Of more than 8 bits Pillow cuts grey values at 255 and keeps the upper 8 bits of colours; of several pages it reads the
    first.
    """
    arguments = image.tile[0].args if image.format in ("PNG", "TIFF") and image.tile else image.mode  # of the decoder
    raw_mode = arguments if isinstance(arguments, str) else arguments[0]
    if image.mode.startswith(("I", "F")) or ";16" in raw_mode:
        return f"has pixels of more than 8 bits (Pillow's mode {raw_mode}); convert it to 8 bits"
    # PNG and WebP may be animated; not a JPEG, which may hold a preview of itself
    pages = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "TIFF", "WEBP") else 1
    return f"has {pages} pages; save each as a file" if pages > 1 else None


def _check_sums(image: Image.Image, content: bytes) -> None:
    """Raises an error on damage that Pillow's decoders overlook."""
    if image.format == "PNG":
        Image.open(io.BytesIO(content)).verify()  # the chunks after the pixels too
    elif image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        # an eighth of the pixels from all of the codes; libjpeg warns, and Pillow hides it
        simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=1, strict=True)
    elif image.format == "TIFF" and image.tag_v2.get(259) in (8, 32946):  # Compression: deflate
        # libtiff stops before the checksum once it has all pixels
        starts, lengths = (273, 279) if 273 in image.tag_v2 else (324, 325)  # of the strips, or of the tiles
        for start, length in zip(image.tag_v2[starts], image.tag_v2[lengths]):
            zlib.decompress(content[start : start + length])


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
