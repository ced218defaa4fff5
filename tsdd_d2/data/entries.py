"""What is wrong with an entry of a BBUI file: an image, an annotation, a box. `datasets/README.md` describes every field."""

import math
import numbers
from typing import Any, List, Mapping, Optional

from .categories import CONTIGUOUS_IDS
from .roi import REFINED, ROI_SOURCES

# Beyond it float32 tells no two coordinates of a large image apart, in which Detectron2's evaluation has them.
SMALLEST_SIDE = 0.01  # pixels
# What every reader of JSON holds exactly.
LARGEST_ID = 2**53 - 1
# A box clipped to the image in float32 XYXY and stored as XYWH can exceed the border by a rounding error.
BORDER_TOLERANCE = 0.01  # pixels


def image_problems(image: Mapping[str, Any]) -> List[str]:
    problems = []
    if not _is_id(image.get("id"), 0):
        problems.append(f"'id' is missing or no integer from 0 to {LARGEST_ID}")
    if not is_text(image.get("file_name")):
        problems.append("'file_name' is missing or no text")
    elif not _is_writable(image["file_name"]):
        problems.append("'file_name' has a character that no file name can have")
    if not is_text(image.get("patient_id")):
        problems.append("the patient is missing: 'patient_id' must be a text that is not empty")
    elif image["patient_id"] != image["patient_id"].strip():
        # it would pass as another patient than the one without
        problems.append(f"'patient_id' must not begin or end with blanks, found {image['patient_id']!r}")
    elif not _is_writable(image["patient_id"]):
        problems.append(f"'patient_id' has a character that no file can hold, found {image['patient_id']!r}")
    problems += _class_problems(image)
    problems += size_problems(image)
    if "true_bbox" in image:
        problems += box_problems("true_bbox", image["true_bbox"], image)
    if not isinstance(image.get("roi_veto", False), bool):
        problems.append(f"'roi_veto' must be true or false, found {image['roi_veto']!r}")
    return problems


def annotation_problems(annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]]) -> List[str]:
    problems = []
    if not _is_id(annotation.get("id"), 1):
        # pycocotools takes a match with id 0 for none: a perfect box would count as missed
        problems.append(f"'id' is missing or no integer from 1 to {LARGEST_ID}; number annotations from 1 on")
    image = image_of(annotation, images)
    if image is None:
        problems.append("its image is not in 'images'")
    class_problems = _class_problems(annotation)
    problems += class_problems
    if image is not None and not class_problems and annotation["category_id"] != image.get("category_id"):
        problems.append(f"class {annotation['category_id']} is unlike the class {image.get('category_id')!r} of its image")
    if "bbox" not in annotation:
        problems.append("'bbox' is missing")
    for key in ("bbox", "manual_bbox"):
        if key in annotation:
            problems += box_problems(key, annotation[key], image)
    problems += _segmentation_problems(annotation.get("segmentation"))
    problems += _keypoint_problems(annotation.get("keypoints"))
    # Detectron2's loader asserts it.
    if annotation.get("ignore", 0) != 0:
        problems.append(f"'ignore' must be 0 or left out, found {annotation['ignore']!r}")
    # pycocotools' evaluation reads both keys of every annotation; a box without an area is told above.
    if not (_is_positive(annotation.get("area")) or _is_flat(annotation.get("bbox"))):
        problems.append(f"'area' must be a number above 0, found {annotation.get('area')!r}")
    elif (
        image is not None
        and not size_problems(image)
        and annotation.get("area", 0) > 1.01 * image["width"] * image["height"]
    ):
        problems.append(f"'area' {annotation['area']!r} is larger than the image; COCO's evaluation would leave it out")
    if not is_integer(annotation.get("iscrowd")) or annotation["iscrowd"] != 0:
        problems.append(f"'iscrowd' must be 0, found {annotation.get('iscrowd')!r}")
    if annotation.get("roi_source", "manual") not in ROI_SOURCES:
        problems.append(f"'roi_source' must be one of {ROI_SOURCES}, found {annotation['roi_source']!r}")
    if annotation.get("roi_source") == REFINED and "manual_bbox" not in annotation:
        problems.append("a refined ROI must keep the manual box as 'manual_bbox'")
    if "roi_round" in annotation and not is_integer(annotation["roi_round"]):
        problems.append(f"'roi_round' must be an integer, found {annotation['roi_round']!r}")
    for key in ("roi_score", "roi_score_before"):
        if key in annotation and not _is_finite(annotation[key]):
            problems.append(f"'{key}' must be a finite number, found {annotation[key]!r}")
    if not isinstance(annotation.get("locked", False), bool):
        problems.append(f"'locked' must be true or false, found {annotation['locked']!r}")
    return problems


def size_problems(image: Mapping[str, Any]) -> List[str]:
    return [
        f"'{key}' must be an integer above 0, found {image.get(key)!r}"
        for key in ("height", "width")
        if not (is_integer(image.get(key)) and _is_positive(image[key]))
    ]


