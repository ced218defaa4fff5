#!/usr/bin/env bash
# coco-froc-analysis 0.2.15 (FROC curves of Detectron2's detections in COCO's format) asks of a detection no more than to be on an
# image with a lesion of its category. One that lies elsewhere, which its own rule (centre inside of the lesion's box) excludes,
# counts as a hit and not as a false positive; only those beyond the number of lesions are false positives.
# Four images of 200 x 200 with one lesion at 10, 10, and one detection each, by centre and by IoU:
#   on the lesions:       sensitivity 1.0 at 0.0 false positives per image
#   all of them 140 away: sensitivity 1.0 at 0.0 false positives per image; 0.0 at 1.0 is meant
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check coco-froc-analysis==0.2.15 numpy==1.26.4
cd "$folder"
TQDM_DISABLE=1 MPLBACKEND=Agg venv/bin/python - <<'END'
import json

from coco_froc_analysis.froc import generate_froc_curve

IMAGES = (1, 2, 3, 4)
LESION, ELSEWHERE = [10, 10, 30, 30], [150, 150, 30, 30]
truth = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in IMAGES],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": LESION, "area": 900, "iscrowd": 0} for i in IMAGES
    ],
    "categories": [{"id": 1, "name": "lesion"}],
}
with open("truth.json", "w") as file:
    json.dump(truth, file)
for name, box in (("on the lesions", LESION), ("elsewhere", ELSEWHERE)):
    with open("detections.json", "w") as file:
        json.dump([{"image_id": i, "category_id": 1, "bbox": box, "score": 0.9} for i in IMAGES], file)
    for by_iou in (False, True):
        sensitivity, false_positives = generate_froc_curve(
            "truth.json", "detections.json", use_iou=by_iou, iou_thres=0.5, n_sample_points=1, plot_title=None
        )
        rule = "IoU" if by_iou else "centre"
        point = f"sensitivity {sensitivity[1][0]} at {false_positives[1][0]} false positives per image"
        print(f"{name}, by {rule}: {point}")
        assert sensitivity == {1: [1.0]} and false_positives == {1: [0.0]}
END
