"""Frames of DICOM files as a viewer shows them, and the region of them that is ultrasound."""

import logging
from typing import Iterator, Optional, Tuple

import numpy as np
import pydicom
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.misc import is_dicom
from pydicom.pixels import apply_color_lut, apply_voi_lut, iter_pixels, pixel_array
from pydicom.pixels.utils import get_expected_length

from ..errors import InputError

__all__ = ["WithoutImage", "is_dicom_file", "number_of_frames", "read_dicom", "ultrasound_region"]

logger = logging.getLogger(__name__)

DICOM_SUFFIXES = (".dcm", ".dicom")
TWO_DIMENSIONAL = 1  # RegionSpatialFormat (0018,6012)

# The sides in pixels of the smallest region that can show a lesion; a device that has none writes zeros.
SMALLEST_REGION = 4
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# How JPEG and JPEG-LS, and JPEG 2000, begin.
CODESTREAMS = (b"\xff\xd8", b"\xff\x4f")

Region = Tuple[int, int, int, int]


class WithoutImage(InputError):
    """A DICOM file that never held an image, such as the report beside the images of an examination."""


def is_dicom_file(path: str) -> bool:
    """Whether an existing file is DICOM, by its suffix or by its content: many have no suffix."""
    try:
        return path.lower().endswith(DICOM_SUFFIXES) or is_dicom(path)
    except OSError:  # whoever decodes it will say why it cannot be read
        return False


def read_dicom(path: str, dataset: Optional[pydicom.Dataset] = None) -> Iterator[Tuple[Optional[int], np.ndarray, Region]]:
    """
    The frames of a DICOM file, each decoded when it is asked for.

    Args:
        dataset: what the file holds, where it was read before; ``path`` is then a name for messages. It is not changed.
    Yields:
        the number of the frame from 1 on (None in a file with one frame), its pixels (H, W, 3) uint8 RGB, and the
        region, see :func:`ultrasound_region`.

    Raises:
        WithoutImage: the file is a report or the like.
        InputError: the file is damaged, holds other pixels than its header states, is compressed in a way for which no
            decoder is installed, has values that are not of 8 bits, a palette of 16 bits with entries of 8, or no usable
            region; the message names the file.
    """
    try:
        if dataset is None:
            # Whole, though not decoded: pydicom compares stated and found pixels of a data set, not of a path.
            dataset = pydicom.dcmread(path)
        if not any(dataset.get(keyword) for keyword in PIXELS):
            kind = getattr(dataset.get("SOPClassUID"), "name", None)
            if kind is None or "Image Storage" in kind:
                raise InputError(f"{path}: the DICOM file is cut off: it has no {'kind' if kind is None else 'pixels'}.")
            raise WithoutImage(f"{path}: a DICOM file without an image ({kind}).")
        region = ultrasound_region(dataset, path)
        stated = int(dataset.get("NumberOfFrames") or 1)
        _compare_pixels(dataset, stated, path)
        for number, frame in enumerate(_decoded(dataset, stated), start=1):
            yield number if stated > 1 else None, _shown(frame, dataset, path), region
    except InputError:
        raise
    except Exception as error:  # pydicom and its decoders may raise anything on a damaged file
        raise InputError(f"{path}: the DICOM file cannot be read: {type(error).__name__}: {error}") from error


def _decoded(dataset: pydicom.Dataset, frames: int) -> Iterator[np.ndarray]:
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        # as decoders give it, whatever the header states, which pydicom would believe
        return iter_pixels(dataset, planar_configuration=0)
    # iter_pixels mixes the frames of a cine in YBR_FULL_422 (findings/pydicom_mixes_frames.sh)
    return (pixel_array(dataset, index=i) for i in range(frames))


