#!/usr/bin/env bash
# grad-cam 1.5.7: AblationCAM divides the drop of a score by the score itself, as its paper does, so a negative score turns the
# map around: it shows all but the lesion. Scores of a classifier are logits, and their sign means nothing (two classes) or only
# that p < 0.5 (one).
# One image, a lesion that raises malignancy, and networks that differ in nothing but the bias of their last layer:
#   two logits, p = 0.73 each time:      logits positive: lesion 1.0, elsewhere 0.0; both 6 lower: lesion 0.0, elsewhere 1.0
#   one logit (BinaryClassifierOutputTarget): p = 0.60: lesion 1.0, elsewhere 0.0; p = 0.40: lesion 0.0, elsewhere 1.0
# GradCAM, ScoreCAM and HiResCAM show the lesion each time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 grad-cam==1.5.7 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - 2>"$folder/progress" <<'END' || { cat "$folder/progress"; exit 1; }
import torch
from pytorch_grad_cam import AblationCAM, GradCAM, HiResCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget, ClassifierOutputTarget
from torch import nn


class Classifier(nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())  # what is bright, what is dark
        self.head = nn.Linear(2, len(weight))
        self.features[0].weight.data = torch.tensor([[[[1.0]]], [[[-1.0]]]])
        self.features[0].bias.data = torch.tensor([0.0, 0.5])
        self.head.weight.data, self.head.bias.data = torch.tensor(weight), torch.tensor(bias)

    def forward(self, image):
        return self.head(self.features(image).mean((2, 3)))


image = torch.full((1, 1, 16, 16), 0.1)
image[..., 4:8, 4:8] = 1  # the lesion
two, one = [[0.0, 0.0], [8.0, -1.0]], [[8.0, -1.0]]
logit = Classifier(one, [0.0])(image).item()
networks = {
    "two logits": (Classifier(two, [logit - 1 + 2, 2.0]), ClassifierOutputTarget(1)),
    "two logits, 6 lower": (Classifier(two, [logit - 1 - 4, -4.0]), ClassifierOutputTarget(1)),
    "one logit, positive": (Classifier(one, [0.4 - logit]), BinaryClassifierOutputTarget(1)),
    "one logit, negative": (Classifier(one, [-0.4 - logit]), BinaryClassifierOutputTarget(1)),
}
for name, (network, target) in networks.items():
    scores = network(image)[0].detach()
    p = (scores.softmax(0)[1] if len(scores) == 2 else scores.sigmoid()[0]).item()
    print(f"{name}: {[round(x, 2) for x in scores.tolist()]}, p = {p:.2f}")
    for method in (AblationCAM, GradCAM, ScoreCAM, HiResCAM):
        cam = method(model=network, target_layers=[network.features])(input_tensor=image, targets=[target])[0]
        lesion, elsewhere = round(float(cam[4:8, 4:8].mean()), 2), round(float(cam[9:].mean()), 2)
        print(f"    {method.__name__}: lesion {lesion}, elsewhere {elsewhere}")
        inverted = method is AblationCAM and scores[-1] < 0
        assert (lesion, elsewhere) == ((0, 1) if inverted else (1, 0))
END
