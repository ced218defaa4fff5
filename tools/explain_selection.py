#!/usr/bin/env python
"""Measures whether C-Net's score of a box says anything about how well the box fits the lesion.

Candidate selection (paper III.B) takes it for granted. For D-Net's candidates of a finished first stage the table shows
their mean IoU with the true box (the manual one, where no true one is known) if the first candidate is taken, if the
class label guides the choice, and if the best one is taken; and the mean over the images of Kendall's rank correlation
between the score of the true class and the IoU, which is 0 if the score says nothing; and how many of the scores are
saturated, closer to 0 or 1 than 0.01. Candidates are D-Net's boxes or, "jittered", its first one and copies of it whose sides
moved by up to a fifth. On the validation images C-Net is one that was not trained on them, as in cross-fitting. "current ROI
scores as high" is how often the ROI of the last round, which C-Net was trained on, scores as high as D-Net's first box,
beside how often it fits as well.

The second table is what a round would do to these ROIs if D-Net's first box had to score higher by more than a margin.
"""

import argparse
import sys
from typing import Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

import tsdd_d2  # noqa: F401 (before Detectron2, whose import it keeps silent)
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.data.roi import drawn_by_hand, rois_xyxy, to_xyxy
from tsdd_d2.engine.run_folder import read_rounds
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.evaluation.tables import explanation_tables
from tsdd_d2.inference.model_file import load_model_of_run
from tsdd_d2.modeling.boxes import jitter_boxes
from tsdd_d2.modeling.contract import ScoredBoxes, ScoresCandidates, supports
from tsdd_d2.refinement import complete_annotation, score_all_candidates
from tsdd_d2.refinement.explanation import candidate_quality, incumbent_advantage, replacement
from tsdd_d2.refinement.round_loader import round_loader

EPILOG = """
Examples:
    $ python tools/explain_selection.py --run output/p02/tsddnet_stage1
    $ python tools/explain_selection.py --run output/p02/tsddnet_stage1 --nms 0.5 0.85 --output selection.json
"""


# By which share of its length a side of a jittered box moves, at most.
JITTER = 0.2
# In C-Net's probability of the true class; 0 is the paper.
MARGINS = (0.0, 0.02, 0.05)


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--candidates", type=int, default=10, help="boxes of each image (default 10)")
    parser.add_argument(
        "--nms",
        type=float,
        nargs="+",
        metavar="IOU",
        help="candidates overlap each other by less than this; several are compared (default: as in the run)",
    )
    parser.add_argument("--output", metavar="FILE", help="write the figures to a JSON file")
    args = parser.parse_args(argv)
    if args.candidates < 1 or not all(0 <= x <= 1 for x in args.nms or []):
        parser.error("--candidates must be 1 or more, and --nms in [0, 1]")
    cfg, model = load_model_of_run(args.run, "model_final")
    if not supports(cfg.MODEL.META_ARCHITECTURE, ScoresCandidates):
        raise InputError(f"{args.run} is a run of {cfg.MODEL.META_ARCHITECTURE}, not of the first stage.")
    if not cfg.DATASETS.VAL:
        raise InputError(f"{args.run} was trained without DATASETS.VAL: there are no unseen images to look at.")
    explanation = explain(cfg, model, args.run, args.candidates, args.nms or [model.dnet.nms_thresh])
    print(explanation_tables(**explanation))
    if args.output:
        run = {"dataset": cfg.DATASETS.TRAIN[0], "p": cfg.DATASETS.P, "seed": cfg.SEED, "candidates": args.candidates}
        write_json(args.output, {"run": run, **explanation})
    return 0


def explain(cfg, model, run: str, num_candidates: int, nms_thresholds: List[float]) -> Dict[str, List[Dict]]:
    """
    Returns:
        "candidates" and "margins", the arguments of :func:`~tsdd_d2.evaluation.tables.explanation_tables`.
    """
    groups = {title: x for title, x in groups_of_images(cfg, run).items() if x}
    candidates, margins = [], []
    for threshold in nms_thresholds:
        model.dnet.nms_thresh = threshold
        for title, dataset_dicts in groups.items():
            scored = score_all_candidates(model, round_loader(cfg, dataset_dicts), num_candidates, title)
            dataset_dicts = [x for x in dataset_dicts if len(scored[x["image_id"]].candidate_boxes)]
            if not dataset_dicts:
                raise InputError(f"{run}: D-Net finds no box in any of the images for {title}.")
            boxes = boxes_of_images(dataset_dicts, scored)
            row = {"images_of": title, "images": len(dataset_dicts)}
            figures = figures_of(boxes, with_rois=title != "validation")
            candidates.append({**row, "candidates": f"NMS {threshold:g}", **figures})
            if threshold != nms_thresholds[-1]:  # D-Net's first box is the same
                continue
            if title != "validation":
                margins += [{**row, "margin": margin, **replacement(*boxes.rois_and_first, margin)} for margin in MARGINS]
            jittered = score_jittered(cfg, model, dataset_dicts, boxes.first_boxes, num_candidates, title)
            candidates.append({**row, "candidates": "jittered", **candidate_quality(*jittered)})
    return {"candidates": candidates, "margins": margins}


