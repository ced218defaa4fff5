import json
import logging
from collections import OrderedDict

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators, print_csv_format
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.structures import Boxes, BoxMode, Instances
from tsdd_d2.evaluation import DiagnosisEvaluator, LocalisationEvaluator
from tsdd_d2.evaluation.localisation import chosen_box_iou, class_agnostic_average_precision, one_box_a_lesion

DATASET = "tsdd_test_localisation"


def image(image_id, patient, rois, **extra):
    return {
        "image_id": image_id,
        "file_name": f"/data/Images/{image_id}.png",
        "height": 100,
        "width": 100,
        "patient_id": patient,
        "category_id": image_id % 2,
        "annotations": [
            {"bbox": roi, "bbox_mode": BoxMode.XYWH_ABS, "category_id": image_id % 2, "iscrowd": 0} for roi in rois
        ],
        **extra,
    }


IMAGES = [
    image(0, "a", [[10, 10, 20, 20]]),
    image(1, "a", [[0, 0, 40, 20]]),
    image(2, "b", [[10, 10, 10, 10], [50, 50, 20, 20]]),
    image(3, "c", []),
    image(4, "d", [[30, 30, 30, 30]]),
]
# image id -> [(XYXY box, score)]
PREDICTIONS = {
    0: [([10, 10, 30, 30], 0.9), ([60, 60, 90, 90], 0.3)],  # IoU 1
    1: [([0, 0, 20, 20], 0.8)],  # IoU 400 / 800 = 0.5
    2: [([50, 55, 70, 70], 0.7), ([10, 10, 20, 20], 0.6)],  # IoU 300 / 400 = 0.75 with the second ROI
    3: [([5, 5, 9, 9], 0.5)],  # no ROI to compare with
    4: [],  # nothing found: IoU 0
}


@pytest.fixture
def register():
    def register_images(images):
        if DATASET in DatasetCatalog.list():
            DatasetCatalog.remove(DATASET)
        DatasetCatalog.register(DATASET, lambda: images)

    register_images(IMAGES)
    yield register_images
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.pop(DATASET, None)


def run(evaluator, images=IMAGES, predictions=PREDICTIONS):
    evaluator.reset()
    for input_ in images:
        predicted = predictions[input_["image_id"]]
        instances = Instances((input_["height"], input_["width"]))
        boxes = torch.tensor([box for box, _ in predicted], dtype=torch.float32)
        instances.pred_boxes = Boxes(boxes.reshape(-1, 4))
        instances.scores = torch.tensor([score for _, score in predicted])
        instances.malignancy = instances.scores
        evaluator.process([input_], [{"instances": instances}])
    return evaluator.evaluate()


@pytest.mark.parametrize(
    "boxes, gt_boxes, expected",
    [
        ([[0, 0, 10, 10]], [[0, 0, 10, 10]], 1),
        ([[0, 0, 10, 10]], [[5, 0, 15, 10]], 50 / 150),
        ([[0, 0, 10, 10]], [[20, 20, 30, 30]], 0),
        ([[0, 0, 10, 10], [20, 20, 30, 30]], [[20, 20, 30, 30], [0, 0, 10, 20]], 0.5),  # first box, best ROI
        ([], [[0, 0, 10, 10]], 0),
        ([[0, 0, 10, 10]], [], np.nan),
    ],
)
def test_chosen_box_iou_by_hand(boxes, gt_boxes, expected):
    assert chosen_box_iou(boxes, gt_boxes) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_overlap_by_hand(register):
    results = run(LocalisationEvaluator(DATASET, bootstrap=0))["localisation"]
    assert results["mean_iou"] == pytest.approx((1 + 0.5 + 0.75 + 0) / 4)
    assert results["share_iou50"] == pytest.approx(3 / 4)  # an IoU of exactly 0.5 counts
    assert set(results) == {"AP", "AP50", "AP75", "mean_iou", "share_iou50"}


def test_average_precision_by_hand():
    # one of two lesions found at IoU 0.8, nothing else: precision 1 up to recall 0.5, which is 51 of COCO's
    # 101 recall points, at the 7 thresholds 0.5 ... 0.8
    results = class_agnostic_average_precision([[[0, 0, 10, 10]], [[0, 0, 10, 10]]], [[[0, 0, 10, 8]], []], [[0.9], []])
    assert results == pytest.approx({"AP": 0.7 * 51 / 101, "AP50": 51 / 101, "AP75": 51 / 101})


