#!/usr/bin/env bash
# imantics 0.1.12 writes masks as COCO annotations whose boxes lack the last column and the last row: the width is the difference
# of the last and the first column, without the 1 for the column itself. "area" counts all pixels. Nothing is said.
# A lesion of 15 x 10 pixels from column 10 and row 20 on:
#   bbox 10, 20, 14, 9 (126 pixels), area 150; pycocotools' box of the same mask is 10, 20, 15, 10
# A detector whose boxes are those of the masks of ten lesions of 8 to 17 pixels has an AP of 0.69 against this file in place
# of 1.00.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    imantics==0.1.12 opencv-python-headless==5.0.0.93 numpy==2.4.6 pycocotools==2.0.11
"$folder/venv/bin/python" -W ignore - <<'END'
import contextlib
import io

import numpy as np
from imantics import Category, Image, Mask
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def lesion(column, row, width, height):
    mask = np.zeros((60, 80), bool)
    mask[row : row + height, column : column + width] = True
    return mask


masks = [lesion(10, 20, 15, 10)] + [lesion(10, 20, side, side) for side in range(8, 18)]
images = []
for number, mask in enumerate(masks, start=1):
    image = Image(image_array=np.zeros((60, 80, 3), np.uint8), id=number)
    image.add(Mask(mask), category=Category("lesion", id=1))
    images.append(image.coco())
annotations = [x["annotations"][0] for x in images]
boxes = [rle.toBbox(rle.encode(np.asfortranarray(mask, np.uint8))).tolist() for mask in masks]
print(f"imantics: bbox {list(annotations[0]['bbox'])}, area {annotations[0]['area']}; pycocotools: bbox {boxes[0]}")
assert list(annotations[0]["bbox"]) == [10, 20, 14, 9] and annotations[0]["area"] == 150
assert boxes[0] == [10, 20, 15, 10]

with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(1, 11)],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": list(x["bbox"]), "area": x["area"], "iscrowd": 0}
            for i, x in enumerate(annotations[1:], start=1)
        ],
    }
    truth.createIndex()
    found = truth.loadRes(
        [{"image_id": i, "category_id": 1, "bbox": box, "score": 1.0} for i, box in enumerate(boxes[1:], start=1)]
    )
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
print(f"AP of the boxes of the masks: {evaluation.stats[0]:.2f}")
assert round(evaluation.stats[0], 2) == 0.69
END
