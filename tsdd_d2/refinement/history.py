"""What all rounds of a run did, from its annotation files."""

from typing import Dict, List, Sequence

import torch

from detectron2.structures import BoxMode

from ..data.roi import is_fully_annotated
from ..modeling.dnet import elementwise_iou


def round_history(rounds: Sequence[Dict]) -> List[Dict[str, float]]:
    """
    Args:
        rounds: the annotation of every round, from round 0 on.
    Returns:
        for each round its number, "round", and the statistics that its file holds. Round 0, the annotation
        that training started from, has "iou_with_true_fa" if its images have a true box: the mean IoU of the
        coarse ROIs with it.
    """
    start: Dict[str, float] = {"round": 0}
    overlaps = _iou_with_true(rounds[0])
    if len(overlaps):
        start["iou_with_true_fa"] = float(overlaps.mean())
    return [start] + [{"round": bbui["info"]["round"], **bbui["info"]["statistics"]} for bbui in rounds[1:]]


def _iou_with_true(bbui: Dict) -> torch.Tensor:
    """(M,) IoU of the ROIs of fully annotated images with the true box of their image, where it is known."""
    true_boxes = {image["id"]: image["true_bbox"] for image in bbui["images"] if "true_bbox" in image}
    pairs = [
        (annotation["bbox"], true_boxes[annotation["image_id"]])
        for annotation in bbui["annotations"]
        if annotation["image_id"] in true_boxes and is_fully_annotated([annotation])
    ]
    boxes = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2, 4)
    rois, true = (BoxMode.convert(boxes[:, i], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for i in (0, 1))
    return elementwise_iou(rois, true)
