#!/usr/bin/env bash
# mapie 1.6.0: spiegelhalter_p_value looks at one side of its test only. Spiegelhalter's z is large and positive for
# probabilities that are too extreme, and large and negative for some that are too cautious; both are wrong. The p-value
# is 1 - cdf(z), not that of |z|, so that too cautious ones get p = 1, and the worse they are, the nearer to 1. Its
# docstring speaks of the null hypothesis of perfect calibration, as for the other two tests of the module, which see
# both. 1000 images, 40% malignant, one model:
#   calibrated:                    z  0.2, p 0.41; 0.82 is meant, by 4000 simulations of calibrated outcomes too
#   logits halved (too cautious):  z -7.5, p 1.00; 5e-14 is meant, 0 of 4000
#   logits doubled (too extreme):  z 13.4, p 0.00; 0 of 4000
# A network with too much label smoothing or too high a temperature then looks better calibrated than a calibrated one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    mapie==1.6.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from mapie.metrics.calibration import (kolmogorov_smirnov_p_value, kuiper_p_value, spiegelhalter_p_value,
                                       spiegelhalter_statistic)
from scipy.special import expit, logit
from scipy.stats import norm

rng = np.random.RandomState(2)
risk = np.clip(rng.beta(0.8, 1.2, 1000), 0.001, 0.999)
truth = (rng.rand(1000) < risk).astype(int)


def brier_by_simulation(scores):
    """Two-sided p-value of the Brier score, among those of outcomes that the scores describe."""
    outcomes = rng.rand(4000, len(scores)) < scores
    calibrated = ((outcomes - scores) ** 2).mean(axis=1)
    above = (calibrated >= ((truth - scores) ** 2).mean()).mean()
    return 2 * min(above, 1 - above)


print(f"malignant: {truth.mean():.2f}")
seen = {}
for name, factor in (("calibrated", 1), ("logits halved", 0.5), ("logits doubled", 2)):
    scores = expit(factor * logit(risk))
    z, p = spiegelhalter_statistic(truth, scores), spiegelhalter_p_value(truth, scores)
    meant, simulated = 2 * norm.sf(abs(z)), brier_by_simulation(scores)
    others = kolmogorov_smirnov_p_value(truth, scores), kuiper_p_value(truth, scores)
    print(f"{name}: z {z:.1f}, p {p:.2f}; two-sided {meant:.2g}, by simulation {simulated:.2g}; "
          f"Kolmogorov-Smirnov {others[0]:.2g}, Kuiper {others[1]:.2g}")
    assert abs(p - norm.sf(z)) < 1e-9 and abs(meant - simulated) < 0.05
    seen[name] = p, meant, *others
assert min(seen["calibrated"]) > 0.05
assert seen["logits halved"][0] > 0.999 and max(seen["logits halved"][1:]) < 1e-3
assert max(seen["logits doubled"]) < 1e-3
END
