#!/usr/bin/env bash
# confidenceinterval 1.0.5: f1_score(average="macro") gives an interval about twice as wide as it should be. Its variance adds
# two factors that the published formula multiplies, and has counts where shares belong. The bootstrap of the same package is
# right. 95% intervals of the package, of the delta method and of the package's bootstrap:
#   647 cases, benign and malignant: F1 0.832, 0.772 to 0.893, 0.802 to 0.863, 0.801 to 0.862
#   780 cases, three classes:        F1 0.862, 0.818 to 0.906, 0.836 to 0.887, 0.835 to 0.885
#   50 cases, all of them right:     F1 1.000, 0.804 to 1.196, 1.000 to 1.000
# Of 300 samples like the 647 cases 299 have an interval that holds the true F1; 285 are meant, and the delta method gives 282.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    confidenceinterval==1.0.5 scikit-learn==1.9.1 statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import numpy as np
from confidenceinterval import f1_score
from scipy.stats import norm


def labels(table):
    """Truth and prediction of each case of a confusion matrix."""
    return [np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape)]


def macro_f1(table):
    return (2 * np.diag(table) / (table.sum(0) + table.sum(1))).mean()


def delta_method(table, step=1e-6):
    """Multinomial shares; derivatives by differences."""
    shares = table / table.sum()
    steps = step * np.eye(shares.size).reshape(-1, *shares.shape)
    slopes = np.array([(macro_f1(shares + s) - macro_f1(shares - s)) / (2 * step) for s in steps])
    covariance = np.diag(shares.ravel()) - np.outer(shares, shares)
    deviation = np.sqrt(max(slopes @ covariance @ slopes, 0) / table.sum())
    return macro_f1(table) + norm.ppf([0.025, 0.975]) * deviation


TABLES = {
    "two classes": np.array([[380, 57], [40, 170]]),
    "three classes": np.array([[400, 30, 7], [40, 160, 10], [10, 3, 120]]),
    "all right": np.array([[25, 0], [0, 25]]),
}
bootstrap = {"method": "bootstrap_percentile", "n_resamples": 1000}
for name, table in TABLES.items():
    value, given = f1_score(*labels(table), average="macro")
    intervals = {"the package": given, "delta method": delta_method(table)}
    if name != "all right":
        random = np.random.RandomState(0)
        intervals["its bootstrap"] = f1_score(*labels(table), average="macro", random_state=random, **bootstrap)[1]
        assert np.allclose(intervals["its bootstrap"], intervals["delta method"], atol=0.006)
    widths = [high - low for low, high in intervals.values()]
    texts = [f"{method} {low:.3f} to {high:.3f}" for method, (low, high) in intervals.items()]
    print(f"{name}, macro F1 {value:.3f}: {', '.join(texts)}")
    assert abs(value - macro_f1(table)) < 1e-6 and widths[0] > 1.6 * widths[1]
assert given[0] < 0.81 and given[1] > 1.19 and widths[1] < 1e-6

table = TABLES["two classes"]
shares = table.ravel() / table.sum()
samples = np.random.RandomState(0).multinomial(table.sum(), shares, 300).reshape(-1, *table.shape)
methods = {"the package": lambda x: f1_score(*labels(x), average="macro")[1], "delta method": delta_method}
held = {}
for name, interval in methods.items():
    limits = np.array([interval(x) for x in samples])
    held[name] = int(((limits[:, 0] <= macro_f1(table)) & (macro_f1(table) <= limits[:, 1])).sum())
    print(f"{name}: {held[name]} of 300 intervals hold the true F1")
assert held["the package"] >= 297 and 276 <= held["delta method"] <= 294
END
