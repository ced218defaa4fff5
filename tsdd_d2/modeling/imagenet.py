"""ImageNet weights from torchvision's own registry (its download, checksum and cache) for D-Net and C-Net."""

import os
from typing import Dict
from urllib.error import URLError
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor, nn

from detectron2.modeling.backbone.resnet import ResNet

from ..errors import InputError

SCHEME = "torchvision://"
# What a random initialisation needs: its layers must not stay frozen.
THAW = "MODEL.BACKBONE.FREEZE_AT 0 MODEL.RESNETS.NORM BN"


def is_torchvision(path: str) -> bool:
    """Whether a value of ``MODEL.WEIGHTS`` names torchvision weights, such as
    ``torchvision://ResNet34_Weights.IMAGENET1K_V1``."""
    return path.startswith(SCHEME)


def fetch_torchvision(path: str) -> Dict[str, Tensor]:
    """The state dict behind a ``torchvision://`` path, from torchvision's cache or by its download.

    Raises:
        InputError: there is no such weight, or it is not cached and cannot be downloaded.
    """
    if not is_torchvision(path):
        raise InputError(f"{path}: {how_to_name_weights()}")
    name = path[len(SCHEME) :]
    try:
        weights = torchvision.models.get_weight(name)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: torchvision has no weights of this name ({error}).") from error
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        cached = os.path.join(_cache(), os.path.basename(urlparse(weights.url).path))
        raise InputError(
            f"The weights {path} are not there: no file {cached}, and {weights.url} cannot be downloaded ({error}). "
            f'Put the file there, or train from random initialisation with MODEL.WEIGHTS "" MODEL.CNET.WEIGHTS "" {THAW}, '
            "since random layers must not stay frozen."
        ) from error


def how_to_name_weights() -> str:
    return (
        f"ImageNet weights are named {SCHEME}NAME, such as {SCHEME}ResNet18_Weights.IMAGENET1K_V1. A file that you have "
        f"goes, under torchvision's file name, to {_cache()}."
    )


def _cache() -> str:
    return os.path.join(torch.hub.get_dir(), "checkpoints")


def detectron2_resnet_keys(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Renames the keys of a torchvision ResNet to those of Detectron2's; the classifier is left out."""
    renamed = {}
    for key, value in state_dict.items():
        if key.startswith("fc."):
            continue
        if not key.startswith("layer"):
            key = "stem." + key
        for i in range(1, 5):
            key = key.replace(f"layer{i}.", f"res{i + 1}.").replace(f"bn{i}.", f"conv{i}.norm.")
        key = key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        renamed[key] = value
    return renamed


def load_dnet_backbone(dnet: nn.Module, path: str) -> None:
    """Loads torchvision weights into the ResNet of D-Net; every key must find its place."""
    resnets = [m for m in dnet.backbone.modules() if isinstance(m, ResNet)]
    if len(resnets) != 1:
        raise InputError(f"MODEL.WEIGHTS {path} fits a ResNet backbone, and MODEL.BACKBONE.NAME builds none.")
    load_strictly(resnets[0], detectron2_resnet_keys(fetch_torchvision(path)), "MODEL.WEIGHTS", path)


def load_cnet(cnet: nn.Module, path: str) -> None:
    """Loads torchvision weights into C-Net's ResNet; every key but the classifier's must find its place."""
    state_dict = {k: v for k, v in fetch_torchvision(path).items() if not k.startswith("fc.")}
    load_strictly(cnet.resnet, state_dict, "MODEL.CNET.WEIGHTS", path)


def load_strictly(module: nn.Module, state_dict: Dict[str, Tensor], config_key: str, path: str) -> None:
    """Loads a state dict that must be the module's own, key for key.

    Raises:
        InputError: names the config key, the path and every key that does not fit.
    """
    expected = {k: v.shape for k, v in module.state_dict().items()}
    # Detectron2's FrozenBN keeps no batch counter
    given = {k: v for k, v in state_dict.items() if k in expected or not k.endswith("num_batches_tracked")}
    problems = [f"not in the network: {k}" for k in sorted(given.keys() - expected.keys())]
    problems += [
        f"not in the file: {k}" for k in sorted(expected.keys() - given.keys()) if not k.endswith("num_batches_tracked")
    ]
    problems += [
        f"shape of {k}: {tuple(given[k].shape)} in the file, {tuple(expected[k])} in the network"
        for k in sorted(given.keys() & expected.keys())
        if given[k].shape != expected[k]
    ]
    if problems:
        raise InputError(f"{config_key} {path} does not fit the network:\n  " + "\n  ".join(problems))
    module.load_state_dict(given, strict=False)
