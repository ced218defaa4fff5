"""What all rounds of a run did, from its annotation files."""

from typing import Dict, List, Optional, Sequence

import torch
from torchvision.ops import box_iou

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from ..data import ensure_registered
from ..data.files import read_json
from ..data.roi import drawn_by_hand, to_xyxy
from ..errors import InputError
from ..modeling.boxes import elementwise_iou


def complete_annotation(data_set: str, images: Sequence[Dict]) -> Dict:
    """
    Today's annotation of a training set, whose ROIs are set beside those of a run by the ids of the images.

    Args:
        images: those of a round of the run.
    Raises:
        InputError: an id is of another image there: the data set was prepared anew since.
    """
    ensure_registered(data_set)
    path = MetadataCatalog.get(data_set).json_file
    complete = read_json(path)
    names = {x["id"]: x["file_name"] for x in complete["images"]}
    for x in images:
        if names.get(x["id"]) != x["file_name"]:
            raise InputError(
                f"{path} was prepared anew since the run: image {x['id']} is {names.get(x['id'], 'none')} there, and "
                f"{x['file_name']} in the run. Prepare {data_set} as it was."
            )
    return complete


def round_history(rounds: Sequence[Dict], complete: Optional[Dict] = None) -> List[Dict[str, float]]:
    """
    Args:
        rounds: the annotation of every round, from round 0 on.
        complete: the annotation of the training set with the ROIs that were withheld (p < 1).
    Returns:
        for each round its number, "round", and the statistics that its file holds. Round 0, the annotation
        that training started from, has "iou_with_true_fa" if its images have a true box: the mean IoU of the
        coarse ROIs with it. With ``complete`` a round with pseudo ROIs has "iou_with_withheld_pa": their mean IoU with
        the manual ROI that training did not see.
    """
    start: Dict[str, float] = {"round": 0}
    overlaps = _iou_with_true(rounds[0])
    if len(overlaps):
        start["iou_with_true_fa"] = float(overlaps.mean())
    history = [start] + [{"round": bbui["info"]["round"], **bbui["info"]["statistics"]} for bbui in rounds[1:]]
    for entry, bbui in zip(history, rounds if complete else ()):
        overlaps = _iou_with_withheld(bbui, complete)
        if len(overlaps):
            entry["iou_with_withheld_pa"] = float(overlaps.mean())
    return history


def _iou_with_withheld(bbui: Dict, complete: Dict) -> torch.Tensor:
    """(M,) IoU of the pseudo ROIs with the nearest manual ROI of their image in the complete annotation."""
    manual: Dict[int, List] = {}
    for annotation in complete["annotations"]:
        if not drawn_by_hand(annotation):  # a pseudo ROI of an earlier run
            continue
        manual.setdefault(annotation["image_id"], []).append(to_xyxy(annotation["bbox"]))
    return torch.tensor(
        [
            float(box_iou(torch.tensor([to_xyxy(x["bbox"])]), torch.tensor(manual[x["image_id"]])).max())
            for x in bbui["annotations"]
            if not drawn_by_hand(x) and x["image_id"] in manual
        ]
    )


def _iou_with_true(bbui: Dict) -> torch.Tensor:
    """(M,) IoU of the ROIs of fully annotated images with the true box of their image, where it is known."""
    true_boxes = {image["id"]: image["true_bbox"] for image in bbui["images"] if "true_bbox" in image}
    pairs = [
        (annotation["bbox"], true_boxes[annotation["image_id"]])
        for annotation in bbui["annotations"]
        if annotation["image_id"] in true_boxes and drawn_by_hand(annotation)
    ]
    boxes = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2, 4)
    rois, true = (BoxMode.convert(boxes[:, i], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for i in (0, 1))
    return elementwise_iou(rois, true)