def test_average_precision_equals_pycocotools(tmp_path):
    """Random boxes of two classes, written to files and evaluated by COCOeval with its default parameters."""
    rng = np.random.default_rng(0)
    gt_boxes, boxes, scores, annotations, results = [], [], [], [], []
    for image_id in range(30):
        corners = rng.uniform(0, 100, (1 + image_id % 2, 2))
        gt = np.hstack([corners, corners + rng.uniform(10, 100, corners.shape)])
        found = np.repeat(gt, 3, axis=0) + rng.normal(size=(3 * len(gt), 4)) * rng.choice([1, 5, 20])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        gt_boxes.append(gt.tolist())
        boxes.append(found.tolist())
        scores.append(np.round(rng.uniform(size=len(found)), 2).tolist())
        for x0, y0, x1, y1 in gt:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1 + image_id % 2,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
        for (x0, y0, x1, y1), score in zip(found, scores[-1]):
            results.append(
                {
                    "image_id": image_id,
                    "category_id": int(rng.integers(1, 3)),
                    "score": score,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    (tmp_path / "gt.json").write_text(
        json.dumps(
            {
                "images": [{"id": image_id} for image_id in range(30)],
                "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
                "annotations": annotations,
            }
        )
    )
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "gt.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "bbox")
    evaluation.params.useCats = 0
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()

    average_precision = class_agnostic_average_precision(gt_boxes, boxes, scores)
    assert list(average_precision.values()) == pytest.approx(evaluation.stats[:3].tolist(), abs=1e-12)
    assert 0.1 < average_precision["AP75"] < average_precision["AP50"] < 0.9


def test_evaluator_gives_all_boxes_of_annotated_images_to_coco(register):
    results = run(LocalisationEvaluator(DATASET, bootstrap=0))["localisation"]
    annotated = [0, 1, 2, 4]
    expected = class_agnostic_average_precision(
        [[[10, 10, 30, 30]], [[0, 0, 40, 20]], [[10, 10, 20, 20], [50, 50, 70, 70]], [[30, 30, 60, 60]]],
        [[box for box, _ in PREDICTIONS[i]] for i in annotated],
        [[score for _, score in PREDICTIONS[i]] for i in annotated],
    )
    assert {name: results[name] for name in expected} == pytest.approx(expected)
    # 5 lesions; scores fall 0.9 hit, 0.8 hit, 0.7 hit, 0.6 hit, 0.3 miss: precision 1 up to recall 0.8
    assert results["AP50"] == pytest.approx(81 / 101)


def test_a_lesion_found_in_both_classes_counts_once(register):
    """Detectors suppress boxes within a class alone. 9 x 10 pixels of 10 x 10 are an IoU of 0.9, 5 x 10 one of 0.5."""
    boxes = [[0, 0, 9, 10], [0, 0, 10, 10], [0, 0, 5, 10]]
    assert one_box_a_lesion(boxes, [0.2, 0.8, 0.4]) == ([boxes[1], boxes[2]], [0.8, 0.4])


def test_no_prediction_is_zero_not_nan(register):
    results = run(LocalisationEvaluator(DATASET, bootstrap=0), predictions={i: [] for i in range(5)})
    expected = {"AP": 0, "AP50": 0, "AP75": 0, "mean_iou": 0, "share_iou50": 0}
    assert results["localisation"] == expected


def test_no_annotation_is_nan(register):
    register([image(i, "a", []) for i in range(5)])
    results = run(LocalisationEvaluator(DATASET, bootstrap=20))["localisation"]
    assert np.isnan(list(results.values())).all()


def test_true_boxes_of_the_phantom(register):
    # the truth is known for the partially annotated image 3, too
    true = {0: [10, 10, 20, 40], 3: [5, 5, 4, 4]}
    images = [{**IMAGES[i], **({"true_bbox": true[i]} if i in true else {})} for i in range(5)]
    register(images)
    results = run(LocalisationEvaluator(DATASET, bootstrap=50), images)["localisation"]
    assert results["mean_iou_true"] == pytest.approx((0.5 + 1) / 2)
    assert results["share_iou50_true"] == 1
    assert results["mean_iou_true_low"] <= 0.75 <= results["mean_iou_true_high"]
    assert results["mean_iou"] == pytest.approx(2.25 / 4)


def test_intervals_are_over_patients(register):
    # two patients with 20 equal images each, IoU 1 and 0: a resample has mean 0, 0.5 or 1
    images = [image(i, "ab"[i % 2], [[10, 10, 20, 20]]) for i in range(40)]
    predictions = {i: [([10, 10, 30, 30], 0.9)] if i % 2 else [] for i in range(40)}
    register(images)
    results = run(LocalisationEvaluator(DATASET), images, predictions)["localisation"]
    assert (results["mean_iou"], results["mean_iou_low"], results["mean_iou_high"]) == (0.5, 0, 1)
    assert (results["share_iou50_low"], results["share_iou50_high"]) == (0, 1)


def test_report(register, tmp_path):
    results = run(LocalisationEvaluator(DATASET, str(tmp_path), bootstrap=20))["localisation"]
    report = json.loads((tmp_path / f"localisation_{DATASET}.json").read_text())
    assert (report["num_images"], report["num_images_without_annotation"]) == (5, 1)
    assert report["num_images_without_instance"] == 1
    assert report["metrics"]["AP50"] == {"value": results["AP50"]}
    assert report["metrics"]["mean_iou"]["low"] == results["mean_iou_low"]
    assert report["predictions"][2] == {
        "image_id": 2,
        "file_name": "2.png",
        "patient_id": "b",
        "box": [50, 55, 70, 70],
        "score": pytest.approx(0.7),
        "iou": 0.75,
        "iou_true": None,
    }
    assert report["predictions"][4]["box"] is None


def test_together_with_the_diagnosis(register):
    results = run(
        DatasetEvaluators([LocalisationEvaluator(DATASET, bootstrap=20), DiagnosisEvaluator(DATASET, bootstrap=20)])
    )
    assert list(results) == ["localisation", "diagnosis", "diagnosis_patient"]
    print_csv_format(results)
    assert all(type(value) is float for value in flatten_results_dict(results).values())


def test_nothing_processed(register):
    assert run(LocalisationEvaluator(DATASET), images=[]) == OrderedDict()


def test_images_that_were_not_processed_are_said(register, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tsdd_d2"), "propagate", True)  # a training tool's set-up stops it
    results = run(LocalisationEvaluator(DATASET, bootstrap=0), IMAGES[:2])["localisation"]
    assert results["mean_iou"] == pytest.approx(0.75)
    assert "3 of the 5 images" in caplog.text


def test_image_of_another_data_set(register):
    stranger = image(9, "z", [])
    with pytest.raises(ValueError, match=r"Image 9 \(9.png\) is not in data set 'tsdd_test_localisation'"):
        run(LocalisationEvaluator(DATASET), [stranger], {9: []})


def test_box_that_is_not_finite_names_the_image(register):
    with pytest.raises(ValueError, match=r"Image 0 \(0.png\): a predicted box"):
        run(LocalisationEvaluator(DATASET), IMAGES[:1], {0: [([0, 0, float("nan"), 1], 0.5)]})


def test_negative_bootstrap():
    with pytest.raises(ValueError, match="bootstrap"):
        LocalisationEvaluator(DATASET, bootstrap=-1)


def test_all_boxes_are_written_as_coco_results(register, tmp_path):
    """As tools/visualize_json_results.py of Detectron2 reads them: ids of the file, XYWH."""
    MetadataCatalog.get(DATASET).thing_dataset_id_to_contiguous_id = {1: 0, 2: 1}
    evaluator = LocalisationEvaluator(DATASET, str(tmp_path), bootstrap=0)
    evaluator.reset()
    for input_ in IMAGES[:2]:
        instances = Instances((100, 100))
        instances.pred_boxes = Boxes(torch.tensor([[10.0, 20.0, 40.0, 30.0]]))
        instances.scores, instances.pred_classes = torch.tensor([0.5]), torch.tensor([input_["image_id"] % 2])
        evaluator.process([input_], [{"instances": instances}])
    evaluator.evaluate()
    results = json.loads((tmp_path / DATASET / "coco_instances_results.json").read_text())
    assert [(x["image_id"], x["category_id"], x["bbox"], x["score"]) for x in results] == [
        (0, 1, [10, 20, 30, 10], 0.5), (1, 2, [10, 20, 30, 10], 0.5),
    ]  # fmt: skip
