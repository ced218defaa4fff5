"""One file that holds a trained model and all it needs on another machine: no data set, no initial weights."""

import contextlib
import math
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Optional, Tuple

import torch
from torch import nn

import tsdd_d2
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from ..config import get_tsdd_cfg, stored_config
from ..config_values import reason_against_device
from ..data import CLASS_NAMES
from ..data.files import parse_yaml, read_json
from ..engine.checkpoint import TSDDCheckpointer, are_weights, require_finite
from ..engine.run_folder import RunRecord, read_run_config, run_files
from ..engine.seen_patients import seen_patients_of_run
from ..errors import InputError
from ..evaluation import load_youden_threshold
from ..evaluation.statistics import threshold_for_sensitivity

__all__ = ["TRAINED", "ModelFile", "load_model", "load_model_of_run", "save_model", "save_model_of_run"]

# The checkpoint that a run ends with.
LAST = "model_final"
# The model that comes with the package, see docs/model_card.md.
TRAINED = os.path.join(os.path.dirname(tsdd_d2.__file__), "trained", "busbra.pth")
# Goes up when an older package could not read the files that are written from then on.
FORMAT_VERSION = 1
# What a file holds beside FORMAT_VERSION, its kind and what else must be true of it. The weights are under Detectron2's
# own key: MODEL.WEIGHTS may name the file. The preprocessing is that of the configuration, for readers without this package.
FIELDS = {
    "model": (dict, are_weights),
    "config": (str, bool),
    "preprocessing": (dict, bool),
    "class_names": (list, lambda x: x == list(CLASS_NAMES)),
    "threshold": (float, lambda x: 0 <= x <= 1),
    "training_set": (dict, lambda x: all(isinstance(x.get(key), str) for key in ("name", "sha256"))),
    "package_version": (str, bool),
}


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds, with its network built.

    Attributes:
        model: the network, in evaluation mode, with Detectron2's inference contract.
        cfg: the configuration that it was trained with.
        preprocessing: ``format`` ("L", "RGB" or "BGR"), ``min_size`` and ``max_size`` (pixels of the image tensor's shorter
            and longer side), ``pixel_mean`` and ``pixel_std`` (for each channel, in 0-255; the network applies them).
        class_names: of the classes 0 and 1.
        threshold: an image with ``malignancy >= threshold`` is called malignant.
        training_set: ``name``, and ``sha256`` of its annotation file.
        package_version: the tsdd_d2 that wrote the file.
    """

    model: nn.Module
    cfg: CfgNode
    preprocessing: Dict[str, Any]
    class_names: Tuple[str, ...]
    threshold: float
    training_set: Dict[str, str]
    package_version: str


def save_model(
    path: str,
    cfg,
    model: nn.Module,
    *,
    threshold: float,
    training_set: Dict[str, str],
    patients: Optional[Iterable[str]] = None,
    validation_patients: Iterable[str] = (),
    half: bool = False,
) -> None:
    """
    Writes a model file, completely or not at all; missing folders are made.

    Args:
        path: ends in ``.pth``.
        cfg: the whole configuration of ``model``.
        threshold: in [0, 1]; an image with ``malignancy >= threshold`` is called malignant.
        training_set: ``name`` and ``sha256``, of its annotation file.
        patients: the keys of the patients of the training set, see :mod:`tsdd_d2.engine.seen_patients`, by which an
            evaluation tells whether it is independent; None: unknown.
        validation_patients: those of the validation set.
        half: keep the kernels of convolutions and linear layers in float16, which halves the file; the network that is
            loaded computes in float32 all the same.

    Raises:
        InputError: another suffix, a threshold that is no probability, or an INPUT.FORMAT that is no image's.
    """
    folder, name = os.path.split(os.path.abspath(path))
    if not name.endswith(".pth"):
        raise InputError(f"{path}: model files end in .pth.")
    if not 0 <= threshold <= 1:
        raise InputError(f"{path}: the threshold must be a probability in [0, 1], not {threshold}.")
    if cfg.INPUT.FORMAT not in ("L", "RGB", "BGR"):
        raise InputError(f"{path}: INPUT.FORMAT must be L, RGB or BGR, not {cfg.INPUT.FORMAT}.")
    os.makedirs(folder, exist_ok=True)
    kernels = model.register_state_dict_post_hook(_halve_kernels) if half else contextlib.ExitStack()
    with kernels:
        TSDDCheckpointer(model, folder, resumable=False).save(
            name[: -len(".pth")],
            format_version=FORMAT_VERSION,
            config=_without_places(cfg).dump(),
            preprocessing=_preprocessing(cfg),
            class_names=list(CLASS_NAMES),
            threshold=float(threshold),
            training_set=dict(training_set),
            patients=None if patients is None else sorted(patients),
            validation_patients=sorted(validation_patients),
            package_version=tsdd_d2.__version__,
        )


def load_model(path: Optional[str] = None, device: Optional[str] = None) -> ModelFile:
    """
    Reads a model file and builds its network; the data set and the initial weights need not be there.

    Args:
        path: the file; None: the model that comes with the package, see docs/model_card.md.
        device: where the network goes, such as "cpu" or "cuda:1"; None: CUDA if there is any, else the CPU.

    Raises:
        InputError: the file is missing, damaged, something else (a checkpoint, for example), or of a newer version;
            the device is not there.
    """
    path = TRAINED if path is None else os.fspath(path)
    device = _usable(device)
    content = _read(path)
    source = f"{path} (written by tsdd_d2 {content['package_version']})"
    its_config = f"{source}: its configuration"
    cfg = stored_config(parse_yaml(content["config"], its_config), its_config)
    if content["preprocessing"] != _preprocessing(cfg):
        raise InputError(f"{path} is a damaged model file: its preprocessing is not that of its configuration.")
    cfg.MODEL.DEVICE = device
    cfg.freeze()
    model = _build_model(cfg, source)
    try:
        model.load_state_dict(content["model"])
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the weights do not fit the network of its configuration: {error}") from error
    require_finite(model, path)
    return ModelFile(
        model=model.eval(),
        cfg=cfg,
        preprocessing=content["preprocessing"],
        class_names=tuple(content["class_names"]),
        threshold=content["threshold"],
        training_set=content["training_set"],
        package_version=content["package_version"],
    )


def load_model_of_run(run: str, checkpoint: str, device: Optional[str] = None) -> Tuple[CfgNode, nn.Module]:
    """
    Builds the network of a run of tools/train_net.py; the training set need not be there.

    Args:
        run, checkpoint: see :func:`save_model_of_run`.
        device: see :func:`load_model`; where the run was trained does not matter.
    Returns:
        the configuration of the run, with the defaults of the keys that are newer, and the network in evaluation mode.

    Raises:
        InputError: the run or the checkpoint is missing or does not fit; nothing here registers its architecture; the device
            is not there.
    """
    cfg = read_run_config(run, strict=True)
    weights = os.path.join(run, f"{checkpoint}.pth")
    if not os.path.isfile(weights):
        found = sorted(x[: -len(".pth")] for x in os.listdir(run) if x.endswith(".pth"))
        raise InputError(f"{run} has no checkpoint {checkpoint}; it has {', '.join(found) or 'none'}.")
    on_device = cfg.clone()
    on_device.MODEL.DEVICE = _usable(device)
    model = _build_model(on_device, run)
    try:
        TSDDCheckpointer(model).load(weights, checkpointables=[])
    except InputError as error:
        raise InputError(f"{weights}: {error}") from error
    require_finite(model, weights)
    return cfg, model.eval()


def save_model_of_run(
    run: str,
    path: str,
    checkpoint: str = LAST,
    threshold: Optional[float] = None,
    sensitivity: Optional[float] = None,
    half: bool = False,
) -> float:
    """
    Makes a model file from a run of tools/train_net.py; the training set need not be there.

    Args:
        run: the OUTPUT_DIR.
        checkpoint: name of a checkpoint in it, without ``.pth``. The last one has the averaged weights, and is what the
            tables are about: the best of a few validation AUCs is often best by chance.
        threshold: None: the one that the run's evaluation used, 0.5 or the Youden threshold of the validation set.
        sensitivity: in its place, the highest threshold with at least this sensitivity on the validation set, of the last
            weights.
        half: see :func:`save_model`.
    Returns:
        the threshold of the file.

    Raises:
        InputError: the run, its record, the checkpoint or the threshold is missing, or ``path`` is a checkpoint of the run;
            nothing is written.
    """
    if os.path.realpath(path) in map(os.path.realpath, run_files(run)):
        raise InputError(f"{path} is a checkpoint of the run, which goes on from it: name another file.")
    cfg, model = load_model_of_run(run, checkpoint, device="cpu")
    if sensitivity is not None:
        threshold = _threshold_for(sensitivity, cfg, run, checkpoint)
    elif threshold is None:
        threshold = _threshold_of_run(cfg, run, checkpoint)
    record = RunRecord.read(run)
    training_set = {"name": record.dataset, "sha256": record.annotation_sha256}
    seen = seen_patients_of_run(run)
    patients = {} if seen is None else {"patients": seen.keys, "validation_patients": seen.validation_keys}
    save_model(path, cfg, model, threshold=threshold, training_set=training_set, half=half, **patients)
    return threshold


def _without_places(cfg: CfgNode) -> CfgNode:
    """Less the paths of the machine that trained, which mean nothing on another one and may tell more than they should."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = get_tsdd_cfg().OUTPUT_DIR
    cfg.MODEL.WEIGHTS = cfg.MODEL.CNET.WEIGHTS = cfg.DATASETS.VETOES = ""
    return cfg


