#!/usr/bin/env bash
# calzone-tool 0.1.0: its bins begin above their lower edge, the first one too. So reliability_diagram() and the metrics
# "ECE-H" and "MCE-H" leave out all cases with a probability of exactly 0, such as images where a detector has no box.
# With bins of equal numbers ("ECE-C", "MCE-C") the first edge is the least probability, and all cases that have it are
# left out, whatever it is. Nothing is said. 300 women, 100 for each value of the probability; at 0.4 and 0.8 the rates
# are right, at the least value 30 of the 100 have a cancer that was missed:
#   values 0, 0.4, 0.8:     200 of 300 counted, ECE-H 0.000, MCE-H 0.000; the same in bins of equal numbers
#   meant:                  ECE 0.100, MCE 0.300
#   values 0.05, 0.4, 0.8:  300 counted, ECE-H 0.083, MCE-H 0.250, as is meant; 200 counted, ECE-C 0.000, MCE-C 0.000
# So missed cancers make a perfect calibration. scikit-learn's calibration_curve() counts all. With 1e-6 in place of 0
# the bins of equal width are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    calzone-tool==0.1.0 statsmodels==0.15.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from calzone.metrics import CalibrationMetrics
from calzone.utils import reliability_diagram
from sklearn.calibration import calibration_curve

NUMBER = 100
KEYS = "ECE-H", "MCE-H", "ECE-C", "MCE-C"


def evaluated(values, positives):
    """Returns the numbers of counted cases, calzone's metrics, and the right ECE and MCE."""
    p = np.repeat(values, NUMBER)
    labels = np.concatenate([np.arange(NUMBER) < n for n in positives]).astype(int)
    columns = np.stack([1 - p, p], axis=1)
    counted = [int(reliability_diagram(labels, columns, num_bins=10, is_equal_freq=equal, class_to_plot=1)[3].sum())
               for equal in (False, True)]
    metrics = CalibrationMetrics(class_to_calculate=1).calculate_metrics(
        labels, columns, list(KEYS))
    metrics = [metrics[key] for key in KEYS]
    gaps = np.abs(np.array(positives) / NUMBER - values)
    meant = gaps.mean(), gaps.max()
    rates, predicted = calibration_curve(labels, p, n_bins=10)
    assert np.allclose(rates, np.array(positives) / NUMBER) and np.allclose(predicted, values)
    print("{}: counted {} and {}; ECE-H {:.3f}, MCE-H {:.3f}; ECE-C {:.3f}, MCE-C {:.3f}; "
          "meant ECE {:.3f}, MCE {:.3f}".format(values, *counted, *metrics, *meant))
    return counted, metrics, meant


counted, (ece_h, mce_h, ece_c, mce_c), meant = evaluated([0.0, 0.4, 0.8], [30, 40, 80])
assert counted == [2 * NUMBER, 2 * NUMBER] and np.allclose(meant, [0.1, 0.3])
assert max(ece_h, mce_h, ece_c, mce_c) < 1e-9
counted, (ece_h, mce_h, ece_c, mce_c), meant = evaluated([0.05, 0.4, 0.8], [30, 40, 80])
assert counted == [3 * NUMBER, 2 * NUMBER]
assert np.allclose([ece_h, mce_h], meant)
assert max(ece_c, mce_c) < 1e-9
counted, (ece_h, mce_h, *_), meant = evaluated([1e-6, 0.4, 0.8], [30, 40, 80])
assert counted[0] == 3 * NUMBER and np.allclose([ece_h, mce_h], meant)
END
