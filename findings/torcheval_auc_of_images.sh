#!/usr/bin/env bash
# torcheval 0.0.7: multiclass_binned_auroc() and MulticlassBinnedAUROC sum over the classes where they mean the images.
# What they return is an AUC for each image (has its own class the highest probability of the three?), and the mean of
# these, not an AUC for each class. Their description promises the metric for every class. Nothing is said.
# multiclass_auroc() of the same package and scikit-learn give the AUC of each class. 100 images: 20 normal, 50 benign,
# 30 malignant, each probability one of a few values that the thresholds tell apart:
#   a network that gives every image 0.20, 0.50, 0.30:  binned 0.65, plain 0.50; 0.50 is meant
#   a network that ranks every class without a fault:   binned 0.75, plain 1.00; 1.00 is meant
#   average=None:                                       binned 100 values, plain 3
# So the rates of the classes alone give an AUC far above chance. The binned one of single classes is right:
# binary_binned_auroc(probabilities.T, one_hot.T, num_tasks=3).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torcheval==0.0.7 torch==2.14.1 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import torch
from sklearn.metrics import roc_auc_score
from torcheval.metrics import MulticlassBinnedAUROC
from torcheval.metrics.functional import binary_binned_auroc, multiclass_auroc, multiclass_binned_auroc

labels = torch.tensor([0] * 20 + [1] * 50 + [2] * 30)  # normal, benign, malignant
one_hot = torch.nn.functional.one_hot(labels, 3)
networks = {
    "the same for every image": torch.tensor([[0.20, 0.50, 0.30]]).repeat(len(labels), 1),
    "every class ranked without a fault": torch.tensor(
        [[0.25, 0.55, 0.20], [0.15, 0.65, 0.20], [0.15, 0.55, 0.30]])[labels],
}


def auc(positive, negative):
    """Share of the pairs in which the positive one has the higher value; a tie counts as half."""
    difference = positive[:, None] - negative[None]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(dtype=torch.float64).item()


seen = []
for name, probabilities in networks.items():
    meant = [auc(probabilities[labels == k, k], probabilities[labels != k, k]) for k in range(3)]
    of_images = [auc(p[k : k + 1], torch.cat([p[:k], p[k + 1 :]])) for p, k in zip(probabilities, labels)]
    sklearn = [roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)]
    plain = multiclass_auroc(probabilities, labels, num_classes=3, average=None)
    binned, _ = multiclass_binned_auroc(probabilities, labels, num_classes=3, average=None)
    mean, _ = multiclass_binned_auroc(probabilities, labels, num_classes=3)
    metric = MulticlassBinnedAUROC(num_classes=3)
    for batch in range(0, len(labels), 10):
        metric.update(probabilities[batch : batch + 10], labels[batch : batch + 10])
    single, _ = binary_binned_auroc(probabilities.T, one_hot.T, num_tasks=3)
    print("{}: binned {:.2f}, its class {:.2f}, {} values without average; plain {:.2f}, {} values; meant {:.2f}; "
          "binned class by class {:.2f}".format(
              name, mean, metric.compute()[0], len(binned), plain.mean(), len(plain), sum(meant) / 3, single.mean()))
    assert torch.allclose(plain.double(), torch.tensor(meant).double()) and sklearn == meant
    assert torch.allclose(single.double(), torch.tensor(meant).double())
    assert len(plain) == 3 and len(binned) == len(labels)
    assert torch.allclose(binned.double(), torch.tensor(of_images).double())
    assert abs(metric.compute()[0] - mean) < 1e-6
    seen.append((round(mean.item(), 6), round(sum(meant) / 3, 6)))
assert seen == [(0.65, 0.5), (0.75, 1.0)]
END
