#!/usr/bin/env bash
# grand-challenge-metrics 0.6.0 (once evalutils): get_bootstrapped_roc_ci_curves draws its samples from all rows but the last,
# since the upper limit of the random numbers is left out twice. get_bootstrapped_ci_point_error draws in the same way. What
# the last row is then decides. 40 cases, 20 of them malignant, all in order but one malignant case with the lowest score:
#   the missed case in the last row:  AUC 0.950, 95% interval 1.000 to 1.000, mean sensitivity 1.000 at 10% false positives
#   the same rows, it in the first:   AUC 0.950, 95% interval 0.826 to 1.000, mean sensitivity 0.945
#   scikit-learn's AUC of 1000 samples of all rows: 0.857 to 1.000 and 0.842 to 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    grand-challenge-metrics==0.6.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from grand_challenge_metrics.roc import get_bootstrapped_roc_ci_curves
from sklearn.metrics import roc_auc_score

truth = np.repeat([0, 1], 20)
scores = np.concatenate([np.linspace(0.05, 0.45, 20), np.linspace(0.90, 0.52, 19), [0.02]])


def of_all_rows(scores, truth):
    random = np.random.RandomState(0)
    samples = (random.randint(0, len(truth), len(truth)) for _ in range(1000))
    areas = [roc_auc_score(truth[x], scores[x]) for x in samples if 0 < truth[x].sum() < len(truth)]
    return np.quantile(areas, [0.025, 0.975])


results = {}
for name, order in {"missed case last": np.arange(40), "missed case first": np.roll(np.arange(40), 1)}.items():
    rows = scores[order], truth[order]
    area = roc_auc_score(rows[1], rows[0])
    curves = get_bootstrapped_roc_ci_curves(*rows, num_bootstraps=1000)
    at_ten = curves.mean_tpr_vals[np.argmin(np.abs(curves.fpr_vals - 0.1))]
    reference = of_all_rows(*rows)
    results[name] = (area, curves.low_az_val, curves.high_az_val, at_ten)
    print(
        f"{name}: AUC {area:.3f}, interval {curves.low_az_val:.3f} to {curves.high_az_val:.3f}, sensitivity {at_ten:.3f};"
        f" samples of all rows {reference[0]:.3f} to {reference[1]:.3f}"
    )
    assert 0.80 < reference[0] < 0.87 and reference[1] > 0.99
assert np.allclose(results["missed case last"], (0.95, 1, 1, 1))
assert np.allclose(results["missed case first"], (0.95, 0.826, 1, 0.945), atol=0.001)
END
