#!/usr/bin/env bash
# MONAI 1.6.1: COCOMetric marks the precision of a class without a lesion by -1, as pycocotools does, but takes it into the mean
# as if it were an AP of -1; its AR leaves such a class out. The log says that no lesion was found for the class, not that this
# lowers the mAP. A fold or a hospital without one category is enough. 30 lesions of BI-RADS 2, 3 and 4, with BI-RADS 5 among
# the classes, mAP from IoU 0.5 to 0.95:
#   all found, exact boxes:   MONAI mAP 0.50, mAR 1.00; pycocotools 1.00, 1.00
#   every second one found:   MONAI mAP 0.13, mAR 0.50; pycocotools 0.50, 0.50
#   none found:               MONAI mAP -0.25, mAR 0.00; pycocotools 0.00, 0.00
# With the classes that occur, MONAI gives what pycocotools gives.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.1 monai==1.6.1 pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - 2>"$folder/log" <<'END' || { cat "$folder/log"; exit 1; }
import contextlib
import io

import numpy as np
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CLASSES = ["BI-RADS 2", "BI-RADS 3", "BI-RADS 4", "BI-RADS 5"]
LESION = np.array([[40.0, 50.0, 140.0, 110.0]])
TRUTH = [i % 3 for i in range(30)]  # the class of the lesion of each image


def monai(found, classes):
    metric = COCOMetric(classes, iou_list=[0.5], iou_range=(0.5, 0.95, 0.05), max_detection=[100])
    count = [int(x) for x in found]
    matches = matching_batch(
        iou_fn=box_iou, iou_thresholds=metric.iou_thresholds,
        pred_boxes=[LESION[:n] for n in count], gt_boxes=[LESION for _ in TRUTH],
        pred_classes=[np.full(n, x) for n, x in zip(count, TRUTH)], gt_classes=[np.array([x]) for x in TRUTH],
        pred_scores=[np.full(n, 0.9) for n in count],
    )
    result, _ = metric(matches)
    return [result[f"{name}_IoU_0.50_0.95_0.05_MaxDet_100"] for name in ("mAP", "mAR")]


def pycocotools(found):
    x1, y1, x2, y2 = LESION[0]
    box = [x1, y1, x2 - x1, y2 - y1]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(1, 31)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": x, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, x in enumerate(TRUTH, start=1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
    }
    marks = [
        {"image_id": i, "category_id": x, "bbox": box, "score": 0.9} for i, x in enumerate(TRUTH, start=1) if found[i - 1]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        result = truth.loadRes(marks) if marks else COCO()
        if not marks:
            result.dataset = {**truth.dataset, "annotations": []}
            result.createIndex()
        evaluation = COCOeval(truth, result, "bbox")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return [evaluation.stats[0], evaluation.stats[8]]


# 101 recalls, of which 51 are reached with half of the lesions
for name, found, meant in (
    ("all found", [True] * 30, [1, 1]),
    ("every second one found", [i // 3 % 2 == 0 for i in range(30)], [51 / 101, 0.5]),
    ("none found", [False] * 30, [0, 0]),
):
    four, three, reference = monai(found, CLASSES), monai(found, CLASSES[:3]), pycocotools(found)
    print("{}: MONAI mAP {:.2f}, mAR {:.2f}; with three classes {:.2f}, {:.2f}; pycocotools {:.2f}, {:.2f}".format(
        name, *four, *three, *reference
    ))
    assert np.allclose(reference, meant) and np.allclose(three, meant)
    assert np.allclose(four, [(3 * meant[0] - 1) / 4, meant[1]])
END
