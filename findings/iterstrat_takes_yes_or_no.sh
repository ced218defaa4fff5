#!/usr/bin/env bash
# iterative-stratification 0.1.9: MultilabelStratifiedKFold takes each column of y as yes or no. A column of categories is accepted
# and counts as "not 0": BI-RADS 2 to 5 are one and the same, and the folds are not balanced in it. y is made a boolean array
# before its type is checked, so that the ValueError for such columns is never raised.
# 200 patients, malignant (0 or 1) and BI-RADS, five folds:
#   patients of category 3 in a fold: 5 to 17, where 12 are meant; of category 5: 1 to 6, where 4 are meant
#   the folds are those of a column of ones in place of the categories
#   with a column for each category instead: 12 and 4 in each fold
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    iterative-stratification==0.1.9 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.utils.multiclass import type_of_target

PATIENTS = {2: 60, 3: 60, 4: 60, 5: 20}  # of each category
MALIGNANT = {2: 20, 3: 20, 4: 40, 5: 14}
birads = np.repeat(list(PATIENTS), list(PATIENTS.values()))
malignant = np.concatenate([np.arange(n) < MALIGNANT[x] for x, n in PATIENTS.items()]).astype(int)
columns = {
    "categories": np.column_stack([malignant, birads]),
    "ones": np.column_stack([malignant, np.ones_like(birads)]),
    "a column for each": np.column_stack([malignant, *(birads == x for x in PATIENTS)]),
}


def folds_of(y):
    splitter = MultilabelStratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    folds = np.empty(len(y), int)
    for i, (_, test) in enumerate(splitter.split(np.zeros(len(y)), y)):
        folds[test] = i
    return folds


folds = {name: folds_of(y) for name, y in columns.items()}
counts = {}
for name in ("categories", "a column for each"):
    counts[name] = {x: [int(((birads == x) & (folds[name] == i)).sum()) for i in range(5)] for x in PATIENTS}
    print(f"{name}, patients of each category in the folds: {counts[name]}")
same = bool((folds["categories"] == folds["ones"]).all())
print(f"scikit-learn's name for these columns: {type_of_target(columns['categories'])}; folds as for ones: {same}")
assert same and type_of_target(columns["categories"]) == "multiclass-multioutput"
assert all(n == PATIENTS[x] / 5 for x, each in counts["a column for each"].items() for n in each)
assert sorted(counts["categories"][3]) == [5, 10, 11, 17, 17] and sorted(counts["categories"][5]) == [1, 4, 4, 5, 6]
END