def groups_of_images(cfg, run: str) -> Dict[str, List[Dict]]:
    """Dataset dicts, those for training with the ROI of the last round in the place of the manual one."""
    train, val = cfg.DATASETS.TRAIN[0], cfg.DATASETS.VAL[0]
    last = read_rounds(run)[-1]
    complete_annotation(train, last["images"])
    last_round = {x["image_id"]: x for x in last["annotations"]}
    groups: Dict[str, List[Dict]] = {"training, fa": [], "training, pa": [], "validation": []}
    for name in (train, val):
        ensure_registered(name)
        for dataset_dict in one_lesion(name):
            roi = last_round.get(dataset_dict["image_id"]) if name == train else None
            if roi:
                # scored in the same pass
                dataset_dict["annotations"] = [{**roi, "bbox_mode": BoxMode.XYWH_ABS}]
            withheld = name == train and not (roi and drawn_by_hand(roi))
            title = "validation" if name == val else "training, pa" if withheld else "training, fa"
            groups[title].append(dataset_dict)
    return groups


def one_lesion(name: str) -> List[Dict]:
    """The images of a data set with one ROI, with its "true_box": (1, 4) absolute XYXY."""
    true = {x["id"]: x.get("true_bbox") for x in read_json(MetadataCatalog.get(name).json_file)["images"]}
    chosen = []
    for dataset_dict in DatasetCatalog.get(name):
        if len(dataset_dict["annotations"]) != 1:
            continue
        box = true[dataset_dict["image_id"]]
        if box is None:
            box = rois_xyxy(dataset_dict)[0]
        else:
            box = to_xyxy(box)
        chosen.append({**dataset_dict, "true_box": torch.as_tensor(box, dtype=torch.float32)[None]})
    return chosen


class BoxesOfImages(NamedTuple):
    """Of N images the scores, C-Net's probability of the true class, and the IoU with the true box.

    Attributes:
        scores, overlaps: of each image (Ki,) of its candidates, best-ranked first.
        roi_scores, roi_overlaps: (N,) of the current ROI, which on validation images is the manual one.
        first_boxes: (N, 4) absolute XYXY, D-Net's first candidate.
    """

    scores: List[Tensor]
    overlaps: List[Tensor]
    roi_scores: Tensor
    roi_overlaps: Tensor
    first_boxes: Tensor

    @property
    def rois_and_first(self) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores and IoU of the current ROI, and of the first candidate."""
        first = (torch.stack([x[0] for x in column]) for column in (self.scores, self.overlaps))
        return (self.roi_scores, self.roi_overlaps, *first)


def boxes_of_images(dataset_dicts: List[Dict], scored: Dict[int, ScoredBoxes]) -> BoxesOfImages:
    """Of images with a candidate each."""
    scores, overlaps, rois, first = [], [], [], []
    for x in dataset_dicts:
        boxes, true_class = scored[x["image_id"]], x["category_id"]
        scores.append(boxes.candidate_probabilities[:, true_class])
        overlaps.append(box_iou(boxes.candidate_boxes, x["true_box"])[:, 0])
        roi_overlap = box_iou(torch.from_numpy(rois_xyxy(x)), x["true_box"])[0, 0]
        rois.append(torch.stack([boxes.roi_probabilities[0, true_class], roi_overlap]))
        first.append(boxes.candidate_boxes[0])
    return BoxesOfImages(scores, overlaps, *torch.stack(rois, dim=1), torch.stack(first))


def score_jittered(
    cfg, model, dataset_dicts: List[Dict], boxes: Tensor, num_candidates: int, title: str
) -> Tuple[List[Tensor], List[Tensor]]:
    """
    The boxes (N, 4) and jittered copies of them as candidates: they are scored in the place of the current ROI.

    Returns:
        scores and overlaps as in :class:`BoxesOfImages`.
    """
    torch.manual_seed(cfg.SEED)
    jittered = []
    for x, box in zip(dataset_dicts, boxes):
        candidates = Boxes(torch.cat([box[None], jitter_boxes(box.expand(num_candidates - 1, 4), JITTER)]))
        candidates.clip((x["height"], x["width"]))
        jittered.append(candidates.tensor)
    in_place_of_roi = [
        {**x, "annotations": [{"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0} for box in candidates.tolist()]}
        for x, candidates in zip(dataset_dicts, jittered)
    ]
    scored = score_all_candidates(model, round_loader(cfg, in_place_of_roi), 1, title)
    scores = [scored[x["image_id"]].roi_probabilities[:, x["category_id"]] for x in dataset_dicts]
    overlaps = [box_iou(candidates, x["true_box"])[:, 0] for x, candidates in zip(dataset_dicts, jittered)]
    return scores, overlaps


def figures_of(boxes: BoxesOfImages, with_rois: bool) -> Dict[str, float]:
    figures = candidate_quality(boxes.scores, boxes.overlaps)
    if with_rois:
        roi_scores, roi_overlaps, first_scores, first_overlaps = boxes.rois_and_first
        figures["keeps_roi"] = incumbent_advantage(roi_scores, first_scores)
        figures["roi_fits"] = incumbent_advantage(roi_overlaps, first_overlaps)
    return figures


if __name__ == "__main__":
    sys.exit(main())
