#!/usr/bin/env bash
# timm 1.0.31: create_optimizer_v2(network, ..., layer_decay=0.75) promises learning rates that fall from the last layer to the
# first. It only notes the factor of each group; what applies it is a scheduler of timm. With a scheduler of PyTorch (2.14.1)
# or with none every layer learns at the full rate, and nothing says so: a study of layer decay compares a training with itself.
# EfficientNet-Lite0, lr 0.001, three steps of AdamW on the same images, each compared with the same without layer_decay:
#   no scheduler, or PyTorch's CosineAnnealingLR: first layer's rate 0.001, last layer's 0.001; the weights are equal, bit by bit
#   timm's CosineLRScheduler:                     first layer's rate 0.0000075, last layer's 0.001; the weights are other ones
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import copy

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

torch.set_num_threads(1)
torch.manual_seed(0)
untrained = timm.create_model("efficientnet_lite0", num_classes=2, drop_rate=0.0)
images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
STEPS = 3


def trained(layer_decay, schedule):
    """Returns the weights after some steps, and the learning rates of the first and of the last layer at their start."""
    network = copy.deepcopy(untrained).train()
    optimizer = create_optimizer_v2(network, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=layer_decay, foreach=False)
    scheduler = schedule(optimizer)
    rate_of = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    rates = rate_of[id(network.conv_stem.weight)], rate_of[id(network.classifier.weight)]
    for step in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        if isinstance(scheduler, CosineLRScheduler):
            scheduler.step(step + 1)
        elif scheduler:
            scheduler.step()
    return [x.detach() for x in network.parameters()], rates


schedules = {
    "no scheduler": lambda optimizer: None,
    "PyTorch's CosineAnnealingLR": lambda optimizer: CosineAnnealingLR(optimizer, STEPS),
    "timm's CosineLRScheduler": lambda optimizer: CosineLRScheduler(optimizer, STEPS),
}
for name, schedule in schedules.items():
    plain, _ = trained(None, schedule)
    decayed, (first, last) = trained(0.75, schedule)
    equal = all(torch.equal(x, y) for x, y in zip(plain, decayed))
    print(f"{name}: first layer's rate {first:.2g}, last layer's {last:.2g}; weights as without layer_decay: {equal}")
    if "timm" in name:
        assert not equal and first < 1e-5 and last == 1e-3
    else:
        assert equal and first == last == 1e-3
END
