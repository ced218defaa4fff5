#!/usr/bin/env bash
# MLstatkit 0.1.91: Delong_test of one set of scores against itself gives z = 0 and p = 0, where p = 1 is meant; the AUCs that it
# returns are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check MLstatkit==0.1.91 numpy==2.4.6 scikit-learn==1.9.1
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
from MLstatkit import Delong_test

random = np.random.RandomState(0)
truth = np.arange(40) % 2
scores = 0.3 * truth + random.rand(40)
z, p, _, _, first, second, *_ = Delong_test(truth, scores, scores)
print(f"AUC {first:.4f} and {second:.4f}, z = {z}, p = {p}")
assert first == second and z == 0 and p == 0
END
