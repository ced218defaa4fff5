#!/usr/bin/env bash
# kornia 0.9.0: the flips of AugmentationSequential put boxes a pixel beside what they are around. kornia takes xyxy boxes as
# edges (their width is xmax - xmin, as Boxes.from_tensor documents), and flips them as if they were centres of pixels: x comes
# to w - 1 - x instead of w - x. Nothing is said. A lesion of 10 x 10 pixels, drawn as ones in an image of 50 x 50, with its box:
#   horizontal flip:   box 29 to 39, pixels 30 to 40, IoU 0.82
#   both flips:        IoU 0.68
# torchvision's flips of the same box are right. A perfect detector, tested on images that were flipped both ways, has an AP of
# 0.40 in place of 1.00, and who trains with a flip in every second image learns small lesions beside where they are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    kornia==0.9.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pycocotools==2.0.11
"$folder/venv/bin/python" -W ignore - <<'END'
import contextlib
import io

import kornia.augmentation as K
import torch
from kornia.geometry.boxes import Boxes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

image, box = torch.zeros(1, 1, 50, 50), torch.tensor([[[10.0, 20.0, 20.0, 30.0]]])
image[..., 20:30, 10:20] = 1
# kornia's own word for what these four numbers mean: 10 wide and 10 high
assert [x.item() for x in Boxes.from_tensor(box, mode="xyxy").get_boxes_shape()] == [10, 10]


def box_of_pixels(x):
    """XYXY of the ones, as edges."""
    y, x = (x[0, 0] > 0.5).nonzero().T
    return torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]]).float()


flip, both = [K.RandomHorizontalFlip(p=1.0)], [K.RandomHorizontalFlip(p=1.0), K.RandomVerticalFlip(p=1.0)]
tv_flip, tv_both = [v2.RandomHorizontalFlip(1.0)], [v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0)]
steps = {"horizontal flip": (flip, tv_flip), "both flips": (both, tv_both)}
seen = {}
for name, (of_kornia, of_torchvision) in steps.items():
    pixels, found = K.AugmentationSequential(*of_kornia, data_keys=["input", "bbox_xyxy"])(image, box)
    other = v2.Compose(of_torchvision)(BoundingBoxes(box[0], format="XYXY", canvas_size=(50, 50)))
    true = box_of_pixels(pixels)
    assert torch.equal(torch.as_tensor(other), true)
    label, lesion = seen[name] = found[0, 0].tolist(), true[0].tolist()
    print(f"{name}: kornia's box {label}, pixels {lesion}, IoU {box_iou(found[0], true).item():.2f}")
assert seen["horizontal flip"] == ([29, 20, 39, 30], [30, 20, 40, 30])
assert seen["both flips"] == ([29, 19, 39, 29], [30, 20, 40, 30])

# a perfect detector against the boxes that kornia moved
xywh = lambda x: [x[0], x[1], x[2] - x[0], x[3] - x[1]]
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": xywh(label), "area": 100, "iscrowd": 0}]}
    truth.createIndex()
    found = truth.loadRes([{"image_id": 1, "category_id": 1, "bbox": xywh(lesion), "score": 1.0}])
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
print(f"AP of a perfect detector on boxes flipped both ways: {evaluation.stats[0]:.2f}")
assert round(evaluation.stats[0], 2) == 0.40
END
