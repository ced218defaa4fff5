#!/usr/bin/env bash
# map-boxes 1.0.6 (Mean-Average-Precision-for-Boxes): mean_average_precision_for_boxes goes through the images that have an
# annotation, and no others. False marks on images without lesion cost nothing; exclude_not_in_annotations=False, the default,
# changes nothing. It also matches boxes in the order of the rows, not of the scores: the first box on a lesion takes it. Ten
# images with a lesion each:
#   all found (score 0.5), and a false mark (score 0.9) on each of ten normal images: AP50 1.00; pycocotools says 0.50
#   all found twice, the second box with a lower score, best rows first:              AP50 1.00, as pycocotools says
#   the same rows, turned round:                                                      AP50 0.50; pycocotools says 1.00
# A row of the class "nan" for each normal image brings the first AP to 0.50.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    map-boxes==1.0.6 pycocotools==2.0.11 pandas==2.3.3 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import contextlib
import io

import numpy as np
from map_boxes import mean_average_precision_for_boxes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IMAGES = range(1, 21)  # the first ten with a lesion, all in one place
LESIONS = [[str(i), "lesion", 40, 100, 40, 100] for i in IMAGES[:10]]  # image, class, x1, x2, y1, y2
NORMAL = [[str(i), "nan", 0, 0, 0, 0] for i in IMAGES[10:]]


def marks(images, scores, shift=0):
    return [[str(i), "lesion", score, 40 + shift, 100 + shift, 40, 100] for i, score in zip(images, scores)]


def map_boxes(truth, found, **options):
    rows = (np.array(x, dtype=object) for x in (truth, found))
    return mean_average_precision_for_boxes(*rows, iou_threshold=0.5, verbose=False, **options)[0]


def coco(found):
    def entry(image, x1, x2, y1, y2):
        return {"image_id": int(image), "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i, "width": 200, "height": 200} for i in IMAGES],
            "annotations": [{"id": i, "iscrowd": 0, **entry(row[0], *row[2:])} for i, row in enumerate(LESIONS, 1)],
            "categories": [{"id": 1, "name": "lesion"}],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([{"score": r[2], **entry(r[0], *r[3:])} for r in found]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[1]


false_marks = marks(IMAGES[:10], 10 * [0.5]) + marks(IMAGES[10:], 10 * [0.9])
twice = marks(IMAGES[:10], np.arange(0.90, 0.44, -0.05)) + marks(IMAGES[:10], np.arange(0.40, 0.03, -0.04), shift=5)
results = {
    "false marks on normal images": (map_boxes(LESIONS, false_marks), coco(false_marks)),
    "the same, images outside of the annotations excluded": (
        map_boxes(LESIONS, false_marks, exclude_not_in_annotations=True),
        coco(false_marks[:10]),
    ),
    'the same, normal images as rows of class "nan"': (map_boxes(LESIONS + NORMAL, false_marks), coco(false_marks)),
    "lesions found twice, best rows first": (map_boxes(LESIONS, twice), coco(twice)),
    "the same rows, turned round": (map_boxes(LESIONS, twice[::-1]), coco(twice[::-1])),
}
for name, (value, reference) in results.items():
    print(f"{name}: AP50 {value:.2f}, pycocotools {reference:.2f}")
assert np.allclose(list(results.values()), [[1, 0.5], [1, 1], [0.5, 0.5], [1, 1], [0.5, 1]], atol=0.005)
END
