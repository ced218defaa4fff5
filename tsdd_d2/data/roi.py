"""The ROI fields of an annotation: who drew it, and what that says about its image."""

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from detectron2.structures import BoxMode

MANUAL, PSEUDO, REFINED = "manual", "pseudo", "refined"
ROI_SOURCES = (MANUAL, PSEUDO, REFINED)


def manual_annotation(number: int, image: Mapping[str, Any], bbox: List[float]) -> Dict[str, Any]:
    """The `annotations[]` entry of a BBUI file with id `number` for a ROI that was drawn by hand.

    Args:
        image: the `images[]` entry, whose class the ROI has.
        bbox: XYWH in absolute pixels.
    """
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": image["category_id"],
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
        "roi_source": MANUAL,
    }


def drawn_by_hand(annotation: Mapping[str, Any]) -> bool:
    """Whether a ROI is one that a sonologist drew, or a refined one in its place; one without ``roi_source`` is."""
    return annotation.get("roi_source", MANUAL) != PSEUDO


def is_fully_annotated(annotations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an image belongs to the fully annotated group (fa): a sonologist drew a ROI on it.

    A refined ROI replaced a manual one, so the image stays fa; a pseudo ROI leaves its image partially annotated
    (pa) in every round.
    """
    return any(map(drawn_by_hand, annotations))


def to_xyxy(box: Sequence[float]) -> List[float]:
    """XYXY of a box as BBUI files have it, XYWH, both in absolute pixels."""
    return BoxMode.convert(list(box), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)


def rois_xyxy(dataset_dict: Dict) -> np.ndarray:
    """(M, 4) float32 absolute XYXY boxes of the annotations of a Detectron2 dataset dict."""
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in dataset_dict.get("annotations", [])]
    return np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
