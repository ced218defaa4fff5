"""What is refused of the data sets of a run."""

import logging
from typing import Dict, List, Mapping, Tuple

from detectron2.data import MetadataCatalog

from ...data import ensure_registered, validate_splits
from ...data.files import read_json
from ...data.image_sizes import is_too_narrow
from ...data.roi import drawn_by_hand
from ...errors import BBUIError, InputError
from ..final_evaluation import evaluated_sets
from ..run_folder import initial_annotation

logger = logging.getLogger(__name__)


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
