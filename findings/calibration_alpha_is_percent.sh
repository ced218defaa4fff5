#!/usr/bin/env bash
# uncertainty-calibration 0.1.4: get_calibration_error_uncertainties() promises a bootstrap interval for 1 - alpha, alpha 0.1 by
# default, and reads alpha as a percentage: 0.1 gives the percentiles 0.05 and 99.95 of its 100 resamples, which is nearly their
# whole range, and 0.05 the same. Nothing is said. 300 images, probabilities that are too high by three tenths,
# calibration error 0.17:
#   alpha 0.1 (the default, 90% promised):   0.114 to 0.230
#   alpha 10:                                0.140 to 0.211, as from the percentiles 5 and 95 of the same resamples
# So two models whose calibration differs seem alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    uncertainty-calibration==0.1.4 numpy==2.4.6 scikit-learn==1.9.1
"$folder/venv/bin/python" -W ignore - <<'END'
import random

import calibration
import numpy as np
from calibration.utils import resample

generator = np.random.default_rng(0)
probabilities = generator.uniform(size=300)
labels = (generator.uniform(size=300) < 0.7 * probabilities).astype(int)


def seeded():
    random.seed(0)
    np.random.seed(0)


def error(data):
    probabilities, labels = zip(*data)
    return calibration.get_calibration_error(probabilities, labels, p=1, debias=False)


data = list(zip(probabilities, labels))
seeded()
resamples = [error(resample(data)) for _ in range(100)]
found = {}
for alpha in (0.1, 0.05, 10):
    seeded()
    low, _, high = found[alpha] = calibration.get_calibration_error_uncertainties(probabilities, labels, p=1, alpha=alpha)
    # the package reflects the percentiles about the estimate
    meant = 2 * error(data) - np.percentile(resamples, [95, 5])
    print(f"alpha {alpha}: {low:.3f} to {high:.3f}; the percentiles 5 and 95 give {meant[0]:.3f} to {meant[1]:.3f}")
width = {alpha: high - low for alpha, (low, _, high) in found.items()}
assert np.allclose([found[10][0], found[10][2]], meant)
whole_range = max(resamples) - min(resamples)
assert 0.95 * whole_range < width[0.1] <= width[0.05] <= whole_range
assert width[0.1] > 1.4 * width[10]
END
