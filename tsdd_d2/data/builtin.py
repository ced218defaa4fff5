"""
Data sets by convention. The folder D below $DETECTRON2_DATASETS (default "datasets", as in Detectron2) holds
the images of a data set in their own layout and `annotations/<split>.json`, as `datasets/prepare.py` writes
them; this split is registered as "<D>_<split>", for example "busbra_fold1_train".

The variable is read whenever a data set is loaded or looked up, so it may be set after the import.
"""

import functools
import glob
import os
import re
from typing import Any, Dict, List, Tuple

from detectron2.data import DatasetCatalog

from ..errors import BBUIError
from .bbui import load_bbui_json, register_bbui_instances
from .folds import SPLIT

__all__ = ["dataset_folder", "ensure_registered", "register_builtin"]

BUILTIN_DATASETS = ("busbra", "busi", "phantom")
_FOLDS = [f"fold{fold}_{split}" for fold in range(1, 6) for split in ("train", "val", "test")]
BUILTIN_SPLITS = (*_FOLDS, "all_train", "all_val", "all")

_CONVENTION = re.compile(rf"(?P<dataset>.+)_(?P<split>{SPLIT.pattern})")


def dataset_folder(dataset: str) -> str:
    """
    The folder of a data set, for example "busbra": `$DETECTRON2_DATASETS/busbra`.

    Raises:
        BBUIError: the name is a path, such as "busbra/".
    """
    if os.path.basename(dataset) != dataset:
        raise BBUIError(
            f"A data set is named by its folder below $DETECTRON2_DATASETS alone, without slashes, not {dataset!r}."
        )
    return os.path.join(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")), dataset)


def register_builtin() -> None:
    """Register folds 1 to 5, and all patients, of the data sets that `datasets/` can prepare. No file is touched."""
    for dataset in BUILTIN_DATASETS:
        for split in BUILTIN_SPLITS:
            _register_by_convention(f"{dataset}_{split}")


def ensure_registered(name: str) -> None:
    """
    Make `name` usable, or say what to do about it.

    A name that is registered otherwise is left alone. One that follows the convention is registered, at the
    place that $DETECTRON2_DATASETS names now.

    Raises:
        BBUIError: the name is not known and does not follow the convention, or its annotation file does not
            exist; the message holds the expected path and the command that prepares it.
    """
    if name not in DatasetCatalog or _is_by_convention(name):
        _register_by_convention(name)
        _require_annotation_file(name)


def _register_by_convention(name: str) -> None:
    register_bbui_instances(name, *_locate(name))
    DatasetCatalog.pop(name)
    DatasetCatalog.register(name, functools.partial(_load_by_convention, name))


def _load_by_convention(name: str) -> List[Dict[str, Any]]:
    _register_by_convention(name)  # the variable may have changed, and the metadata must name the loaded file
    _require_annotation_file(name)
    return load_bbui_json(*_locate(name), name)


def _is_by_convention(name: str) -> bool:
    return getattr(DatasetCatalog[name], "func", None) is _load_by_convention


def _locate(name: str) -> Tuple[str, str]:
    """
    Returns:
        json_file, image_root
    """
    match = _CONVENTION.fullmatch(name)
    if match is None:
        raise BBUIError(
            f"The data set {name!r} is not registered, and its name is not "
            "<folder>_fold<K>_<train|val|test>, <folder>_all_<train|val> or <folder>_all, for which it would be looked up below "
            "$DETECTRON2_DATASETS. "
            "Correct the name, or call tsdd_d2.data.register_bbui_instances with it first."
        )
    folder = dataset_folder(match["dataset"])
    return os.path.join(folder, "annotations", f"{match['split']}.json"), folder


def _require_annotation_file(name: str) -> None:
    json_file, folder = _locate(name)
    if os.path.isfile(json_file):
        return
    match = _CONVENTION.fullmatch(name)
    dataset, part = match["dataset"], match["split"].rsplit("_")[-1]
    others = glob.glob(os.path.join(glob.escape(os.path.dirname(json_file)), f"*_{part}.json"))
    if others:
        there = ", ".join(sorted(f"{dataset}_{os.path.basename(x)[:-5]}" for x in others))
        raise BBUIError(f"The data set {name!r} is not there: {json_file} does not exist. There are {there}.")
    if dataset in BUILTIN_DATASETS:
        command = f"python datasets/prepare.py {dataset}"
    else:
        command = f"python datasets/prepare.py csv <table of your images> --root {folder}"
    variable = os.getenv("DETECTRON2_DATASETS")
    raise BBUIError(
        f"The data set {name!r} is not there: {json_file} does not exist. DETECTRON2_DATASETS is "
        f"{'not set' if variable is None else repr(variable)}: it names the folder that holds {dataset}/. "
        f"Prepare the data set with: {command}"
    )


register_builtin()
