#!/usr/bin/env bash
# statkit 1.1.0: sensitivity() calls a case positive from the threshold on (>=), specificity() only above it (>), though both
# describe the threshold in the same words. A case whose score is the threshold counts as found where it is malignant and as
# cleared where it is benign. Categories such as BI-RADS put many cases there, and youden_j_threshold() gives such a score.
# 200 cases, 80 of them malignant, read as BI-RADS 2 to 5; biopsy from category 4 on:
#   sensitivity 0.95, specificity 0.90, so Youden's J 0.85; 0.95, 0.65 and 0.60 are meant
#   (biopsy above category 4: 0.55, 0.90 and 0.45 are meant)
#   sensitivity + false_negative_rate: 1.40
# The calls as 0 and 1 instead of the categories give 0.95 and 0.65.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    statkit==1.1.0 scikit-learn==1.9.1 pandas==2.3.3 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from sklearn.metrics import recall_score
from statkit.metrics import false_negative_rate, sensitivity, specificity, youden_j_threshold

BENIGN = {2: 48, 3: 30, 4: 30, 5: 12}  # cases of each category
MALIGNANT = {2: 1, 3: 3, 4: 32, 5: 44}
scores = np.concatenate([np.repeat(list(x), list(x.values())) for x in (BENIGN, MALIGNANT)])
truth = np.repeat([0, 1], [sum(BENIGN.values()), sum(MALIGNANT.values())])
threshold = youden_j_threshold(truth, scores)
assert threshold == 4


def of_calls(calls):
    return recall_score(truth, calls), recall_score(truth, calls, pos_label=0)


results = {
    "statkit, categories, threshold 4": (sensitivity(truth, scores, threshold), specificity(truth, scores, threshold)),
    "biopsy from 4 on (scikit-learn)": of_calls(scores >= 4),
    "biopsy above 4 (scikit-learn)": of_calls(scores > 4),
    "statkit, calls from 4 on": tuple(f(truth, (scores >= 4).astype(int)) for f in (sensitivity, specificity)),
}
for name, (found, cleared) in results.items():
    print(f"{name}: sensitivity {found:.2f}, specificity {cleared:.2f}, Youden's J {found + cleared - 1:.2f}")
both = sensitivity(truth, scores, threshold) + false_negative_rate(truth, scores, threshold)
print(f"sensitivity + false_negative_rate: {both:.2f}")
assert np.allclose(list(results.values()), [(0.95, 0.90), (0.95, 0.65), (0.55, 0.90), (0.95, 0.65)])
assert abs(both - 1.40) < 1e-9
END
