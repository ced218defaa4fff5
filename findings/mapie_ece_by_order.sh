#!/usr/bin/env bash
# mapie 1.6.0: expected_calibration_error(split_strategy="array split") cuts the scores into bins in the order in which
# they come, without sorting them, and takes the greatest score of each piece for a bound. In any usual order each piece
# has high and low scores, all bounds lie near 1, and most images share one bin, where too high and too low scores
# cancel out. Sorted by score, the same images get the ECE that is meant. top_label_ece hands the strategy on. Moreover
# "uniform" and "quantile" make one bin less than num_bins says. 1000 images of a model whose logits are half of what
# they should be, num_bins=10:
#   array split, as they come:     ECE 0.037, in 200 other orders 0.031 to 0.046
#   array split, sorted by score:  ECE 0.100, as ten bins of 100 by hand
#   uniform, num_bins=2:           ECE 0.029, as one bin by hand; two have 0.092, which num_bins=3 gives
#   quantile, num_bins=2:          ECE 0.029
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    mapie==1.6.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from mapie.metrics.calibration import expected_calibration_error
from scipy.special import expit, logit

rng = np.random.RandomState(2)
risk = np.clip(rng.beta(0.8, 1.2, 1000), 0.001, 0.999)
truth = (rng.rand(1000) < risk).astype(int)
scores = expit(0.5 * logit(risk))


def by_hand(bins):
    """ECE over lists of indices."""
    return sum(abs(truth[x].mean() - scores[x].mean()) * len(x) for x in bins) / len(scores)


def mapie(order, strategy, bins=10):
    return expected_calibration_error(truth[order], scores[order], num_bins=bins, split_strategy=strategy)


as_they_come, by_score = np.arange(1000), np.argsort(scores)
meant = by_hand(np.array_split(by_score, 10))
seen = mapie(as_they_come, "array split")
others = [mapie(rng.permutation(1000), "array split") for _ in range(200)]
print(f"array split, as they come: ECE {seen:.3f}, in 200 other orders {min(others):.3f} to {max(others):.3f}")
print(f"array split, sorted by score: ECE {mapie(by_score, 'array split'):.3f}; ten bins of 100 by hand {meant:.3f}")
assert seen < meant / 2 and max(others) < meant / 2
assert abs(mapie(by_score, "array split") - meant) < 1e-9
one, two = by_hand([as_they_come]), by_hand([np.flatnonzero(scores <= 0.5), np.flatnonzero(scores > 0.5)])
for bins in (2, 3):
    ece = mapie(as_they_come, "uniform", bins)
    print(f"uniform, num_bins={bins}: ECE {ece:.3f}; by hand with one bin {one:.3f}, with two {two:.3f}")
    assert abs(ece - (one, two)[bins - 2]) < 1e-9
quantile = mapie(as_they_come, "quantile", 2)  # the least score is a bin of its own
print(f"quantile, num_bins=2: ECE {quantile:.3f}")
assert two > 3 * one and abs(quantile - one) < 1e-3
END
