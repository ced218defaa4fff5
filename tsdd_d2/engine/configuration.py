"""From the command line to a configuration, and what differs between two."""

import logging
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch

from detectron2.config import CfgNode

from ..config import config_file as path_of_config
from ..config import get_tsdd_cfg
from ..config_values import merge_file, merge_options
from ..data.folds import ALL, fold_name
from ..errors import InputError
from ..method import METHODS, PROFILES
from ..modeling.weights import is_address, normalisation

logger = logging.getLogger(__name__)

# In place of the value of a key that only one of two configurations has.
ABSENT = "no such key"


def load_config(
    config_file: str = "",
    opts: Sequence[Any] = (),
    *,
    method: Optional[str] = None,
    profile: str = "cpu",
    data: Optional[str] = None,
    fold: Union[int, str] = 1,
) -> CfgNode:
    """Reads a configuration, the later part before the earlier one: a file (with its ``_BASE_``, by the safe YAML loader),
    the overrides of a method, the splits of a data set's fold, ``KEY VALUE`` overrides.

    A CUDA device in the configuration becomes the CPU where there is no CUDA.

    Args:
        config_file: by default that of the method in the profile; with a file of your own the method's overrides for a
            profile are not used.
        method: a name in :data:`~tsdd_d2.method.METHODS`.
        data, fold: such as "busbra" and 1, or "all", which has no test set; OUTPUT_DIR is then named after them, unless
            ``opts`` name another.

    Raises:
        InputError: the file is missing or malformed, a key or a method does not exist, or a plug-in cannot be imported.
    """
    cfg = get_tsdd_cfg()
    options = []
    if method is not None:
        if method not in METHODS:
            raise InputError(f"There is no method {method}: it must be one of {', '.join(METHODS)}.")
        options += METHODS[method].options(None if config_file else profile)
        config_file = config_file or path_of_config(f"{METHODS[method].config}{PROFILES[profile]}.yaml")
    if data is not None:
        options += ["OUTPUT_DIR", os.path.join("output", f"{method or 'run'}_{data}_{fold_name(fold)}")]
        for split in ("train", "val", "test"):
            names = () if (fold, split) == (ALL, "test") else (f"{data}_{fold_name(fold)}_{split}",)
            options += [f"DATASETS.{split.upper()}", names]
    if config_file:
        merge_file(cfg, config_file)
    merge_options(cfg, [*options, *opts])
    _normalise_as_the_weights_ask(cfg)
    _normalise_grey(cfg)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("There is no CUDA device: MODEL.DEVICE is cpu instead of %s.", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu" and not cpu_has_bfloat16():
        logger.warning("This CPU computes no bfloat16: training in float32, which takes longer.")
        cfg.SOLVER.AMP.ENABLED = False
    cfg.freeze()
    return cfg


def _normalise_as_the_weights_ask(cfg: CfgNode) -> None:
    """Pretrained weights take images as they were trained with; both networks of TSDDNet see one image tensor."""
    found = {path: normalisation(path) for path in (cfg.MODEL.WEIGHTS, cfg.MODEL.CNET.WEIGHTS) if is_address(path)}
    if len({str(x) for x in found.values()}) > 1:
        listed = " and ".join(
            f"{path} (mean {x.mean}, standard deviation {x.std}, epsilon of batch normalisation {x.norm_eps})"
            for path, x in found.items()
        )
        raise InputError(f"MODEL.WEIGHTS and MODEL.CNET.WEIGHTS ask for images that are normalised differently: {listed}.")
    for x in found.values():
        step = -1 if cfg.INPUT.FORMAT == "BGR" else 1
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = x.mean[::step], x.std[::step]
        cfg.MODEL.BACKBONE.NORM_EPS = x.norm_eps


def _normalise_grey(cfg: CfgNode) -> None:
    """Of statistics of colours a grey image takes the mean."""
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        values = cfg.MODEL[key]
        if channels == 1 and len(values) == 3:
            cfg.MODEL[key] = [sum(values) / 3]
        elif len(values) != channels:
            raise InputError(
                f"MODEL.{key} has {len(values)} values, and INPUT.FORMAT {cfg.INPUT.FORMAT} {channels} channels."
            )


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 (AMX or AVX512-BF16).

    oneDNN runs bfloat16 on every CPU with AVX512 and says that it supports it; without these instructions it is
    emulated and six times slower than float32. A torch that names no capabilities counts as a CPU without.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Tuple[str, Any, Any]]:
    """Key as on the command line, old and new value, :data:`ABSENT` where there is no such key.

    Args:
        old, new: configurations as their YAML is read.
    """
    old, new = keys_with_values(old), keys_with_values(new)
    pairs = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted(old | new)]
    return [(key, before, now) for key, before, now in pairs if before != now]


def keys_with_values(node: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Key, as it is overridden on the command line -> value."""
    found = {}
    for key, value in node.items():
        found.update(keys_with_values(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return found
