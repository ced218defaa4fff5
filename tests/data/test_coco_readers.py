"""What the format promises to other readers of COCO: a perfect prediction counts as one, whatever a valid file is like."""

import contextlib
import copy
import io

import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from tsdd_d2 import register_bbui_instances
from tsdd_d2.data import BBUIError, load_bbui_json, validate_bbui
from tsdd_d2.data.files import write_json
from tsdd_d2.data.roi import rois_xyxy

from .conftest import annotation_entry

NAME = "tsdd_test_coco_readers"


def average_precision(path, root):
    """AP of the file's own boxes by Detectron2's COCOEvaluator, in a process that has not loaded the data set."""
    DatasetCatalog.pop(NAME, None)
    register_bbui_instances(NAME, path, root)
    evaluator = COCOEvaluator(NAME, tasks=("bbox",), distributed=False, use_fast_impl=False)
    evaluator.reset()
    for image in load_bbui_json(path, root):
        instances = Instances((image["height"], image["width"]))
        instances.pred_boxes = Boxes(torch.from_numpy(rois_xyxy(image)))
        instances.scores = torch.ones(len(instances))
        instances.pred_classes = torch.full((len(instances),), image["category_id"])
        evaluator.process([image], [{"instances": instances}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()["bbox"]["AP"]


def renumber(bbui, images, annotations):
    """With image ids and annotation ids from other numbers on."""
    for image in bbui["images"]:
        image["id"] += images - 1
    for annotation in bbui["annotations"]:
        annotation["id"] += annotations - 1
        annotation["image_id"] += images - 1


def large(bbui):
    for entry in bbui["annotations"]:
        entry["area"] = 40 * 30
    bbui["annotations"][0]["bbox"] = [0, 0, 40, 30]


def many(bbui):
    first = bbui["annotations"].pop(0)
    boxes = [[x, y, 1 + x % 3, 1] for x in range(0, 36, 2) for y in range(0, 29, 5)][:100]
    bbui["annotations"] += [annotation_entry(100 + i, 1, first["category_id"], box) for i, box in enumerate(boxes)]


CHANGES = {
    "as it is": lambda b: None,
    "without info": lambda b: b.pop("info"),
    "image ids from 0": lambda b: renumber(b, 0, 1),
    "large ids": lambda b: renumber(b, 2**53 - 4, 2**53 - 4),
    "large areas": large,
    "small areas": lambda b: [a.update(area=1e-9) for a in b["annotations"]],
    "small boxes": lambda b: b["annotations"][0].update(bbox=[39.5, 29.5, 0.05, 0.05]),
    "many ROIs": many,
    "two refined ROIs that are equal": lambda b: b["annotations"].append({**b["annotations"][1], "id": 9}),
    "polygons": lambda b: b["annotations"][0].update(segmentation=[[4, 5, 14, 5, 14, 13]]),
    "run lengths": lambda b: b["annotations"][0].update(segmentation={"size": [30, 40], "counts": [1200]}),
    "keypoints": lambda b: b["annotations"][0].update(keypoints=[4, 5, 2]),
    "categories the other way round": lambda b: b["categories"].reverse(),
    "over the border by rounding": lambda b: b["annotations"][0].update(bbox=[0, 0, 40.005, 30.005]),
    "integers": lambda b: [a.update(bbox=[int(x) for x in a["bbox"]]) for a in b["annotations"]],
    "beyond the format": lambda b: [x.update(licence=1, ignore=0) for x in b["annotations"]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_perfect_predictions_are_perfect_for_detectron2(change, bbui, root):
    change(bbui)
    validate_bbui(bbui, root)
    write_json(root / "all.json", bbui)
    assert average_precision(root / "all.json", root) == pytest.approx(100, abs=1e-6)


REFUSED = {
    "annotation id 0": lambda b: renumber(b, 1, 0),
    "an area that the evaluation ignores": lambda b: b["annotations"][0].update(area=2e10),
    "a box without a width in float32": lambda b: b["annotations"][0].update(bbox=[30, 20, 1e-7, 5]),
    "more ROIs than the evaluation looks at": lambda b: (
        many(b),
        b["annotations"].append({**b["annotations"][-1], "id": 9}),
    ),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_the_evaluation_would_count_as_missed_is_refused(change, bbui, root):
    before = copy.deepcopy(bbui)
    change(bbui)
    assert bbui != before
    with pytest.raises(BBUIError):
        validate_bbui(bbui, root)


def test_the_ids_that_pycocotools_matches(bbui, root):
    """That of annotation 0 is why such files are refused: its box counts as missed."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    renumber(bbui, 1, 0)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = bbui
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([{**a, "score": 1.0} for a in copy.deepcopy(bbui["annotations"])]), "bbox")
        evaluation.evaluate(), evaluation.accumulate()
    assert np.isclose(evaluation.eval["precision"][..., 0, 0, 2].mean(axis=(0, 1)), 0)