def _compare_pixels(dataset: pydicom.Dataset, stated: int, path: str) -> None:
    """Raises InputError where the pixel data are of more or fewer frames, or longer, than stated; shorter ones pydicom
    refuses."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        found = _frames_in(dataset.PixelData)
        if found != stated:
            raise InputError(f"{path}: NumberOfFrames states {stated} frames, and the pixel data have {found}.")
        return
    pixels = next(dataset[keyword].value for keyword in PIXELS if keyword in dataset)
    expected = get_expected_length(dataset)
    line = min(int(dataset.Rows), int(dataset.Columns)) * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) / 8
    if len(pixels) >= expected + expected % 2 + line:  # less than a row or a column is padding
        raise InputError(
            f"{path}: {stated} frames of {dataset.Columns}x{dataset.Rows} pixels with {dataset.SamplesPerPixel} values in "
            f"{dataset.PhotometricInterpretation} are stated, which have {expected} bytes, and the pixel data have {len(pixels)}."
        )


def _frames_in(encapsulated: bytes) -> int:
    """By the table of their offsets or, where it is empty, by the fragments that begin one (all of run-length encoding)."""
    offsets = parse_basic_offsets(encapsulated)
    if offsets:
        return len(offsets)
    _, *fragments = generate_fragments(encapsulated)  # the table comes first
    return sum(x.startswith(CODESTREAMS) for x in fragments) or len(fragments)


def number_of_frames(path: str) -> Optional[int]:
    """That a DICOM file states, without reading them; None if it cannot be read."""
    try:
        return int(pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames") or 1)
    except Exception:  # see read_dicom
        return None


def ultrasound_region(dataset: pydicom.Dataset, path: str) -> Region:
    """
    The largest two-dimensional region of SequenceOfUltrasoundRegions (0018,6011), clipped to the image.

    Files in use state regions that reach beyond the image, for example after the frames were made smaller.

    Args:
        path: named in warnings and errors.
    Returns:
        (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; the whole image if the file states no regions.
    Raises:
        InputError: none of the regions is two-dimensional (as of a spectral Doppler image), or all of them lie outside
            the image or are too small to show a lesion.
    """
    height, width = int(dataset.Rows), int(dataset.Columns)
    stated = dataset.get("SequenceOfUltrasoundRegions")
    if not stated:
        return 0, 0, width, height
    regions = [
        (
            int(x.RegionLocationMinX0),
            int(x.RegionLocationMinY0),
            # the last pixel of the region in the file
            min(int(x.RegionLocationMaxX1) + 1, width),
            min(int(x.RegionLocationMaxY1) + 1, height),
        )
        for x in stated
        if x.get("RegionSpatialFormat") == TWO_DIMENSIONAL
    ]
    smallest = min(SMALLEST_REGION, width, height)
    inside = [x for x in regions if min(x[2] - x[0], x[3] - x[1]) >= smallest]
    if not inside:
        raise InputError(
            f"{path}: no region to look at: of {len(stated)} regions {len(regions)} are two-dimensional, and none of these "
            f"has {smallest} pixels or more on each side in the image of {width}x{height} pixels: {regions}."
        )
    largest = max(inside, key=_area)
    if any(_beyond(x, largest) for x in inside):
        logger.warning("%s: %d two-dimensional regions; only the largest, %s, is seen.", path, len(inside), largest)
    return largest


def _area(region: Region) -> int:
    x0, y0, x1, y1 = region
    return (x1 - x0) * (y1 - y0)


def _beyond(region: Region, other: Region) -> bool:
    """Whether a part of a region lies outside the other one."""
    return region[0] < other[0] or region[1] < other[1] or region[2] > other[2] or region[3] > other[3]


# what changes the stored levels, with the value that does not
RESCALING = {"RescaleSlope": 1, "RescaleIntercept": 0, "ModalityLUTSequence": None}


def _shown(frame: np.ndarray, dataset: pydicom.Dataset, path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame that pydicom decoded (YCbCr is RGB there already)."""
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        shown = apply_color_lut(frame, dataset)
        if shown.dtype == np.uint8:
            return shown
        # Some files hold 8-bit entries in 16 bits: their upper halves make a black image.
        number, first = dataset.RedPaletteColorLookupTableDescriptor[:2]
        brightest = apply_color_lut(np.arange(first, first + (number or 2**16)), dataset).max()
        if brightest < 2**8:
            raise InputError(f"{path}: a palette of 16 bits whose entries are at most {brightest}: it would be black.")
        return (shown >> 8).astype(np.uint8)
    if dataset.BitsStored != 8 or dataset.PixelRepresentation != 0:
        signed = "signed " if dataset.PixelRepresentation else ""
        raise InputError(f"{path}: {signed}values of {dataset.BitsStored} bits; ultrasound has unsigned ones of 8.")
    frame = frame.astype(np.uint8)  # 16 bits may be reserved for them
    if frame.ndim == 3:
        if photometric.startswith("MONOCHROME"):
            raise InputError(f"{path}: {photometric} is stated, and the pixels have {frame.shape[2]} values each.")
        return frame
    rescaled = [x for x in RESCALING if x in dataset and dataset[x].value != RESCALING[x]]
    if rescaled and ("WindowCenter" in dataset or "VOILUTSequence" in dataset):
        # of the levels as they are stored, such a window makes a black image
        raise InputError(
            f"{path}: a window of levels that {', '.join(rescaled)} change; ultrasound has them as they are stored."
        )
    grey = np.clip(np.rint(apply_voi_lut(frame, dataset)), 0, 255).astype(np.uint8)
    if photometric == "MONOCHROME1":
        grey = 255 - grey
    return np.stack([grey] * 3, axis=2)
