#!/usr/bin/env bash
# mlxtend 0.25.0: the p-value of proportion_difference() is the normal distribution function at z, thus of one side, and of the
# side on which the first model is worse. Its guide states the two-sided hypothesis and 1.96 as the limit of z. Which model is
# named first then decides; a better model that is named first is never significant. Accuracies of two models:
#   0.84 and 0.92 of 100 images each:  z -1.754, p 0.040; turned round z 1.754, p 0.960; 0.079 is meant
#   0.70 and 0.95 of 200 images each:  z -6.967, p 0.000; turned round z 6.967, p 1.000; 0.000 is meant
#   0.85 of 100 images by both:        z 0, p 0.500; 1.000 is meant
# The first pair is the guide's own example, which it calls significant.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    mlxtend==0.25.0 statsmodels==0.15.0 scipy==1.17.1 pandas==2.3.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from mlxtend.evaluate import proportion_difference
from statsmodels.stats.proportion import test_proportions_2indep


def two_sided(first, second, images):
    """The same test, variances not pooled."""
    counts = [round(x * images) for x in (first, second)]
    options = {"method": "wald", "correction": False, "alternative": "two-sided"}
    test = test_proportions_2indep(counts[0], images, counts[1], images, **options)
    return test.statistic, test.pvalue


results = []
for first, second, images in ((0.84, 0.92, 100), (0.70, 0.95, 200), (0.85, 0.85, 100)):
    for pair in ((first, second), (second, first)):
        z, p = proportion_difference(*pair, n_1=images)
        meant_z, meant_p = two_sided(*pair, images)
        print(f"{pair[0]:.2f} and {pair[1]:.2f} of {images}: z {z:.3f}, p {p:.3f}; statsmodels z {meant_z:.3f}, p {meant_p:.3f}")
        assert abs(z - meant_z) < 1e-9
        results.append((p, meant_p))
assert np.allclose(results, [(0.040, 0.079), (0.960, 0.079), (0, 0), (1, 0), (0.5, 1), (0.5, 1)], atol=0.001)
END
