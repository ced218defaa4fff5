#!/usr/bin/env bash
# Detectron2's FrozenBatchNorm2d.convert_frozen_batchnorm (sal-detectron2 0.7.2, the function that FREEZE_AT uses) replaces
# timm's BatchNormAct2d (timm 1.0.31), a BatchNorm2d with an activation in it, by a normalisation without one, and says nothing.
# Of EfficientNet-Lite0's 48 norms 32 have an activation: frozen this way the features are others, frozen by timm.utils.freeze
# they stay.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 timm==1.0.31 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools tabulate \
    "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
PYTHONPATH="$folder/detectron2" "$folder/venv/bin/python" -W ignore - <<'END'
import copy

import timm
import torch
from timm.layers import BatchNormAct2d
from timm.utils import freeze

from detectron2.layers import FrozenBatchNorm2d

torch.manual_seed(0)
network = timm.create_model("efficientnet_lite0", features_only=True).eval()
image = torch.rand(1, 3, 64, 64)
by_detectron2 = FrozenBatchNorm2d.convert_frozen_batchnorm(copy.deepcopy(network))
by_timm = copy.deepcopy(network)
freeze(by_timm)
layers = {
    name: sum(isinstance(m, BatchNormAct2d) and not isinstance(m.act, torch.nn.Identity) for m in x.modules())
    for name, x in (("before", network), ("Detectron2", by_detectron2))
}
with torch.no_grad():
    before, detectron2, timms = (x(image)[-1] for x in (network, by_detectron2, by_timm))
print("norms with an activation:", layers)
changes = {name: float((x - before).abs().max()) for name, x in (("Detectron2", detectron2), ("timm", timms))}
print("largest change of the features:", changes)
assert layers == {"before": 32, "Detectron2": 0}
assert changes["Detectron2"] > 1 and changes["timm"] < 1e-4
END
