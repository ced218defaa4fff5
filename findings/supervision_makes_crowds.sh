#!/usr/bin/env bash
# supervision 0.31.2: DetectionDataset.as_coco() writes iscrowd=1 for a mask that has a hole or a second part. One
# pixel is enough: a caliper on the lesion, or a speck beside it. The description of as_coco() speaks of run lengths
# for such masks, not of crowds. COCO's evaluation does not count a crowd, and Detectron2 does not train on it. Nothing
# is said. 40 images with a lesion of 40 x 30 pixels each; in every second mask a caliper of 2 x 2 pixels is missing:
#   the COCO file:                           40 annotations, 20 of them crowds
#   detector of the 20 plain lesions alone:  AP 1.00, AR 1.00; 0.50 and 0.50 are meant
#   detector of the 20 other lesions alone:  AP 0.00, AR 0.00; 0.50 and 0.50 are meant
# With data={"iscrowd": [0]} in each Detections the values are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    supervision==0.31.2 pycocotools==2.0.11 opencv-python==5.0.0.93 scipy==1.17.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'END'
import contextlib
import io
import json

import numpy as np
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NUMBER, SIZE = 40, 100
paths, masks = [], []
for i in range(NUMBER):
    paths.append(f"{i:02}.png")
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(paths[-1])
    mask = np.zeros((SIZE, SIZE), bool)
    mask[10 + i : 50 + i, 5 + i : 35 + i] = True
    if i % 2:
        mask[28 + i : 30 + i, 20 + i : 22 + i] = False
    masks.append(mask)


def written(data):
    """Returns the content of the COCO file that the library makes of the masks."""
    lesions = {}
    for path, mask in zip(paths, masks):
        box = sv.mask_to_xyxy(mask[None], coordinate_convention="exclusive").astype(float)
        lesions[path] = sv.Detections(xyxy=box, mask=mask[None], class_id=np.array([0]), data=dict(data))
    sv.DetectionDataset(classes=["lesion"], images=paths, annotations=lesions).as_coco(annotations_path="lesions.json")
    with open("lesions.json") as file:
        return json.load(file)


def evaluated(content, found):
    """AP and AR of exact boxes on the lesions of the numbers in found."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        keys = ("image_id", "category_id", "bbox")
        boxes = [{"score": 0.9, **{key: content["annotations"][i][key] for key in keys}} for i in found]
        evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[8]


results = {}
for name, data in (("as it is", {}), ("with iscrowd 0 given", {"iscrowd": np.array([0])})):
    content = written(data)
    assert len(content["annotations"]) == NUMBER
    for i, annotation in enumerate(content["annotations"]):
        assert annotation["bbox"] == [5 + i, 10 + i, 30, 40]
    crowds = [annotation["iscrowd"] for annotation in content["annotations"]]
    plain, other = evaluated(content, range(0, NUMBER, 2)), evaluated(content, range(1, NUMBER, 2))
    results[name] = crowds, plain, other
    print("{}: {} crowds; plain lesions found: AP {:.2f}, AR {:.2f}; the others: AP {:.2f}, AR {:.2f}".format(
        name, sum(crowds), *plain, *other))
crowds, plain, other = results["as it is"]
assert crowds == [0, 1] * (NUMBER // 2) and plain == (1, 1) and other == (0, 0)
crowds, plain, other = results["with iscrowd 0 given"]
assert not any(crowds)
# half of the lesions are found, all at the first places: precision 1 up to recall 0.50, at 51 of the 101 places
assert plain == other and abs(plain[0] - 51 / 101) < 1e-6 and plain[1] == 0.5
END
