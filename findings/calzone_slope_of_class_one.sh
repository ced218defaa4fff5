#!/usr/bin/env bash
# calzone-tool 0.1.0: CalibrationMetrics(class_to_calculate=2) with the metric "COX" returns the calibration slope and
# intercept of class 1, whatever class is asked for, and "COX ICI" is made of this line and of class 2's probabilities.
# cox_regression_analysis(..., class_to_calculate=2) fits whether an image is of class 2 to the probability of class 1.
# Both promise the class that is given; the other metrics (Spiegelhalter's z, ECE-H) are of that class. Nothing is said.
# 3000 images of the classes normal, benign, malignant; the probabilities are right for benign and too sure of malignant
# against normal. Slope and intercept for malignant:
#   CalibrationMetrics:       1.04, 0.05, near a perfect 1 and 0, ICI 0.006; its z 8.52 and ECE-H 0.058 tell otherwise
#   cox_regression_analysis:  -0.62, -1.00, as for a network that takes the classes for each other
#   meant:                    0.60, -0.24, ICI 0.068
# With the two columns [1 - p, p] of the class and labels of 0 and 1 the values are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    calzone-tool==0.1.0 statsmodels==0.15.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from calzone.metrics import CalibrationMetrics, cox_regression_analysis
from sklearn.linear_model import LogisticRegression

NORMAL, BENIGN, MALIGNANT = range(3)
random = np.random.default_rng(0)
logits = random.normal(size=(3000, 3)) * 1.5 + [-0.5, 1, 0.3]
true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
labels = (random.random((3000, 1)) > true.cumsum(1)).sum(1)
# the share of malignant in what is not benign, made too extreme; the probability of benign stays the true one
odds = (true[:, MALIGNANT] / true[:, NORMAL]) ** 3
share = odds / (1 + odds)
given = np.stack([(1 - share) * (1 - true[:, BENIGN]), true[:, BENIGN], share * (1 - true[:, BENIGN])], axis=1)


def by_hand(label):
    """Slope and intercept of the label's logit in a logistic regression without penalty, and their ICI."""
    p = np.clip(given[:, label], 1e-7, 1 - 1e-7)
    logit = np.log(p / (1 - p))
    fit = LogisticRegression(C=np.inf, tol=1e-8).fit(logit[:, None], labels == label)
    (slope,), (intercept,) = fit.coef_[0], fit.intercept_
    return slope, intercept, np.abs(1 / (1 + np.exp(-slope * logit - intercept)) - p).mean()


KEYS = "COX coef", "COX intercept", "COX ICI", "SpiegelhalterZ score", "ECE-H"
METRICS = ["COX", "SpiegelhalterZ", "ECE-H"]
of_class = {}
for label, name in ((BENIGN, "benign"), (MALIGNANT, "malignant")):
    metrics = CalibrationMetrics(class_to_calculate=label).calculate_metrics(labels, given, METRICS)
    of_class[label] = [metrics[key] for key in KEYS]
    direct = cox_regression_analysis(labels, given, class_to_calculate=label)[:2]
    meant = by_hand(label)
    print("{}: CalibrationMetrics {:.2f}, {:.2f}, ICI {:.3f} (z {:.2f}, ECE-H {:.3f}); cox_regression_analysis {:.2f}, "
          "{:.2f}; meant {:.2f}, {:.2f}, ICI {:.3f}".format(name, *of_class[label], *direct, *meant))
assert np.allclose(of_class[BENIGN][:3], by_hand(BENIGN), atol=1e-3)
assert of_class[MALIGNANT][:2] == of_class[BENIGN][:2] and abs(of_class[BENIGN][0] - 1) < 0.1
assert of_class[MALIGNANT][2] < 0.02 and meant[2] > 0.05 and meant[0] < 0.7
assert direct[0] < -0.5
# the same class alone, as a binary problem
p = given[:, MALIGNANT]
is_malignant = (labels == MALIGNANT).astype(int)
binary = CalibrationMetrics().calculate_metrics(is_malignant, np.stack([1 - p, p], axis=1), METRICS)
binary = [binary[key] for key in KEYS]
print("malignant as a binary problem: {:.2f}, {:.2f}, ICI {:.3f} (z {:.2f}, ECE-H {:.3f})".format(*binary))
assert np.allclose(binary[:3], meant, atol=1e-3) and np.allclose(binary[3:], of_class[MALIGNANT][3:])
END
