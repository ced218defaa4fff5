"""From the command line to a checked configuration: whatever can be refused is refused before anything is written."""

import contextlib
import logging
import os
import re
import tempfile
import traceback
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type, Union

import torch
import yaml
from torch import nn

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_model
from detectron2.utils.registry import Registry

from ..config import config_file as path_of_config
from ..config import get_tsdd_cfg, stored_config
from ..config_values import merge_file, merge_options, value_problems
from ..data import ensure_registered, validate_splits
from ..data.files import parse_yaml, read_json, read_yaml
from ..data.folds import ALL, fold_name
from ..data.image_sizes import is_too_narrow
from ..data.mapper import BBUIMapper
from ..data.roi import drawn_by_hand
from ..errors import BBUIError, InputError
from ..method import METHODS, PROFILES, method_of
from ..modeling.cnet import CNet
from ..modeling.contract import ScoresCandidates, supports
from ..modeling.fnet import DNET_POOLING_REGISTRY
from ..modeling.ranking import RANKING_REGISTRY
from ..modeling.weights import THAW, is_address, normalisation
from ..refinement import SELECTION_RULE_REGISTRY, build_selection_rule
from .checkpoint import load_trained_weights, read_checkpoint, require_resumable
from .final_evaluation import evaluated_sets
from .run_folder import (
    CONFIG_FILE,
    FINAL_WEIGHTS,
    TAG,
    check_first_run,
    describe_difference,
    differences_of_files,
    initial_annotation,
    read_run_config,
    run_files,
)
from .seen_patients import check_independence
from .trainer import OPTIMIZER_REGISTRY, Trainer

logger = logging.getLogger(__name__)

# In place of the value of a key that only one of two configurations has.
ABSENT = "no such key"

# The keys behind the ROIs in OUTPUT_DIR, which a resumed run takes as they are.
DECIDES_ROIS = re.compile(
    r"DATASETS\.(TRAIN|P|P_SEED|VETOES)|SEED|MODEL\.META_ARCHITECTURE|REFINEMENT\.(?!IMS_PER_BATCH$).+"
)
# With refinement on, that behind the iterations of the rounds.
DECIDES_ROUNDS = "SOLVER.MAX_ITER"

# The keys behind the pixels that D-Net and C-Net see; weights fit whatever they say.
DECIDES_PIXELS = (
    "INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD",
    "MODEL.DNET.INPUT_STRIDE", "MODEL.CNET.INPUT_SIZE", "MODEL.CNET.CONTEXT", "MODEL.CNET.SQUARE_CROP",
    "MODEL.BACKBONE.NORM_EPS",
)  # fmt: skip


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


def check_config(cfg, num_processes: int = 1, training: bool = True) -> None:
    """Raises InputError with every problem of the configuration's values, for training in so many processes."""
    problems = value_problems(cfg)
    for requirements in (
        _requirements_of_data(cfg, training),
        _requirements_of_training(cfg, num_processes, _batch_unit(cfg) if training else 1),
        _requirements_of_networks(cfg),
        _requirements_of_refinement(cfg),
        _requirements_of_evaluation(cfg),
    ):
        try:
            problems += [message for fulfilled, message in requirements if not fulfilled]
        except (TypeError, ValueError) as error:  # of values that are told above
            if not problems:
                raise InputError(f"The configuration cannot be run: {error}") from error
    if problems:
        raise BBUIError("The configuration cannot be run:", problems)
    if cfg.REFINEMENT.ENABLED:
        build_selection_rule(cfg)  # a rule knows what its own keys may be


# Whether it is fulfilled, and what is said if not.
Requirements = Iterator[Tuple[bool, str]]


def _requirements_of_data(cfg, training: bool) -> Requirements:
    yield len(cfg.DATASETS.TRAIN) == 1, "DATASETS.TRAIN must name one training set."
    yield len(cfg.DATASETS.VAL) <= 1, "DATASETS.VAL must name one validation set or none."
    for name, keys in keys_of_data_sets(cfg).items():
        yield not training or len(keys) == 1, f"{name} stands in {' and '.join(keys)}: they must not share patients."
    range_is_one = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING != "range" or len(cfg.INPUT.MIN_SIZE_TRAIN) == 2
    yield range_is_one, "INPUT.MIN_SIZE_TRAIN must be two sizes with INPUT.MIN_SIZE_TRAIN_SAMPLING range."


