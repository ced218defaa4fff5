"""What the rounds of a run changed, ROI by ROI."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch

from detectron2.structures import BoxMode

from ..data.roi import MANUAL
from ..modeling.boxes import elementwise_iou
from ..refinement.rounds import manual_box


class Replacement(NamedTuple):
    """One round's decision: C-Net's probabilities of the true class for the old and the new box.

    Both are of the network of that round. ``score_before`` is None where there was no ROI, or where the file does not
    tell.
    """

    round: int
    score_before: Optional[float]
    score_after: float


class ChangedROI(NamedTuple):
    """A refined or pseudo ROI after the last round.

    Attributes:
        image, annotation: entries of the last round's file.
        manual_box: XYWH in absolute pixels, None for a pseudo ROI.
        drift: 1 - IoU with the manual box, None for a pseudo ROI.
        replacements: in the order of the rounds; empty if the ROI came with the data set.
    """

    image: Dict
    annotation: Dict
    manual_box: Optional[List[float]]
    drift: Optional[float]
    replacements: Tuple[Replacement, ...]

    @property
    def gain(self) -> Optional[float]:
        """``score_after - score_before`` of the last replacement.

        Gains of several rounds are of several networks, so they make no sum.
        """
        if not self.replacements or self.replacements[-1].score_before is None:
            return None
        return self.replacements[-1].score_after - self.replacements[-1].score_before


def changed_rois(rounds: Sequence[Dict]) -> List[ChangedROI]:
    """
    Args:
        rounds: the annotation of every round, from round 0 on.
    Returns:
        the ROIs of the last round that are not manual, in the order of the file.
    """
    replacements: Dict[int, List[Replacement]] = {}
    # a round of the run that made this run's data set must not be taken for one of these rounds
    previous_round = {x["id"]: x.get("roi_round") for x in rounds[0]["annotations"]}
    for number, bbui in enumerate(rounds[1:], start=1):
        for annotation in bbui["annotations"]:
            if annotation.get("roi_round") == number != previous_round.get(annotation["id"]):
                replacement = Replacement(number, annotation.get("roi_score_before"), annotation["roi_score"])
                replacements.setdefault(annotation["id"], []).append(replacement)
        previous_round = {x["id"]: x.get("roi_round") for x in bbui["annotations"]}

    images = {image["id"]: image for image in rounds[-1]["images"]}
    return [
        ChangedROI(
            images[annotation["image_id"]],
            annotation,
            manual_box(annotation),
            _drift(annotation),
            tuple(replacements.get(annotation["id"], ())),
        )
        for annotation in rounds[-1]["annotations"]
        if annotation.get("roi_source", MANUAL) != MANUAL
    ]


def _drift(annotation: Dict) -> Optional[float]:
    manual = manual_box(annotation)
    if manual is None:
        return None
    boxes = torch.tensor([annotation["bbox"], manual], dtype=torch.float64)
    current, manual = BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    return 1 - float(elementwise_iou(current, manual))
