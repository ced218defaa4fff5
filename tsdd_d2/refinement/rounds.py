"""One round of candidate selection: predict, score, select, and write down what changed (paper III.B)."""

import copy
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torchvision.ops import box_iou
from tqdm import tqdm

from detectron2.utils import comm

from ..data.categories import CONTIGUOUS_IDS
from ..data.roi import MANUAL, PSEUDO, REFINED, drawn_by_hand, to_xyxy
from ..errors import InputError
from ..memory import PERIOD, give_back_freed_memory
from ..modeling.boxes import elementwise_iou
from ..modeling.contract import ScoredBoxes
from ..modeling.network import share_buffers
from ..modeling.stage1 import MIN_CANDIDATE_SIDE
from .selection import ROISlots, Selection, SelectionRule, decide


class RoundStatistics(NamedTuple):
    """What a round did; fa and pa are the fully and partially annotated images.

    Scores are C-Net's probability of the true class, in this round's network, over the ROIs that existed before;
    IoUs are means over the ROIs after the round, NaN where there is nothing to compare with.
    """

    replaced_fa: int
    replaced_pa: int
    score_before: float
    score_after: float
    iou_with_manual: float
    iou_with_true_fa: float
    iou_with_true_pa: float


def score_all_candidates(
    model, loader: Iterable, candidates_per_round: int, description: str = ""
) -> Dict[int, ScoredBoxes]:
    """Passes over all training images once, on every rank over its shard, and gathers the results on all ranks.

    Args:
        model: a :class:`~tsdd_d2.modeling.stage1.TSDDStage1`; left in the mode it was in.
        loader: batches of mapped images with ``rois``; the shard of this rank.
        description: of the progress bar; there is none without.
    Returns:
        image id -> :class:`ScoredBoxes`.
    """
    share_buffers(model)
    was_training = model.training
    model.eval()
    scored = {}
    silent = not (description and comm.is_main_process())
    for number, batch in enumerate(tqdm(loader, desc=description, unit="batch", disable=silent, leave=False)):
        if number % PERIOD == 0:
            give_back_freed_memory()
        for inputs, boxes in zip(batch, model.score_candidates(batch, candidates_per_round)):
            scored[inputs["image_id"]] = boxes
    model.train(was_training)
    return {image_id: boxes for shard in comm.all_gather(scored) for image_id, boxes in shard.items()}


def manual_box(annotation: Dict):
    """The XYWH box that a sonologist drew, or None for a pseudo ROI."""
    if not drawn_by_hand(annotation):
        return None
    return annotation.get("manual_bbox", annotation["bbox"])


# What the round that replaced a box wrote beside it.
_REFINEMENT_KEYS = ("manual_bbox", "roi_round", "roi_score", "roi_score_before")


def as_drawn(annotation: Dict) -> Dict:
    """A ROI with the box that a sonologist drew and no trace of refinement; the outline went when a round replaced the box."""
    box = manual_box(annotation)
    kept = {key: value for key, value in annotation.items() if key not in _REFINEMENT_KEYS}
    return {**kept, "bbox": box, "area": box[2] * box[3], "roi_source": MANUAL}


# in the place of a box that nobody drew or found
NO_BOX = (float("nan"),) * 4


class _Slot(NamedTuple):
    """One of the N places in :class:`ROISlots`, whose fields are explained there; the defaults are those of an image
    without a ROI.

    Attributes:
        image, annotation: as in the file; no annotation where there is no ROI yet.
        candidate_boxes: (K, 4); candidate_scores: (K,).
    """

    image: Dict
    candidate_boxes: Tensor
    candidate_scores: Tensor
    locked: bool
    annotation: Optional[Dict] = None
    current_box: Sequence[float] = NO_BOX
    current_score: float = -torch.inf
    manual_box: Sequence[float] = NO_BOX


def _collect_slots(bbui: Dict, scored: Dict[int, ScoredBoxes], num_candidates: int) -> List[_Slot]:
    """Lines up the file's ROIs with the scored boxes.

    In an image with several ROIs a candidate competes only with the ROI it overlaps most. An image whose pseudo ROI
    was vetoed is a locked place without a ROI: it never gets one again.
    """
    by_image: Dict[int, List] = {image["id"]: [] for image in bbui["images"]}
    for annotation in bbui["annotations"]:
        by_image[annotation["image_id"]].append(annotation)

    slots = []
    for image in bbui["images"]:
        boxes = scored[image["id"]]
        true_class = CONTIGUOUS_IDS[image["category_id"]]
        candidate_boxes = torch.zeros(num_candidates, 4)
        candidate_scores = torch.full((num_candidates,), -torch.inf)
        found = len(boxes.candidate_boxes)
        candidate_boxes[:found] = boxes.candidate_boxes
        candidate_scores[:found] = boxes.candidate_probabilities[:, true_class]
        annotations = by_image[image["id"]]
        if not annotations:
            slots.append(_Slot(image, candidate_boxes, candidate_scores, locked=bool(image.get("roi_veto", False))))
            continue
        rois = torch.tensor([to_xyxy(a["bbox"]) for a in annotations])
        overlap = box_iou(candidate_boxes, rois)
        nearest = overlap.argmax(dim=1)
        if len(rois) > 1:  # a box beside all of them is of none
            nearest[overlap.amax(dim=1) == 0] = -1
        for i, annotation in enumerate(annotations):
            manual = manual_box(annotation)
            slots.append(
                _Slot(
                    image,
                    candidate_boxes,
                    candidate_scores.masked_fill(nearest != i, -torch.inf),
                    locked=bool(annotation.get("locked", False)),
                    annotation=annotation,
                    current_box=rois[i].tolist(),
                    current_score=float(boxes.roi_probabilities[i, true_class]),
                    manual_box=NO_BOX if manual is None else to_xyxy(manual),
                )
            )
    return slots