def _halve_kernels(module: nn.Module, state: Dict[str, torch.Tensor], prefix: str, metadata: Dict) -> None:
    """Statistics of normalisation layers and biases stay: they are few, and a variance may be beyond float16."""
    for key, x in state.items():
        if x.dim() > 1 and x.is_floating_point():
            state[key] = x.half()


def _usable(device: Optional[str]) -> str:
    """The device of :func:`load_model`."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    reason = reason_against_device(device)
    if reason:
        raise InputError(reason)
    return device


def _preprocessing(cfg: CfgNode) -> Dict[str, Any]:
    return {
        "format": cfg.INPUT.FORMAT,
        "min_size": cfg.INPUT.MIN_SIZE_TEST,
        "max_size": cfg.INPUT.MAX_SIZE_TEST,
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
    }


def _build_model(cfg: CfgNode, source: str) -> nn.Module:
    try:
        return build_model(cfg)
    except KeyError as error:  # of Detectron2's registries
        raise InputError(
            f"{source} needs a part that this tsdd_d2 {tsdd_d2.__version__} does not have: {error.args[0]}"
        ) from error
    except Exception as error:  # of a network that no training can have had
        raise InputError(
            f"{source}: no network can be built of its configuration: {type(error).__name__}: {error}"
        ) from error


def _read(path: str) -> Dict[str, Any]:
    hint = "tools/save_model.py makes a model file from a training run."
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a model file. {hint}")
    if not os.path.isfile(path):
        raise InputError(f"The model file {path} does not exist.")
    if path.lower().endswith(".onnx"):
        raise InputError(f"{path} is an exported model, which onnxruntime runs, see docs/onnx.md. {hint}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # see read_checkpoint
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is no model file, or a damaged one: {type(error).__name__}: {reason}") from error
    if not isinstance(content, dict) or "format_version" not in content:
        raise InputError(f"{path} is no model file; perhaps it is a checkpoint. {hint}")
    if content["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path} has format {content['format_version']} (tsdd_d2 {content.get('package_version')}); "
            f"tsdd_d2 {tsdd_d2.__version__} reads format {FORMAT_VERSION}."
        )
    wrong = [
        key
        for key, (kind, is_right) in FIELDS.items()
        if not (isinstance(content.get(key), kind) and is_right(content[key]))
    ]
    if wrong:
        raise InputError(f"{path} is a damaged model file: {', '.join(wrong)} missing or malformed. {hint}")
    return content


def _threshold_for(sensitivity: float, cfg: CfgNode, run: str, checkpoint: str) -> float:
    if not 0 < sensitivity <= 1:
        raise InputError(f"The sensitivity must be above 0 and at most 1, not {sensitivity}.")
    if checkpoint != LAST or not cfg.DATASETS.VAL:
        raise InputError(
            f"{run}: a threshold for a sensitivity needs the validation of the last weights, not of {checkpoint}."
        )
    path = os.path.join(run, "inference", f"diagnosis_{cfg.DATASETS.VAL[0]}.json")
    report = read_json(path) if os.path.isfile(path) else {}
    try:
        labels, malignancies = zip(*((x["label"], x["malignancy"]) for x in report["predictions"]))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no validation of the run: finish the run first.") from error
    threshold = threshold_for_sensitivity(labels, malignancies, sensitivity)
    if math.isnan(threshold):
        raise InputError(f"{path}: the validation set has no malignant image.")
    return threshold


def _threshold_of_run(cfg, run: str, checkpoint: str) -> float:
    if not cfg.TEST.YOUDEN_THRESHOLD:
        return 0.5
    report = os.path.join(run, "inference", checkpoint, "val", f"diagnosis_{cfg.DATASETS.VAL[0]}.json")
    try:
        return load_youden_threshold(report)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(
            f"{run}: TEST.YOUDEN_THRESHOLD is on, and the run's final evaluation left no threshold for {checkpoint} "
            f"({error}). State one, or finish the run first."
        ) from error
