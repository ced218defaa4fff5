#!/usr/bin/env bash
# globox 2.9.0 writes COCO annotations with ids from 0 on; pycocotools 2.0.11 takes a match with id 0 for no match.
# Three images with one box each, and the same three boxes as detections:
#   annotations numbered 1, 2, 3: AP 1.00
#   the file after AnnotationSet.from_coco(...).save_coco(...): ids 0, 1, 2 and AP 0.44
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check globox==2.9.0 pycocotools==2.0.11
cd "$folder"
venv/bin/python - <<'END'
import contextlib
import io
import json

import globox
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOX = [10, 10, 30, 30]
content = {
    "info": {},
    "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 100} for i in (1, 2, 3)],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": BOX, "area": 900, "iscrowd": 0} for i in (1, 2, 3)
    ],
    "categories": [{"id": 1, "name": "lesion"}],
}


def average_precision(path):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        detections = [{"image_id": i, "category_id": 1, "bbox": BOX, "score": 0.9} for i in truth.getImgIds()]
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


with open("before.json", "w") as file:
    json.dump(content, file)
globox.AnnotationSet.from_coco("before.json").save_coco("after.json", auto_ids=True)
with open("after.json") as file:
    ids = sorted(annotation["id"] for annotation in json.load(file)["annotations"])
before, after = average_precision("before.json"), average_precision("after.json")
print(f"AP before: {before:.2f}; ids after: {ids}, AP after: {after:.2f}")
assert ids == [0, 1, 2] and before == 1 and round(after, 2) == 0.44
END