def _stack(slots: Sequence[_Slot]) -> ROISlots:
    return ROISlots(
        current_boxes=torch.tensor([x.current_box for x in slots]),
        current_scores=torch.tensor([x.current_score for x in slots]),
        candidate_boxes=torch.stack([x.candidate_boxes for x in slots]),
        candidate_scores=torch.stack([x.candidate_scores for x in slots]),
        locked=torch.tensor([x.locked for x in slots]),
        manual_boxes=torch.tensor([x.manual_box for x in slots]),
    )


def refine_rois(
    bbui: Dict,
    scored: Dict[int, ScoredBoxes],
    rule: SelectionRule,
    *,
    round_number: int,
    num_candidates: int,
) -> Tuple[Dict, RoundStatistics]:
    """Applies a selection rule to an annotation file.

    Args:
        bbui: the annotation of the last round; not modified.
        scored: image id -> scored boxes, for every image.
        rule: see :mod:`tsdd_d2.refinement.selection`.
    Returns:
        the annotation of this round, and what changed.
    Raises:
        InputError: what the rule returns is no selection, or a box without area in the image.
    """
    slots = _collect_slots(bbui, scored, num_candidates)
    stacked = _stack(slots)
    selection = decide(rule, stacked)
    refined = copy.copy(bbui)
    refined["annotations"] = []
    next_id = max((a["id"] for a in bbui["annotations"]), default=0) + 1
    for i, (image, annotation) in enumerate((x.image, x.annotation) for x in slots):
        if annotation is None and not selection.replaced[i]:
            continue  # no ROI and no candidate: the image goes on without
        if annotation is None:
            annotation = {
                "id": next_id,
                "image_id": image["id"],
                "category_id": image["category_id"],
                "iscrowd": 0,
                "roi_source": PSEUDO,
            }
            next_id += 1
        if selection.replaced[i]:
            score_before = float(stacked.current_scores[i])
            box = selection.boxes[i].clamp(min=0).minimum(torch.tensor([image["width"], image["height"]] * 2))
            if not (box[2:] - box[:2]).min() >= MIN_CANDIDATE_SIDE:  # nor of a NaN
                raise InputError(
                    f"The selection rule (REFINEMENT.RULE) gave image {image['id']} ({image['file_name']}) in round {round_number} "
                    f"the ROI {selection.boxes[i].tolist()} (XYXY), which shows nothing of it."
                )
            if torch.equal(selection.boxes[i], stacked.manual_boxes[i]):
                annotation = as_drawn(annotation)
            else:
                annotation = _replace_box(annotation, box, round_number, score_before)
        # the score is this round's: the network has moved, and with it the score of a ROI that stays
        annotation = {**annotation, "roi_score": round(float(selection.scores[i]), 6)}
        refined["annotations"].append(annotation)
    return refined, _statistics([x.image for x in slots], stacked, selection)


def _replace_box(annotation: Dict, box: Tensor, round_number: int, score_before: float) -> Dict:
    had_roi = "bbox" in annotation
    manual = manual_box(annotation) if had_roi else None
    left, top, right, bottom = (round(float(x), 2) for x in box)
    width, height = round(right - left, 2), round(bottom - top, 2)
    replaced = {
        # the outline is that of the old box
        **{key: value for key, value in annotation.items() if key != "segmentation"},
        "bbox": [left, top, width, height],
        "area": round(width * height, 4),  # exact, and above 0 for a sliver too
        "roi_source": PSEUDO if manual is None else REFINED,
        "roi_round": round_number,
    }
    if manual is not None:
        replaced["manual_bbox"] = manual
    if had_roi:
        # of the same network as this round's score, which alone it can be compared with
        replaced["roi_score_before"] = round(score_before, 6)
    return replaced


def _statistics(images: List[Dict], slots: ROISlots, selection: Selection) -> RoundStatistics:
    fully_annotated = ~slots.manual_boxes.isnan().any(dim=1)
    had_roi = slots.current_scores > -torch.inf
    has_roi = selection.scores > -torch.inf
    true_boxes = torch.tensor([to_xyxy(x["true_bbox"]) if "true_bbox" in x else NO_BOX for x in images])
    iou_with_true = elementwise_iou(selection.boxes, true_boxes)

    def mean(values: Tensor, where: Tensor) -> float:
        values = values[where & ~values.isnan()]
        return float(values.mean()) if len(values) else float("nan")

    return RoundStatistics(
        replaced_fa=int((selection.replaced & fully_annotated).sum()),
        replaced_pa=int((selection.replaced & ~fully_annotated).sum()),
        score_before=mean(slots.current_scores, had_roi),
        score_after=mean(selection.scores, had_roi),
        iou_with_manual=mean(elementwise_iou(selection.boxes, slots.manual_boxes), fully_annotated),
        iou_with_true_fa=mean(iou_with_true, fully_annotated & has_roi),
        iou_with_true_pa=mean(iou_with_true, ~fully_annotated & has_roi),
    )
