#!/usr/bin/env bash
# lesion-metrics 0.1.12: iou_per_lesion() looks at the two masks inside of the box around a lesion alone. What was
# outlined beyond this box does not count, so that too large an outline has an IoU of 1. ltpr() and lfdr(), the shares
# of the lesions that are found and of the outlined ones that are false, decide by this IoU, and too small an outline
# is never a false one. jaccard() of the same package is right. Ten images of 200 x 200 pixels with a lesion of 40 x
# 40, iou_threshold=0.5:
#   the lesion itself is outlined:    ltpr 1.0, lfdr 0.0, as meant
#   the whole image is outlined:      ltpr 1.0; IoU 1.00 in place of 0.04, so that 0.0 is meant
#   4 x 4 pixels in it are outlined:  lfdr 0.0; IoU 1.00 in place of 0.01, so that 1.0 is meant
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    lesion-metrics==0.1.12 scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from lesion_metrics.metrics import iou_per_lesion, jaccard, lfdr, ltpr

SIZE, THRESHOLD = 200, 0.5


def square(place, side):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[place : place + side, place : place + side] = True
    return mask


def by_hand(first, second):
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


results = {}
for name, offset, side in (("the lesion", 0, 40), ("the whole image", None, SIZE), ("4 x 4 pixels", 18, 4)):
    rows = []
    for place in range(20, 120, 10):
        lesion, outlined = square(place, 40), square(0 if offset is None else place + offset, side)
        (of_lesion,), (of_outlined,) = iou_per_lesion(lesion, outlined), iou_per_lesion(outlined, lesion)
        shares = [ltpr(outlined, lesion, iou_threshold=THRESHOLD), lfdr(outlined, lesion, iou_threshold=THRESHOLD)]
        right = by_hand(outlined, lesion)
        assert abs(jaccard(outlined, lesion) - right) < 1e-9
        rows.append([of_lesion, of_outlined, right, *shares, right > THRESHOLD, right <= THRESHOLD])
    results[name] = np.mean(rows, axis=0)
    text = "{}: IoU of the lesion {:.2f}, of the outlined {:.2f}, by hand {:.2f}; ".format(name, *results[name][:3])
    print(text + "ltpr {:.1f}, lfdr {:.1f}; meant {:.1f}, {:.1f}".format(*results[name][3:]))
assert np.allclose(results["the lesion"], [1, 1, 1, 1, 0, 1, 0])
assert np.allclose(results["the whole image"], [1, 0.04, 0.04, 1, 1, 0, 1])
assert np.allclose(results["4 x 4 pixels"], [0.01, 1, 0.01, 0, 0, 0, 1])
END
