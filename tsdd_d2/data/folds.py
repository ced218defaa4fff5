"""
Which patient is in which split, and which patients keep their ROIs. Everything is drawn over patients, never
over images: two images of one patient must not be on both sides of a comparison.
"""

import math
import os
import pathlib
import re
from collections import defaultdict
from typing import Any, Collection, Dict, Iterable, List, Mapping, Set, Union

import numpy as np
from tabulate import tabulate

from ..errors import BBUIError, InputError
from .categories import CATEGORIES
from .files import write_json_files

__all__ = [
    "ALL",
    "assign_folds",
    "count_table",
    "draw_fully_annotated",
    "fold_name",
    "keep_rois",
    "patient_classes",
    "split_patients",
    "write_splits",
]

NUM_FOLDS = 5
# In the place of a fold's number: all patients are trained on but those that validate, and none is tested.
ALL = "all"
# The names of splits.
SPLIT = re.compile(r"fold[1-9][0-9]*_(?:train|val|test)|all(?:_(?:train|val))?")
VALIDATION_SHARE = 0.1  # of all patients, so that five folds give the paper's 70/10/20


def patient_classes(bbui: Mapping[str, Any]) -> Dict[str, int]:
    """
    Returns:
        patient id -> class id of the file (1 benign, 2 malignant), sorted by patient id. A patient with
        images of both classes counts as malignant.
    """
    classes: Dict[str, int] = {}
    for image in bbui["images"]:
        patient = image["patient_id"]
        classes[patient] = max(image["category_id"], classes.get(patient, 0))
    return dict(sorted(classes.items()))


def assign_folds(patients: Mapping[str, int], num_folds: int = NUM_FOLDS, seed: int = 0) -> Dict[str, int]:
    """
    Draw a class-stratified k-fold over patients.

    Args:
        patients: patient id -> class.

    Returns:
        patient id -> the fold, 1 to `num_folds`, in which the patient is tested.

    Raises:
        BBUIError: a class has fewer patients than there are folds, so some fold could not test it.
    """
    # Not at the top of the file: scikit-learn takes a second to import, and only preparation needs it.
    from sklearn.model_selection import StratifiedKFold

    names = sorted(patients)
    classes = [patients[name] for name in names]
    for category in CATEGORIES:
        count = classes.count(category["id"])
        if count < num_folds:
            raise BBUIError(
                f"{num_folds} folds need at least {num_folds} {category['name']} patients, found {count}. "
                "Use fewer folds, or more patients."
            )
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(names, classes)
    return {names[index]: fold for fold, (_, test) in enumerate(folds, start=1) for index in test}


def split_patients(
    patients: Mapping[str, int], test_folds: Mapping[str, int], fold: Union[int, str], seed: int = 0
) -> Dict[str, Set[str]]:
    """
    The three disjoint sets of patients of one fold.

    The validation patients, 10% of all patients but at least two, are drawn class-stratified from those that
    the fold does not test. :data:`ALL` tests nobody, and trains on all others.

    Args:
        patients: patient id -> class.
        test_folds: patient id -> the fold in which the patient is tested.
        fold: the fold to split, from 1, or :data:`ALL`.

    Returns:
        {"train": set, "val": set, "test": set} of patient ids.
    """
    test = {patient for patient in patients if test_folds[patient] == fold}
    rest = {patient: category for patient, category in patients.items() if patient not in test}
    # A draw of its own for every fold; else all folds would validate on nearly the same patients.
    order = _stratified_order(rest, [seed, 0 if fold == ALL else fold])
    num_val = max(2, _round_to_nearest(VALIDATION_SHARE * len(patients)))
    return {"train": set(order[num_val:]), "val": set(order[:num_val]), "test": test}


def fold_name(fold: Union[int, str]) -> str:
    """Such as "fold1", or "all" of :data:`ALL`."""
    return ALL if fold == ALL else f"fold{fold}"


def write_splits(
    bbui: Mapping[str, Any],
    annotations_dir: Union[str, os.PathLike],
    test_folds: Mapping[str, int],
    num_folds: int = NUM_FOLDS,
    seed: int = 0,
) -> Dict[str, Dict[str, Any]]:
    """
    Write `fold{k}_{train,val,test}.json` for every fold k, `all_{train,val}.json` and `all.json`, on which networks of other
    data are tested. Image and annotation ids stay those of `bbui`.

    A fold without a test patient is left out and a line is printed: part of a data set with official folds
    may have some of them only. Files of folds that an earlier call wrote, and this one does not, are removed.

    Args:
        bbui: the content of a valid BBUI file with all images of the data set.
        annotations_dir: the folder to write to; it is made if missing.
        test_folds: patient id -> the fold, 1 to `num_folds`, in which the patient is tested:
            :func:`assign_folds` or the official folds of the data set.
        seed: of the draw of the validation patients.

    Returns:
        name of the split, such as "fold1_train" -> content of its file.

    Raises:
        BBUIError: `test_folds` lacks a patient or names a fold that does not exist, or a fold leaves no
            patient of a class to train on. Nothing is written then.
        InputError: a file cannot be written. All files stay as they were then.
    """
    patients = patient_classes(bbui)
    problems = [
        f"patient {patient!r}: no fold from 1 to {num_folds} but {test_folds.get(patient)!r}"
        for patient in patients
        if test_folds.get(patient) not in range(1, num_folds + 1)
    ]
    if problems:
        raise BBUIError("Every patient needs the fold in which it is tested:", problems)

    splits = {}
    for fold in (*range(1, num_folds + 1), ALL):
        members = split_patients(patients, test_folds, fold, seed)
        if fold == ALL:
            del members["test"]
        elif not members["test"]:
            print(f"Fold {fold} is left out: no image of its test patients is here.")
            continue
        trained = {patients[name] for name in members["train"]}
        for category in CATEGORIES:
            if category["id"] not in trained:
                count = list(patients.values()).count(category["id"])
                raise BBUIError(
                    f"Fold {fold} leaves no {category['name']} patient to train on: the data set has {count} of "
                    f"{len(patients)} patients. Use fewer folds, or more patients."
                )
        for split, names in members.items():
            splits[f"{fold_name(fold)}_{split}"] = _select_patients(bbui, names)

    splits[ALL] = bbui
    try:
        write_json_files({os.path.join(annotations_dir, f"{split}.json"): content for split, content in splits.items()})
    except OSError as error:
        raise InputError(
            f"The annotation files cannot be written to {os.fspath(annotations_dir)}, where all stay as they were: {error}"
        ) from error
    remove_other_folds(annotations_dir, splits)
    return splits