def _batch_unit(cfg) -> int:
    with contextlib.suppress(InputError):  # of a method that is not known, which is told with the networks
        return trainer_of(cfg).batch_unit(cfg)
    return 1


def _requirements_of_training(cfg, num_processes: int, batch_unit: int) -> Requirements:
    solver = cfg.SOLVER
    of_method = f" times {batch_unit}, for {cfg.METHOD}" if batch_unit > 1 else ""
    yield (
        solver.IMS_PER_BATCH > 0 and solver.IMS_PER_BATCH % (num_processes * batch_unit) == 0,
        f"SOLVER.IMS_PER_BATCH must be a multiple of the number of processes ({num_processes}){of_method}, not "
        f"{solver.IMS_PER_BATCH}.",
    )
    cnet = cfg.MODEL.CNET
    yield (
        cnet.NORM != "BN" or cnet.INPUT_SIZE > 32 or solver.IMS_PER_BATCH != num_processes,
        f"SOLVER.IMS_PER_BATCH must be 2 or more for each process with MODEL.CNET.NORM BN and INPUT_SIZE {cnet.INPUT_SIZE}, of "
        "which the last layer of C-Net has one pixel.",
    )
    yield (
        solver.OPTIMIZER in OPTIMIZER_REGISTRY,
        f"SOLVER.OPTIMIZER must be one of {names_in(OPTIMIZER_REGISTRY)}, not {solver.OPTIMIZER}.",
    )
    yield (
        not solver.RESCALE_INTERVAL or solver.WARMUP_ITERS < solver.MAX_ITER,
        "SOLVER.WARMUP_ITERS must be below SOLVER.MAX_ITER with SOLVER.RESCALE_INTERVAL.",
    )
    yield (
        solver.LR_SCHEDULER_NAME != "WarmupCosineLR" or solver.BASE_LR_END <= solver.BASE_LR,
        f"SOLVER.BASE_LR_END must not be above SOLVER.BASE_LR, {solver.BASE_LR}, not {solver.BASE_LR_END}.",
    )


def _requirements_of_networks(cfg) -> Requirements:
    try:
        method = method_of(cfg)
        yield (
            method.architecture in META_ARCH_REGISTRY,
            f"METHOD {method.name} names {method.architecture}, which is not in Detectron2's META_ARCH_REGISTRY.",
        )
    except InputError as error:
        yield False, str(error)
    yield (
        cfg.MODEL.DNET.RANKING in RANKING_REGISTRY,
        f"MODEL.DNET.RANKING must be one of {names_in(RANKING_REGISTRY)}, not {cfg.MODEL.DNET.RANKING}.",
    )
    fnet = cfg.MODEL.FNET
    yield (
        fnet.DNET_POOLING in DNET_POOLING_REGISTRY,
        f"MODEL.FNET.DNET_POOLING must be one of {names_in(DNET_POOLING_REGISTRY)}, not {fnet.DNET_POOLING}.",
    )


def _requirements_of_refinement(cfg) -> Requirements:
    refinement, architecture = cfg.REFINEMENT, cfg.MODEL.META_ARCHITECTURE
    # also without rounds: of the first stage that the second one goes on from
    yield (
        refinement.RULE in SELECTION_RULE_REGISTRY,
        f"REFINEMENT.RULE must be one of {names_in(SELECTION_RULE_REGISTRY)}, not {refinement.RULE}.",
    )
    if not refinement.ENABLED:
        return
    yield supports(architecture, ScoresCandidates), f"{architecture} has no rounds: REFINEMENT.ENABLED must be False."
    for key in ("ROUNDS", "CANDIDATES_PER_ROUND", "IMS_PER_BATCH"):
        yield (
            refinement[key] > 0,
            f"REFINEMENT.{key} must be above 0 with refinement on; REFINEMENT.ENABLED False switches it off.",
        )
    yield (
        0 <= refinement.WARMUP_ITER <= cfg.SOLVER.MAX_ITER - max(refinement.ROUNDS, 1),
        "REFINEMENT.WARMUP_ITER and at least one iteration for each round must fit in SOLVER.MAX_ITER.",
    )


