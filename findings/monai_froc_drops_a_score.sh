#!/usr/bin/env bash
# MONAI 1.6.1: compute_froc_curve_data leaves out the lowest score that occurs. A lesion without detection has score 0, so nothing is
# lost while one is missed; where all are found, all that were found with the lowest score are lost.
# Ten images with a lesion each and marks on them that have one of three scores (0.3, 0.6, 0.9), as a reader's would:
#   all lesions found, 4 of them with 0.3:          FROC score 0.60; 1.00 is meant
#   the same, but one of these 4 is missed:         FROC score 0.90
#   all found and a false mark with 0.1 besides:    FROC score 1.00
#   all found, each with score 1 (masks, say):      FROC score 0.00; 1.00 is meant
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 monai==1.6.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import numpy as np
from monai.metrics import compute_froc_curve_data, compute_froc_score
from monai.metrics.froc import compute_fp_tp_probs

LESION, ELSEWHERE = 15, 50  # row and column of a mark
mask = np.zeros((64, 64), dtype=int)
mask[10:20, 10:20] = 1


def froc_score(images):
    """Images as lists of (score, place); one lesion each."""
    false, true, lesions = [], [], 0
    for marks in images:
        scores = np.array([score for score, _ in marks])
        places = np.array([place for _, place in marks])
        fp, tp, count = compute_fp_tp_probs(scores, places, places, mask)
        false, true, lesions = [*false, *fp], [*true, *tp], lesions + count
    return compute_froc_score(*compute_froc_curve_data(np.array(false), np.array(true), lesions, len(images)))


found = [[(score, LESION)] for score in 4 * [0.3] + 3 * [0.6] + 3 * [0.9]]
results = {
    "all found": froc_score(found),
    "one missed": froc_score([[], *found[1:]]),
    "all found and a false mark": froc_score([[(0.3, LESION), (0.1, ELSEWHERE)], *found[1:]]),
    "all found, one score": froc_score(10 * [[(1.0, LESION)]]),
}
for name, score in results.items():
    print(f"{name}: FROC score {score:.2f}")
assert np.allclose(list(results.values()), [0.6, 0.9, 1, 0])
END
