#!/usr/bin/env bash
# Detectron2's COCOEvaluator (sal-detectron2 0.7.2) hands max_dets_per_image to pycocotools (2.0.11) as [1, 10, N], which
# pycocotools sorts. The last entry is the limit for AP, so that every N below 10 means 10, and nothing says so.
# Four images with one lesion each; a box on the lesion, and a second one beside it with a lower score:
#   max_dets_per_image=1:                       AP  71.2 (the summary says maxDets= 10), as without a limit
#   the best box of each image alone was given: AP 100.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools==2.0.11 tabulate \
    "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
cd "$folder"
PYTHONPATH="$folder/detectron2" venv/bin/python -W ignore - <<'END'
import json

import torch

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

IDS = (1, 2, 3, 4)
truth = {
    "info": {},
    "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in IDS],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 60, 60], "area": 3600, "iscrowd": 0} for i in IDS
    ],
    "categories": [{"id": 1, "name": "lesion"}],
}
with open("truth.json", "w") as file:
    json.dump(truth, file)
register_coco_instances("lesions", {}, "truth.json", ".")
DatasetCatalog.get("lesions")


def average_precision(boxes, limit):
    evaluator = COCOEvaluator("lesions", ("bbox",), distributed=False, max_dets_per_image=limit, use_fast_impl=False)
    evaluator.reset()
    for i in IDS:
        found = Instances((200, 200))
        found.pred_boxes = Boxes(torch.tensor([[10.0, 10, 70, 70], [120.0, 120, 180, 180]][:boxes]))
        found.scores = torch.tensor([1 - 0.1 * i, 0.95 - 0.1 * i][:boxes])
        found.pred_classes = torch.zeros(boxes, dtype=torch.long)
        evaluator.process([{"image_id": i}], [{"instances": found}])
    return evaluator.evaluate()["bbox"]["AP"]


both, limited, alone = average_precision(2, None), average_precision(2, 1), average_precision(1, 1)
print(f"AP: both boxes {both:.1f}, limited to one {limited:.1f}, the best one alone {alone:.1f}")
assert limited == both < 72 and alone == 100
END