def _requirements_of_evaluation(cfg) -> Requirements:
    yield not cfg.TEST.YOUDEN_THRESHOLD or bool(cfg.DATASETS.VAL), "TEST.YOUDEN_THRESHOLD needs DATASETS.VAL."


def names_in(registry: Registry) -> str:
    """The names of a registry, in the order in which they were registered."""
    return ", ".join(name for name, _ in registry)


def keys_of_data_sets(cfg) -> Dict[str, List[str]]:
    """Data set -> the keys that name it: DATASETS.TRAIN, VAL and TEST."""
    keys: Dict[str, List[str]] = {}
    for key in ("TRAIN", "VAL", "TEST"):
        for name in dict.fromkeys(cfg.DATASETS[key]):
            keys.setdefault(name, []).append(f"DATASETS.{key}")
    return keys


def data_sets(cfg, training: bool = True) -> List[str]:
    """The names of all data sets that the run will read."""
    # evaluation takes nothing but the threshold from it
    reads_val = training or cfg.TEST.YOUDEN_THRESHOLD
    train, val = cfg.DATASETS.TRAIN if training else (), cfg.DATASETS.VAL if reads_val else ()
    return list(dict.fromkeys((*train, *val, *evaluated_sets(cfg))))


def check_data(cfg, training: bool = True) -> None:
    """Validates every data set that the run will read, and logs what is dubious, such as images with the same pixels in
    two of them. Whether the test patients are new to the weights is asked by :func:`check_network`.

    Raises:
        InputError, BBUIError: with all problems of all files; images that are too narrow to be resized; a training set
            of one class or without a fully annotated image; no Youden threshold to be had from the validation set.
    """
    splits = {name: _files_of(name) for name in data_sets(cfg, training)}
    for warning in validate_splits(splits):
        logger.warning(warning)
    images = {json_file: read_json(json_file)["images"] for json_file, _ in splits.values()}
    files = {name: json_file for name, (json_file, _) in splits.items()}
    _check_widths(cfg, files, images, training)
    _check_classes(cfg, files, images, training)
    if not training:
        return
    # round 0 trains on fully annotated images alone: a pseudo ROI makes none
    drawn = [x for x in initial_annotation(cfg)["annotations"] if drawn_by_hand(x)]
    if not drawn:
        file = splits[cfg.DATASETS.TRAIN[0]][0]
        num_drawn = sum(drawn_by_hand(x) for x in read_json(file)["annotations"])
        raise InputError(
            f"{file}: no image keeps a ROI with DATASETS.P = {cfg.DATASETS.P}, so there is nothing to start from. "
            f"The file has {num_drawn} ROIs, pseudo ROIs aside; raise DATASETS.P or annotate some images."
        )
    annotated_classes = {x["category_id"] for x in drawn}
    if len(annotated_classes) < 2:
        logger.warning("All images with ROIs are of one class: C-Net's warm-up sees no other.")


def _check_widths(cfg, files: Mapping[str, str], images: Mapping[str, List[Dict]], training: bool) -> None:
    at_test = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    at_training = [(min_size, cfg.INPUT.MAX_SIZE_TRAIN) for min_size in cfg.INPUT.MIN_SIZE_TRAIN]
    problems = []
    for name, json_file in files.items():
        # the rounds see the training images as the evaluation sees its own
        sizes = [at_test, *(at_training if training and name in cfg.DATASETS.TRAIN else ())]
        problems += [
            f"{json_file}: image {image['id']} ({image['file_name']}) of {image['width']}x{image['height']} pixels"
            for image in images[json_file]
            if any(is_too_narrow(image["height"], image["width"], *size) for size in sizes)
        ]
    if problems:
        raise BBUIError(
            "Nothing is left of the shorter side of these images where the longer one is reduced to INPUT.MAX_SIZE_TRAIN "
            f"({cfg.INPUT.MAX_SIZE_TRAIN}) or INPUT.MAX_SIZE_TEST ({cfg.INPUT.MAX_SIZE_TEST}); cut them, or leave them out:",
            problems,
        )


