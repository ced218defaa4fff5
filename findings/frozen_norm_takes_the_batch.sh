#!/usr/bin/env bash
# Lightning 2.6.6: BaseFinetuning.freeze(network, train_bn=False) is meant to leave batch normalisation alone. It clears the
# layers' track_running_stats, with which PyTorch (2.14.1) normalises by the batch in training, and by the stored statistics in
# validation. So a frozen network gives an image other features with other images beside it, and its head learns on features
# that validation does not have. The training looks well, and nothing warns.
# A network from images of one scanner, frozen, and a new last layer that learns 512 images of one with half the contrast:
#   freeze(train_bn=False):               accuracy of the training batches 1.00, of the same images in validation 0.50
#   the norms also in eval mode before:   accuracy of the training batches 1.00, of the same images in validation 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 lightning==2.6.6 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - 2>progress <<'END' || { cat progress; exit 1; }
import copy
import logging

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)


def images(contrast, seed):
    """512 images, every second one with a dark lesion, as a scanner with this contrast shows them."""
    torch.manual_seed(seed)
    labels = torch.arange(512) % 2
    pixels = torch.randn(512, 1, 24, 24)
    pixels[labels == 1, :, 8:16, 8:16] -= 1.4
    return TensorDataset(contrast * pixels, labels.float())


class Classifier(lightning.LightningModule):
    def __init__(self, backbone=None):
        super().__init__()
        self.backbone = backbone or nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.head = nn.Linear(16, 1)

    def forward(self, pixels):
        return self.head(self.backbone(pixels))[:, 0]

    def step(self, batch, name):
        logits = self(batch[0])
        right = ((logits > 0) == (batch[1] > 0)).float().mean()
        self.log(name, right, on_step=False, on_epoch=True)
        return nn.functional.binary_cross_entropy_with_logits(logits, batch[1])

    def training_step(self, batch, index):
        return self.step(batch, "training")

    def validation_step(self, batch, index):
        self.step(batch, "validation")

    def configure_optimizers(self):
        return torch.optim.Adam([x for x in self.parameters() if x.requires_grad], 0.03)


def fit(model, data, callbacks=()):
    torch.manual_seed(0)
    trainer = lightning.Trainer(
        max_epochs=10, accelerator="cpu", callbacks=list(callbacks), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(model, DataLoader(data, 32, shuffle=True), DataLoader(data, 32))
    return {name: round(value.item(), 2) for name, value in trainer.callback_metrics.items()}


class Freeze(BaseFinetuning):
    def freeze_before_training(self, model):
        self.freeze(model.backbone, train_bn=False)

    def finetune_function(self, model, epoch, optimizer):
        pass


def frozen(evaluate):
    model = Classifier(copy.deepcopy(first.backbone))
    if evaluate:
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    before = copy.deepcopy(model.backbone.state_dict())
    accuracy = fit(model, second, [Freeze()])
    assert all(torch.equal(x, y) for x, y in zip(before.values(), model.backbone.state_dict().values()))
    if not evaluate:
        model.train()
    with torch.no_grad():
        pixels = second.tensors[0]
        alone = torch.equal(model.backbone(pixels[:8])[0], model.backbone(pixels[[0, *range(8, 15)]])[0])
    return accuracy, alone


first = Classifier()
print("the first scanner:", fit(first, images(1, seed=1)))
second = images(0.5, seed=2)
for name, evaluate in (("freeze(train_bn=False)", False), ("the norms also in eval mode", True)):
    accuracy, alone = frozen(evaluate)
    print(f"{name}: {accuracy}; an image's features are {'the same' if alone else 'other ones'} in another batch")
    assert accuracy["training"] > 0.97 and alone == evaluate
    assert accuracy["validation"] > 0.97 if evaluate else accuracy["validation"] < 0.6
END
