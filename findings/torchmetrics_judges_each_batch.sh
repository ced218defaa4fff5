#!/usr/bin/env bash
# torchmetrics 1.9.0: its binary metrics take logits and apply the sigmoid where a value lies outside of 0 to 1. They look at
# each update by itself: a batch whose logits all lie within 0 to 1 is kept as if they were probabilities, among the others'
# sigmoids. A logit of 0.2 then counts as 0.2, not as 0.55, and falls below many benign ones. The docstring speaks of the
# predictions as a whole. 300 images, 100 of them malignant, the same logits in batches of
#   300 or 4: AUC 0.868, sensitivity 0.85, as the formulas say
#   2:        AUC 0.855, sensitivity 0.81
#   1:        AUC 0.789, sensitivity 0.63
# The sigmoids instead of the logits give 0.868 and 0.85 in every batch size.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 torchmetrics==1.9.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import numpy as np
import torch
from torchmetrics.classification import BinaryAUROC, BinaryRecall

random = np.random.RandomState(0)
truth = (np.arange(300) % 3 == 0).astype(int)
logits = (random.randn(300) + 1.5 * (truth - 0.5)).astype(np.float32)
malignant, benign = logits[truth == 1], logits[truth == 0]
meant = ((malignant[:, None] > benign).mean(), (malignant > 0).mean())  # no two logits are equal
print(f"by the formulas: AUC {meant[0]:.3f}, sensitivity {meant[1]:.2f}")


def measured(scores, size):
    metrics = (BinaryAUROC(), BinaryRecall())
    for metric in metrics:
        for start in range(0, len(truth), size):
            metric.update(scores[start : start + size], torch.tensor(truth[start : start + size]))
    return tuple(metric.compute().item() for metric in metrics)


of_logits, of_sigmoids = {}, {}
for size in (300, 4, 2, 1):
    of_logits[size] = measured(torch.tensor(logits), size)
    of_sigmoids[size] = measured(torch.tensor(logits).sigmoid(), size)
    texts = [f"AUC {auc:.3f}, sensitivity {recall:.2f}" for auc, recall in (of_logits[size], of_sigmoids[size])]
    print(f"batches of {size}: {texts[0]}; of the sigmoids {texts[1]}")
for size in of_logits:
    assert np.allclose(of_sigmoids[size], meant, atol=1e-4)
assert np.allclose(of_logits[300], meant, atol=1e-4) and np.allclose(of_logits[4], meant, atol=1e-3)
assert np.allclose(of_logits[2], (0.855, 0.81), atol=1e-3) and np.allclose(of_logits[1], (0.789, 0.63), atol=1e-3)
END