def _check_classes(cfg, files: Mapping[str, str], images: Mapping[str, List[Dict]], training: bool) -> None:
    of_one_class = {
        name: json_file
        for name, json_file in files.items()
        if len({image["category_id"] for image in images[json_file]}) < 2
    }
    problems = [
        f"{of_one_class[name]}: all images are of one class, from which no network learns to tell two apart. Name another "
        "set in DATASETS.TRAIN."
        for name in (cfg.DATASETS.TRAIN if training else ())
        if name in of_one_class
    ]
    for name in cfg.DATASETS.VAL:
        if name in of_one_class and cfg.TEST.YOUDEN_THRESHOLD:
            problems.append(
                f"{of_one_class[name]}: all images are of one class, from which TEST.YOUDEN_THRESHOLD cannot choose a "
                "threshold. Set it to False, or name another set in DATASETS.VAL."
            )
        elif name in of_one_class and training:
            logger.warning(
                "%s: all images are of one class: there will be no AUC of the validation, and no model_best.pth.",
                of_one_class[name],
            )
    if problems:
        raise InputError("\n".join(problems))


def _files_of(name: str) -> Tuple[str, str]:
    """json_file and image_root of a data set; InputError if it is not known, or registered without them."""
    ensure_registered(name)
    metadata = MetadataCatalog.get(name)
    files = metadata.get("json_file"), metadata.get("image_root")
    if None in files:
        raise InputError(
            f"The data set {name!r} is registered without 'json_file' and 'image_root' in its metadata: register it with "
            "tsdd_d2.data.register_bbui_instances(name, json_file, image_root)."
        )
    return files


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
        path = load_trained_weights(model, cfg, resume)
        if training:
            require_resumable(path)
        else:
            _warn_of_other_pixels(cfg, path)
            check_independence(path, evaluated_sets(cfg))
        return
    if method_of(cfg).starts_from is not None:
        check_first_run(cfg)
        _warn_of_other_pixels(cfg, os.path.join(cfg.MODEL.WEIGHTS, FINAL_WEIGHTS))
    else:
        _check_frozen_layers(cfg, model)
    trainer_of(cfg).initialise(cfg, model)
    weights = os.path.join(cfg.MODEL.WEIGHTS, FINAL_WEIGHTS) if os.path.isdir(cfg.MODEL.WEIGHTS) else cfg.MODEL.WEIGHTS
    if os.path.isfile(weights):
        check_independence(weights, evaluated_sets(cfg))


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


def trainer_of(cfg) -> Type[Trainer]:
    """The trainer of a configuration's method."""
    return method_of(cfg).trainer or Trainer


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


def _warn_of_other_pixels(cfg, weights: str) -> None:
    """Where the networks of a run's checkpoint, or of a model file, saw other pixels in training than the configuration
    gives them."""
    run = os.path.dirname(weights)
    if os.path.isfile(os.path.join(run, CONFIG_FILE)):
        learned = read_run_config(run)
    elif isinstance(stored := read_checkpoint(weights).get("config"), str):
        learned = stored_config(parse_yaml(stored, weights), weights)
    else:
        return
    differences = config_differences(yaml.safe_load(learned.dump()), yaml.safe_load(cfg.dump()))
    listed = [
        describe_difference(key, old, new)
        for key, old, new in differences
        if key in DECIDES_PIXELS and ABSENT not in (old, new)
    ]
    if listed:
        logger.warning("The networks of %s learned from other pixels:\n  %s", weights, "\n  ".join(listed))