def remove_other_folds(annotations_dir: Union[str, os.PathLike], splits: Collection[str]) -> None:
    """Removes the folds that are not among the splits just written. They come from another draw: a patient could be tested in
    them and in a fold of this one."""
    for path in sorted(pathlib.Path(annotations_dir).glob("fold*_*.json")):
        if path.stem not in splits and SPLIT.fullmatch(path.stem):
            path.unlink()
            print(f"{path.name} of an earlier preparation is removed: its patients were drawn otherwise.")


def count_table(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """
    Args:
        contents: name -> content of a BBUI file.

    Returns:
        str: a table with one line for each name: images and patients, over all and for each class, and ROIs.
    """
    rows = []
    for name, bbui in contents.items():
        patients = list(patient_classes(bbui).values())
        images = [image["category_id"] for image in bbui["images"]]
        fully_annotated = {annotation["image_id"] for annotation in bbui["annotations"]}
        rows.append(
            [name, len(images)]
            + [images.count(category["id"]) for category in CATEGORIES]
            + [len(patients)]
            + [patients.count(category["id"]) for category in CATEGORIES]
            + [len(fully_annotated), len(bbui["annotations"])]
        )
    classes = [category["name"] for category in CATEGORIES]
    headers = ["", "images", *classes, "patients", *classes, "images with ROI", "ROIs"]
    return tabulate(rows, headers=headers)


def draw_fully_annotated(patients: Mapping[str, int], p: float, seed: int = 0) -> Set[str]:
    """
    Draw the patients that keep their ROIs (the paper's p, a share of the training patients).

    The draw is class-stratified and nested: with one seed, the patients of a smaller p are among those of a
    larger.

    Args:
        patients: patient id -> class.
        p: in [0, 1]. p * len(patients) is rounded to the nearest number, and is at least 1 if p > 0.

    Raises:
        ValueError: p is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is the share of patients that keep their ROIs: it must be in [0, 1], found {p}")
    count = _round_to_nearest(p * len(patients))
    return set(_stratified_order(patients, [seed])[: max(1, count) if p > 0 else 0])


def keep_rois(bbui: Mapping[str, Any], p: float, seed: int = 0) -> Dict[str, Any]:
    """
    Take the annotations away from all patients outside :func:`draw_fully_annotated`.

    The draw is over all patients of `bbui`; one who has no ROI stays without, drawn or not.

    Args:
        bbui: content of a BBUI file, which is not changed.

    Returns:
        content of a BBUI file with the same images and fewer annotations.
    """
    kept = draw_fully_annotated(patient_classes(bbui), p, seed)
    images = {image["id"] for image in bbui["images"] if image["patient_id"] in kept}
    return {
        **bbui,
        "annotations": [annotation for annotation in bbui["annotations"] if annotation["image_id"] in images],
    }


def _select_patients(bbui: Mapping[str, Any], patients: Set[str]) -> Dict[str, Any]:
    images = [image for image in bbui["images"] if image["patient_id"] in patients]
    ids = {image["id"] for image in images}
    return {
        **bbui,
        "images": images,
        "annotations": [annotation for annotation in bbui["annotations"] if annotation["image_id"] in ids],
    }


def _stratified_order(patients: Mapping[str, int], seed: Iterable[int]) -> List[str]:
    """
    A random order of the patients such that any first n of them have the class mix of all, to within one
    patient, and both classes from n = 2 on.
    """
    by_class = defaultdict(list)
    for patient in sorted(patients):
        by_class[patients[patient]].append(patient)
    # RandomState and not default_rng: numpy guarantees its numbers for ever, and splits must outlive a numpy
    # version.
    random = np.random.RandomState(list(seed))
    order = []
    # The larger class first, so that it wins the ties.
    for category, names in sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0])):
        shuffled = [names[index] for index in random.permutation(len(names))]
        order += [(rank / len(names), patient) for rank, patient in enumerate(shuffled)]
    # Python's sort is stable: ties keep their order.
    return [patient for _, patient in sorted(order, key=lambda item: item[0])]


def _round_to_nearest(value: float) -> int:
    return math.floor(value + 0.5)
