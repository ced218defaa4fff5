#!/usr/bin/env bash
# batchgenerators 0.25.5: ConvertSegToBoundingBoxCoordinates gives boxes that begin a pixel before the lesion, above and on the
# left, and end where it ends: 1 is taken from the first row and column, and added to the last. Nothing is said.
# A lesion of 10 rows from row 20 on and 15 columns from column 10 on (y1, x1, y2, x2):
#   box 19, 9, 30, 25; 20, 10, 30, 25 is meant (as edges; 20, 10, 29, 24 would be the first and last pixels)
# A detector that finds ten lesions of 8 to 17 pixels without a fault has an AP of 0.72 against these boxes in place of 1.00.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    batchgenerators==0.25.5 numpy==2.4.6 pycocotools==2.0.11
"$folder/venv/bin/python" -W ignore - <<'END'
import contextlib
import io

import numpy as np
from batchgenerators.transforms.utility_transforms import ConvertSegToBoundingBoxCoordinates
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

lesions = [(20, 10, 10, 15)] + [(20, 10, side, side) for side in range(8, 18)]  # row, column, height, width
masks = np.zeros((len(lesions), 1, 60, 80), int)
for mask, (y, x, height, width) in zip(masks, lesions):
    mask[0, y : y + height, x : x + width] = 1
transform = ConvertSegToBoundingBoxCoordinates(dim=2, get_rois_from_seg_flag=False)
classes = np.zeros((len(lesions), 1), int)
boxes = transform(data=np.zeros(masks.shape), seg=masks, class_target=classes)["bb_target"][:, 0].tolist()
true = [[y, x, y + height, x + width] for y, x, height, width in lesions]
print(f"batchgenerators: {boxes[0]}; meant: {true[0]}")
assert boxes[0] == [19, 9, 30, 25]


def xywh(box):
    y1, x1, y2, x2 = box
    return [x1, y1, x2 - x1, y2 - y1]


with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(1, 11)],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": xywh(box), "area": 100, "iscrowd": 0}
            for i, box in enumerate(boxes[1:], start=1)
        ],
    }
    truth.createIndex()
    found = truth.loadRes(
        [{"image_id": i, "category_id": 1, "bbox": xywh(box), "score": 1.0} for i, box in enumerate(true[1:], start=1)]
    )
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
print(f"AP of the boxes that are meant: {evaluation.stats[0]:.2f}")
assert round(evaluation.stats[0], 2) == 0.72
END