def build_network(cfg) -> nn.Module:
    """Detectron2's ``build_model``; InputError instead of the errors of what the configuration names."""
    try:
        return build_model(cfg)
    except KeyError as error:  # of a table in which Detectron2 looked up a value, which is all that the error tells
        keys = [key for key, value in _values(cfg.MODEL, "MODEL.").items() if value == error.args[0]]
        whose = f", the value of {' or '.join(keys)}" if keys else ""
        raise InputError(f"The network cannot be built: nothing is known by {error}{whose}.") from error
    except Exception as error:  # of torch and Detectron2, on values that nothing has refused yet
        raise InputError(f"The network cannot be built: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What an error of foreign code says, or the line of code that raised it without a word."""
    if isinstance(error, (ValueError, AssertionError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {str(error) or traceback.extract_tb(error.__traceback__)[-1].line}"


@contextlib.contextmanager
def kept_warnings() -> Iterator[List[str]]:
    """The warnings of this package while the context lasts, in place of their output: the log of a run begins later."""
    kept: List[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())
    package = logging.getLogger("tsdd_d2")
    package.addHandler(handler)
    try:
        yield kept
    finally:
        package.removeHandler(handler)


def _require_writable(folder: str) -> None:
    """Raises InputError unless a file can be written into a folder, which need not exist; nothing is left there."""
    made, path = [], os.path.abspath(folder)
    while not os.path.lexists(path):
        made.append(path)
        path = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 2**20)  # more than the first files of a run
    except (OSError, ValueError) as error:
        raise InputError(
            f"OUTPUT_DIR {folder} cannot be written to: {getattr(error, 'strerror', None) or error}."
        ) from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                os.rmdir(path)


def check_output_dir(cfg, resume: bool, overwrite: bool, training: bool = True) -> None:
    """Raises InputError if OUTPUT_DIR cannot be written to, or holds a run that this one would destroy, unasked or though it needs it, or a run
    that training cannot resume since its ROIs come from something else.

    Evaluation (not ``training``) writes below OUTPUT_DIR/inference alone: there a run of another configuration is worth a
    warning.
    """
    _require_writable(cfg.OUTPUT_DIR)
    if overwrite:
        removed = [os.path.realpath(x) for x in (cfg.OUTPUT_DIR, *run_files(cfg.OUTPUT_DIR))]
        if cfg.MODEL.WEIGHTS and os.path.realpath(cfg.MODEL.WEIGHTS) in removed:
            raise InputError(
                f"--overwrite would remove MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}, which training starts from: name another "
                "OUTPUT_DIR."
            )
        return
    config_file = os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)
    if not os.path.exists(config_file):
        return
    # empty where Detectron2 was killed as it wrote it
    found = read_yaml(config_file) or {}
    if not isinstance(found, dict):
        raise InputError(f"{config_file} cannot be read: it holds no keys with values.")
    differences = config_differences(found, yaml.safe_load(cfg.dump()))
    listed = [describe_difference(*difference) for difference in differences]
    if training and not resume:
        if not differences:
            raise InputError(
                f"OUTPUT_DIR {cfg.OUTPUT_DIR} holds a run of this configuration: go on with --resume, or start again "
                "with --overwrite."
            )
        raise InputError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} belongs to a run with a different configuration:\n  "
            + "\n  ".join(listed)
            + "\nName another OUTPUT_DIR, or start again in this one with --overwrite."
        )
    if training:
        decisive = [
            describe_difference(key, old, new)
            for key, old, new in differences
            # a key that one side lacks is of another version of this software
            if (DECIDES_ROIS.fullmatch(key) or cfg.REFINEMENT.ENABLED and key == DECIDES_ROUNDS) and ABSENT not in (old, new)
        ]
        decisive = decisive or differences_of_files(cfg)
        if decisive:
            raise InputError(
                f"--resume: the ROIs of the run in OUTPUT_DIR {cfg.OUTPUT_DIR} come from something else:\n  "
                + "\n  ".join(decisive)
                + "\nName another OUTPUT_DIR, or start again in this one with --overwrite."
            )
    if differences:
        logger.warning("The configuration differs from that of the run in OUTPUT_DIR:\n  %s", "\n  ".join(listed))


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Tuple[str, Any, Any]]:
    """Key as on the command line, old and new value, :data:`ABSENT` where there is no such key.

    Args:
        old, new: configurations as their YAML is read.
    """
    old, new = _values(old), _values(new)
    pairs = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted(old | new)]
    return [(key, before, now) for key, before, now in pairs if before != now]


def _values(node: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Key, as it is overridden on the command line -> value."""
    found = {}
    for key, value in node.items():
        found.update(_values(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return found
