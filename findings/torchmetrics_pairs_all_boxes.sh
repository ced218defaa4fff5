#!/usr/bin/env bash
# torchmetrics 1.9.0: IntersectionOverUnion (and GIoU, DIoU and CIoU) is the mean over all pairs of a box and a lesion of a class
# in an image, not over boxes and the lesions that they found: a box is also compared with the lesions that it does not mean.
# So an image with two lesions has 0.5 at best, and one box too few can be better. 20 images with one lesion, 20 with two:
#   all 60 lesions found, exact boxes:  IoU 0.60 (1.00 is meant), GIoU 0.29 (1.00)
#   20 of the 60 lesions missed:        IoU 0.67 (0.67 is meant), GIoU 0.41
# So the detector that misses a third of the lesions is the better one. With iou_threshold=0.5 both have 1.00: misses are left out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 torchmetrics==1.9.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import torch
from torchmetrics.detection import GeneralizedIntersectionOverUnion, IntersectionOverUnion
from torchvision.ops import box_iou

FIRST, SECOND = [40.0, 50.0, 140.0, 110.0], [240.0, 160.0, 340.0, 220.0]
LESIONS = [[FIRST]] * 20 + [[FIRST, SECOND]] * 20


def marks(boxes):
    return [{"boxes": torch.tensor(x), "labels": torch.zeros(len(x), dtype=torch.long)} for x in boxes]


def value(metric, found):
    metric.update(marks(found), marks(LESIONS))
    return next(iter(metric.compute().values())).item()


def meant(found):
    """The mean over all lesions of the IoU with the best box."""
    best = [box_iou(torch.tensor(x), torch.tensor(y)).amax(0) for x, y in zip(found, LESIONS)]
    return torch.cat(best).mean().item()


results = {}
for name, found in (("all found", LESIONS), ("20 of 60 missed", [[FIRST]] * 40)):
    results[name] = [
        value(IntersectionOverUnion(), found), value(GeneralizedIntersectionOverUnion(), found),
        value(IntersectionOverUnion(iou_threshold=0.5), found), meant(found),
    ]
    print("{}: IoU {:.2f}, GIoU {:.2f}, IoU with a threshold {:.2f}; meant {:.2f}".format(name, *results[name]))
every, fewer = results.values()
assert abs(every[0] - 60 / 100) < 1e-6 and abs(every[3] - 1) < 1e-6  # 20 pairs, and 20 times 4, of which 60 overlap
assert abs(fewer[0] - 40 / 60) < 1e-6 and abs(fewer[3] - 40 / 60) < 1e-6
assert fewer[0] > every[0] and fewer[1] > every[1] and every[2] == fewer[2] == 1
END
