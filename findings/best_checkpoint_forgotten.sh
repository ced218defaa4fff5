#!/usr/bin/env bash
# Detectron2's BestCheckpointer (sal-detectron2 0.7.2) does not keep its best metric in the checkpoint, though a hook can keep its
# state there. So where a training was interrupted and resumed, the first evaluation afterwards counts as the best, and
# model_best.pth is overwritten by worse weights; the log says that the first model was saved.
# One training, evaluated after every second of ten iterations with AP50 40, 60, 50, 45 and 30:
#   in one go:                          model_best.pth is of iteration 3, AP50 60
#   interrupted after six, and resumed: model_best.pth is of iteration 7, AP50 45
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools==2.0.11 tabulate \
    "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
cd "$folder"
mkdir once resumed
PYTHONPATH="$folder/detectron2" venv/bin/python -W ignore - <<'END'
import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase, SimpleTrainer, hooks

AP50 = {1: 40.0, 3: 60.0, 5: 50.0, 7: 45.0, 10: 30.0}  # by iteration, from 0 on; the last evaluation comes after the training


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, data):
        return {"loss": (self.weight - data).pow(2).sum()}


class Interruption(HookBase):
    def __init__(self, after):
        self.after = after

    def after_step(self):
        if self.trainer.iter + 1 == self.after:
            raise KeyboardInterrupt


def train(folder, interrupted_after=None):
    """Trains, from the last checkpoint in the folder where there is one; returns the iteration of the best weights."""
    network = Network()
    trainer = SimpleTrainer(network, [torch.ones(1)] * 10, torch.optim.SGD(network.parameters(), 0.1))
    checkpointer = DetectionCheckpointer(network, folder, trainer=trainer)
    trainer.register_hooks([
        hooks.EvalHook(2, lambda: {"bbox": {"AP50": AP50[trainer.iter]}}),
        hooks.BestCheckpointer(2, checkpointer, "bbox/AP50"),
        hooks.PeriodicCheckpointer(checkpointer, 2),
        Interruption(interrupted_after),
    ])
    resumes = checkpointer.has_checkpoint()
    checkpointer.resume_or_load("", resume=True)
    try:
        trainer.train(trainer.iter + 1 if resumes else 0, 10)
    except KeyboardInterrupt:
        pass
    return torch.load(f"{folder}/model_best.pth")["iteration"]


once = train("once")
first = train("resumed", interrupted_after=6)
second = train("resumed")
print(f"in one go: the best weights are of iteration {once}, AP50 {AP50[once]:.0f}")
print(f"before the interruption: of iteration {first}, AP50 {AP50[first]:.0f}")
print(f"at the end of the resumed training: of iteration {second}, AP50 {AP50[second]:.0f}")
assert once == first == 3 and second == 7
END
