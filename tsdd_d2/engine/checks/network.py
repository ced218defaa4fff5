"""What is refused of the network and of the weights that it starts from."""

import logging
import os
import re
import traceback
from typing import Dict, List, Optional, Sequence

import torch
import yaml
from torch import nn

from detectron2.data import DatasetCatalog
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import Backbone, build_model

from ...config import stored_config
from ...data.files import parse_yaml
from ...data.mapper import BBUIMapper
from ...errors import InputError, listed
from ...method import method_of
from ...modeling.cnet import CNet
from ...modeling.weights import THAW, is_address
from ..checkpoint import MisfitError, load_trained_weights, read_checkpoint, require_resumable
from ..configuration import ABSENT, config_differences, keys_with_values
from ..final_evaluation import evaluated_sets
from ..run_folder import CONFIG_FILE, FINAL_WEIGHTS, TAG, check_first_run, describe_difference, read_run_config
from ..seen_patients import check_independence
from ..trainer import trainer_of
from .data import data_sets

logger = logging.getLogger(__name__)

# The keys behind the pixels that D-Net and C-Net see; weights fit whatever they say.
DECIDES_PIXELS = (
    "INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD",
    "MODEL.DNET.INPUT_STRIDE", "MODEL.CNET.INPUT_SIZE", "MODEL.CNET.CONTEXT", "MODEL.CNET.SQUARE_CROP",
    "MODEL.BACKBONE.NORM_EPS",
)  # fmt: skip
# What D-Net's and the detectors' outputs are relative to, which no checkpoint holds.
DECIDES_BOXES = (
    "MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "MODEL.ANCHOR_GENERATOR.OFFSET",
    "MODEL.RETINANET.BBOX_REG_WEIGHTS", "MODEL.RPN.BBOX_REG_WEIGHTS", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
)  # fmt: skip
# What else decides what they predict.
DECIDES_PREDICTIONS = (
    *DECIDES_PIXELS, *DECIDES_BOXES, "MODEL.DNET.RANKING", "MODEL.CNET.SCALES", "MODEL.CNET.MIRROR", "MODEL.FNET.DNET_POOLING",
    "MODEL.RETINANET.SCORE_THRESH_TEST", "MODEL.RETINANET.NMS_THRESH_TEST", "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.YOLOV4.NMS_THRESH_TEST", "MODEL.YOLOV7.NMS_THRESH_TEST",
)  # fmt: skip


def check_network(cfg, training: bool = True, resume: bool = False) -> None:
    """Raises InputError if the network cannot be built or tested as configured, or its weights are missing or do not fit
    it or, in stage 2, the data: the initial ones, or those that are evaluated; or if they were trained on patients of the
    test sets.

    A run that goes on from a checkpoint of its own needs no initial weights.
    """
    model = build_network(cfg)
    if cfg.TEST.AUG.ENABLED:
        raise InputError("TEST.AUG.ENABLED: the views that C-Net averages are MODEL.CNET.SCALES and MIRROR.")
    if not training or (resume and os.path.isfile(os.path.join(cfg.OUTPUT_DIR, TAG))):
        try:
            path = load_trained_weights(model, cfg, resume)
        except MisfitError as error:
            raise InputError(f"{error.path}: {error}{_what_differs(cfg, error.path)}") from error
        if training:
            require_resumable(path)
        else:
            _warn_of_differences(cfg, path, DECIDES_PREDICTIONS, "predict by other values in their own configuration")
            check_independence(path, evaluated_sets(cfg))
        return
    if method_of(cfg).starts_from is not None:
        check_first_run(cfg)
        weights = os.path.join(cfg.MODEL.WEIGHTS, FINAL_WEIGHTS)
        _warn_of_differences(cfg, weights, (*DECIDES_PIXELS, *DECIDES_BOXES), "learned from other pixels or anchors")
    else:
        _check_frozen_layers(cfg, model)
    trainer = trainer_of(cfg)
    try:
        trainer.build_optimizer(cfg, model)
    except TypeError as error:
        raise InputError(f"SOLVER.OPTIMIZER {cfg.SOLVER.OPTIMIZER} cannot be made: {error}") from error
    trainer.initialise(cfg, model)
    weights = os.path.join(cfg.MODEL.WEIGHTS, FINAL_WEIGHTS) if os.path.isdir(cfg.MODEL.WEIGHTS) else cfg.MODEL.WEIGHTS
    if os.path.isfile(weights):
        check_independence(weights, evaluated_sets(cfg))


def build_network(cfg) -> nn.Module:
    """Detectron2's ``build_model``; InputError instead of the errors of what the configuration names."""
    try:
        return build_model(cfg)
    except KeyError as error:
        # of a registry, or of a table in which Detectron2 looked up a value, which is all that the error tells
        of_registry = re.match("No object named '(.+)' found", str(error.args[0]))
        missing = of_registry[1] if of_registry else error.args[0]
        values = keys_with_values(cfg.MODEL, "MODEL.").items()
        keys = [key for key, x in values if x == missing or (isinstance(x, (list, tuple)) and missing in x)]
        whose = f", of {' or '.join(keys)}" if keys else ""
        raise InputError(f"The network cannot be built: nothing is known by {missing!r}{whose}.") from error
    except Exception as error:  # of torch and Detectron2, on values that nothing has refused yet
        raise InputError(f"The network cannot be built: {_reason(error)}") from error


