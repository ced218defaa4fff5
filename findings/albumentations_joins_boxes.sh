#!/usr/bin/env bash
# albumentations 2.0.8: Morphological, which names boxes among its targets, stacks the boxes as masks (box, row, column) and hands
# them to OpenCV as one image of (row, column, channel): it dilates or erodes across boxes and rows, and not across columns. So
# each of two boxes becomes a box around both, or, eroded, both are gone, without a word. The mask of the same call is right.
# Two lesions of 20 x 30 and 20 x 20, kernel 3 x 3, boxes as x1, y1, x2, y2:
#   before:  (10, 20, 30, 50) and (60, 60, 80, 80)
#   dilated: (10, 19, 80, 80) and (10, 20, 80, 81); by the mask (9, 19, 31, 51) and (59, 59, 81, 81)
#   eroded:  no boxes; by the mask (11, 21, 29, 49) and (61, 61, 79, 79)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    albumentations==2.0.8 numpy==2.4.6 opencv-python-headless==5.0.0.93 scipy==1.17.1
NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" - <<'END'
import albumentations
import numpy as np
from scipy.ndimage import find_objects

LESIONS = [[10, 20, 30, 50], [60, 60, 80, 80]]
mask = np.zeros((100, 100), np.uint8)
for label, (x1, y1, x2, y2) in enumerate(LESIONS, start=1):
    mask[y1:y2, x1:x2] = label
image = np.where(mask > 0, 40, 120).astype(np.uint8)


def boxes_after(operation):
    """Returns the boxes that albumentations gives, and those of the mask that it gives."""
    transform = albumentations.Compose(
        [albumentations.Morphological(scale=(3, 3), operation=operation, p=1)],
        bbox_params=albumentations.BboxParams(format="pascal_voc", label_fields=["labels"]),
    )
    result = transform(image=image, mask=mask, bboxes=LESIONS, labels=[1, 2])
    by_mask = [[x.start, y.start, x.stop, y.stop] for y, x in find_objects(result["mask"])]
    return np.round(result["bboxes"]).astype(int).tolist(), by_mask


results = {operation: boxes_after(operation) for operation in ("dilation", "erosion")}
for operation, (boxes, by_mask) in results.items():
    print(f"{operation}: {boxes}; by the mask: {by_mask}")
assert results["dilation"] == ([[10, 19, 80, 80], [10, 20, 80, 81]], [[9, 19, 31, 51], [59, 59, 81, 81]])
assert results["erosion"] == ([], [[11, 21, 29, 49], [61, 61, 79, 79]])
END
