#!/usr/bin/env bash
# seg-metrics 1.2.8: where one of the two masks is empty, all its distances (hd, hd95, msd, mdsd, stdsd) are 0, as of a perfect
# outline. An empty mask has no outline to be near to, so that the distance is infinite or undefined. It gets a map of distances
# that is 0 everywhere. With metrics=["hd95"] nothing is said; with "dice" a warning speaks of precision and recall alone.
# Ten images with a lesion of 20x20 pixels, Hausdorff distance in pixels:
#   all ten outlined, 4 pixels beside:                 mean 4.0, as by hand
#   five of them outlined so, the other five missed:   mean 2.0; a missed one has 0.0
#   a lesion drawn in an image without one:            0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    seg-metrics==1.2.8 medutils==0.1.21 SimpleITK==2.5.7 pandas==3.1.1 scipy==1.17.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
from scipy.spatial.distance import cdist
from seg_metrics.seg_metrics import write_metrics

NAMES = ["hd", "hd95", "msd"]


def square(x):
    """A mask of 100x100 pixels with a lesion of 20x20 from column x on, or without one."""
    mask = np.zeros((100, 100), np.uint8)
    if x is not None:
        mask[40:60, x : x + 20] = 1
    return mask


def distances(truth, outlined):
    result = write_metrics(labels=[1], gdth_img=truth, pred_img=outlined, metrics=NAMES)[0]
    return [float(result[name][0]) for name in NAMES]


def by_hand(truth, outlined):
    """The Hausdorff distance."""
    if not (truth.any() and outlined.any()):
        return np.inf
    each = cdist(np.argwhere(truth), np.argwhere(outlined))
    return max(each.min(axis=0).max(), each.min(axis=1).max())


cases = {"4 pixels beside": (40, 44), "missed": (40, None), "drawn where none is": (None, 40)}
results = {name: distances(*map(square, x)) for name, x in cases.items()}
right = {name: by_hand(*map(square, x)) for name, x in cases.items()}
for name, values in results.items():
    print(f"{name}: {dict(zip(NAMES, values))}, hd by hand {right[name]}")
beside, missed = results["4 pixels beside"], results["missed"]
print(f"mean hd of ten lesions: all outlined {np.mean([beside[0]] * 10)}, half missed {np.mean([beside[0], missed[0]] * 5)}")
assert beside[:2] == [4, 4] and right["4 pixels beside"] == 4
assert missed == results["drawn where none is"] == [0, 0, 0]
assert right["missed"] == right["drawn where none is"] == np.inf
END