def _class_problems(entry: Mapping[str, Any]) -> List[str]:
    if "category_id" not in entry:
        return ["the class is missing: 'category_id' must be 1 (benign) or 2 (malignant)"]
    if not is_integer(entry["category_id"]) or entry["category_id"] not in CONTIGUOUS_IDS:
        return [f"unknown class {entry['category_id']!r}: 'category_id' must be 1 (benign) or 2 (malignant)"]
    return []


def box_problems(key: str, box: Any, image: Optional[Mapping[str, Any]]) -> List[str]:
    """
    What is wrong with a box of an annotation or an image.

    Args:
        key: the field that holds the box, for the message.
        box: should be XYWH in absolute pixels.
        image: the entry whose `width` and `height` bound the box, if they are known.
    """
    if not _is_box(box):
        return [f"'{key}' must be four numbers [x, y, width, height], found {box!r}"]
    if not all(_is_finite(value) for value in box):
        return [f"'{key}' {list(box)} has a NaN, infinite or far too large value"]
    x, y, width, height = box
    if _is_flat(box):
        return [f"'{key}' {list(box)} has no area: width and height must be {SMALLEST_SIDE} pixels or more"]
    if image is None or size_problems(image):
        return []
    if (
        min(x, y) < -BORDER_TOLERANCE
        or x + width > image["width"] + BORDER_TOLERANCE
        or y + height > image["height"] + BORDER_TOLERANCE
    ):
        return [f"'{key}' {list(box)} leaves the image of {image['width']}x{image['height']} pixels"]
    return []


def _segmentation_problems(segmentation: Any) -> List[str]:
    """
    What makes Detectron2's loader fail, or drop a polygon, and with the last one the whole annotation, silently.

    Args:
        segmentation: polygons or a run-length encoding, as in COCO; an empty one counts as none.
    """
    if not segmentation:
        return []
    if isinstance(segmentation, Mapping):
        return _run_length_problems(segmentation)
    if not (isinstance(segmentation, list) and all(isinstance(polygon, list) for polygon in segmentation)):
        return [f"'segmentation' must be a list of polygons or a run-length encoding, found {segmentation!r}"]
    return [
        f"polygon {number} of 'segmentation' must be the x and y of 3 points or more, found {polygon!r}"
        for number, polygon in enumerate(segmentation, start=1)
        if len(polygon) < 6 or len(polygon) % 2 or not all(_is_finite(value) for value in polygon)
    ]


def _run_length_problems(segmentation: Mapping[str, Any]) -> List[str]:
    problems = []
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(_is_count(value) for value in size)):
        problems.append(f"'size' of 'segmentation' must be two integers [height, width], found {size!r}")
    if not (isinstance(counts, str) or isinstance(counts, list) and all(_is_count(value) for value in counts)):
        problems.append("'counts' of 'segmentation' must be a text or a list of integers of 0 or more")
    return problems


def _keypoint_problems(keypoints: Any) -> List[str]:
    # An empty list counts as none. Detectron2's loader adds half a pixel to the others.
    if not keypoints or isinstance(keypoints, list) and all(_is_finite(value) for value in keypoints):
        return []
    return [f"'keypoints' must be a list of finite numbers, found {keypoints!r}"]


def describe_image(image: Mapping[str, Any]) -> str:
    return f"image {image.get('id')!r} ({_printable(image.get('file_name'))})"


def describe_annotation(annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]]) -> str:
    image = image_of(annotation, images)
    file_name = f", {_printable(image.get('file_name'))}" if image else ""
    return f"annotation {annotation.get('id')!r} (image {annotation.get('image_id')!r}{file_name})"


def image_of(annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]]) -> Optional[Mapping[str, Any]]:
    return images.get(annotation["image_id"]) if is_integer(annotation.get("image_id")) else None


def _is_box(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(_is_number(number) for number in value)


def _is_flat(value: Any) -> bool:
    """Whether it is a box, XYWH, without an area."""
    return _is_box(value) and not (value[2] >= SMALLEST_SIDE and value[3] >= SMALLEST_SIDE)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_file_name(value: Any) -> bool:
    return is_text(value) and _is_writable(value)


def _is_writable(text: str) -> bool:
    """Whether the system takes it as a path, and a file as text: without NUL and lone surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _printable(file_name: Any) -> Any:
    return file_name if is_file_name(file_name) else repr(file_name)


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any, first: int) -> bool:
    return is_integer(value) and first <= value <= LARGEST_ID


def _is_count(value: Any) -> bool:
    """Whether pycocotools can hold it in the 32 bits that it has for a run and for a side."""
    return is_integer(value) and 0 <= value < 2**32


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _is_positive(value: Any) -> bool:
    return _is_finite(value) and value > 0
