"""What every reader of `prepare.py` hands over: images with boxes, as their format tells of them."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

__all__ = ["Box", "SourceImage", "iou", "listed"]

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
        size: (width, height) that the format tells, if it does; the boxes are those of an image of this size.
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
    size: Optional[Tuple[int, int]] = None
    fields: Dict[str, Any] = field(default_factory=dict)
    roi_fields: List[Dict[str, Any]] = field(default_factory=list)


def listed(texts: Sequence[str], most: int = 3) -> str:
    return ", ".join([*texts[:most], *[f"and {len(texts) - most} more"] * (len(texts) > most)])


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two XYWH boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
