"""What every reader of `prepare.py` hands over: images with boxes, as their format tells of them."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

__all__ = ["Box", "SourceImage", "iou", "stated_size"]

Box = List[float]


@dataclass
class SourceImage:
    """
    One image as a format tells of it. Boxes are XYWH in absolute pixels.

    Attributes:
        file_name: relative to the folder of the data set, with forward slashes.
        where: what to look at if something is wrong with it, such as "line 8".
        known_as: its name in a table of patients, where that is another than `file_name`.
        labels: what each of the boxes is called; "" where the format has no names.
        class_name: of the image, where the format has it.
        mask_boxes: of each box's mask, where there is one.
        places: of each box, as `where`, if they are others.
        stated: (height, width) of the image that its boxes are of, where the format has them.
        fields: of its `images[]` entry, beyond those that every one has.
        roi_fields: of the `annotations[]` entry of each box.
    """

    file_name: str
    where: str
    known_as: str = ""
    boxes: List[Box] = field(default_factory=list)
    labels: List[str] = field(default_factory=list)
    class_name: Optional[str] = None
    patient: Optional[str] = None
    mask_boxes: List[Optional[Box]] = field(default_factory=list)
    places: List[str] = field(default_factory=list)
    stated: Optional[Tuple[int, int]] = None
    fields: Dict[str, Any] = field(default_factory=dict)
    roi_fields: List[Dict[str, Any]] = field(default_factory=list)


def stated_size(height: Any, width: Any) -> Optional[Tuple[int, int]]:
    """`SourceImage.stated` from what a file says; tools that do not know a size write 0, or nothing."""
    try:
        size = int(height), int(width)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def plain_number(text: str) -> float:
    """As a table writes it: not with the underscores of Python, which a slip of the finger makes of a dot or a minus.

    Raises:
        ValueError: it is none.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two XYWH boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