def has_frozen_layers(model: nn.Module) -> bool:
    """Whether weights or statistics of a detector's backbone stay what they are in training."""
    backbones = [x for x in model.modules() if isinstance(x, Backbone)]
    return any(
        isinstance(x, FrozenBatchNorm2d) or not all(p.requires_grad for p in x.parameters(recurse=False))
        for backbone in backbones
        for x in backbone.modules()
    )


def _check_frozen_layers(cfg, model: nn.Module) -> None:
    """Raises InputError if layers stay frozen that no weights are loaded into."""
    # a checkpoint in MODEL.WEIGHTS is one of both networks, an address one of D-Net's backbone alone
    from_checkpoint = bool(cfg.MODEL.WEIGHTS) and not is_address(cfg.MODEL.WEIGHTS)
    cnet_is_random = not cfg.MODEL.CNET.WEIGHTS and not from_checkpoint
    key = None
    if not cfg.MODEL.WEIGHTS and has_frozen_layers(model):
        key = "MODEL.WEIGHTS"
    elif cnet_is_random and cfg.MODEL.CNET.FREEZE_AT and any(isinstance(x, CNet) for x in model.modules()):
        key = "MODEL.CNET.WEIGHTS"
    if key:
        raise InputError(f'{key} "": layers that start at random must not stay frozen. Add {THAW}, or name weights.')


def _warn_of_differences(cfg, weights: str, keys: Sequence[str], what: str) -> None:
    if differences := _differences(cfg, weights, keys):
        logger.warning("The networks of %s %s:\n  %s", weights, what, "\n  ".join(differences))


def _what_differs(cfg, weights: str) -> str:
    """Of the network, in the configuration that weights were trained with; nothing if that is not known."""
    of_network = [x for x in keys_with_values(cfg.MODEL, "MODEL.") if not x.endswith("WEIGHTS")]
    text = f"\n  configured otherwise: {listed(found)}" if (found := _differences(cfg, weights, of_network)) else ""
    own = os.path.join(os.path.dirname(weights), CONFIG_FILE)
    return text + f"\nIts own configuration is --config-file {own}." * os.path.isfile(own)


def _differences(cfg, weights: str, keys: Sequence[str]) -> List[str]:
    """Which of the keys have other values than in the run of a checkpoint, or in a model file, and which values."""
    run = os.path.dirname(weights)
    if os.path.isfile(os.path.join(run, CONFIG_FILE)):
        learned = read_run_config(run)
    elif isinstance(stored := read_checkpoint(weights).get("config"), str):
        learned = stored_config(parse_yaml(stored, weights), weights)
    else:
        return []
    differences = config_differences(yaml.safe_load(learned.dump()), yaml.safe_load(cfg.dump()))
    return [describe_difference(key, old, new) for key, old, new in differences if key in keys and ABSENT not in (old, new)]


def check_smallest_images(cfg, training: bool = True) -> None:
    """Raises InputError if the network fails on the smallest image of the data sets, in the size that it gets in training or
    evaluation: a feature map may have too few pixels for a normalisation."""
    model = build_network(cfg).eval()
    sizes = {(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST): data_sets(cfg, training)}
    if training:
        at_training = min(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
        sizes.setdefault(at_training, list(cfg.DATASETS.TRAIN))
    for (min_size, max_size), names in sizes.items():
        images = [x for name in names for x in DatasetCatalog.get(name)]
        # some networks diagnose ROIs, which an image then must have
        images = [x for x in images if x["annotations"]] or images
        if not images:
            continue
        shape = ResizeShortestEdge.get_output_shape if min_size > 0 else (lambda height, width, *_: (height, width))
        smallest = min(images, key=lambda x: sorted(shape(x["height"], x["width"], min_size, max_size)))
        reason = _failure(cfg, model, smallest, min_size, max_size)
        if reason is None:
            continue
        height, width = shape(smallest["height"], smallest["width"], min_size, max_size)
        factor = next(
            (x for x in (2, 4, 8) if _failure(cfg, model, smallest, x * height, x * width + x * height) is None), 0
        )
        advice = f"images {factor} times as large would do: raise INPUT.MIN_SIZE_TEST and MIN_SIZE_TRAIN, or MAX_SIZE_TEST and MAX_SIZE_TRAIN"
        raise InputError(
            f"The network fails on {smallest['file_name']}, which it gets in {width}x{height} pixels, the smallest of all "
            f"images{f'; {advice}' if factor else ''} ({reason})."
        )


def _failure(cfg, model: nn.Module, dataset_dict: Dict, min_size: int, max_size: int) -> Optional[str]:
    """Why a network fails on an image in some size, None if it does not."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = min_size, max_size
    try:
        with torch.no_grad():
            model([BBUIMapper(cfg, is_train=False)(dataset_dict)])
    except Exception as error:  # of whatever layer
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """What an error of foreign code says, or the line of code that raised it without a word."""
    if isinstance(error, (ValueError, AssertionError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {str(error) or traceback.extract_tb(error.__traceback__)[-1].line}"
