"""Which patients a network has seen: asked of what was stored with its weights, not of today's configuration."""

import hashlib
import logging
import os
import re
from typing import Any, Dict, FrozenSet, Iterable, Mapping, NamedTuple, Optional, Tuple

from detectron2.data import MetadataCatalog

from ..data import ensure_registered
from ..data.files import read_json
from ..data.folds import SPLIT
from ..data.validation import read_valid_bbui
from ..errors import InputError
from ..refinement import ROIBank
from .checkpoint import read_checkpoint
from .run_folder import CONFIG_FILE, RECORD, WRITTEN, RunRecord, read_run_config

__all__ = [
    "SeenPatients",
    "check_independence",
    "patient_keys",
    "patients_of_data_set",
    "seen_patients",
    "seen_patients_of_run",
]

logger = logging.getLogger(__name__)

_SPLIT = re.compile(rf"_(?:{SPLIT.pattern})$")


class SeenPatients(NamedTuple):
    """
    Attributes:
        dataset: name of the training set.
        keys: those of :func:`patient_keys` of all its patients.
        validation_keys: of the patients by whom checkpoints and thresholds are chosen.
    """

    dataset: str
    keys: FrozenSet[str]
    validation_keys: FrozenSet[str] = frozenset()


def patient_keys(dataset: str, images: Iterable[Mapping[str, Any]]) -> Dict[str, FrozenSet[str]]:
    """
    What tells the patients of a data set from others, wherever its images lie: two data sets may both have a patient "1".

    Args:
        dataset: its name; that of a fold's split stands for the whole data set.
        images: entries of a BBUI file.
    Returns:
        patient -> 16 hexadecimal digits of the SHA-256 of the patient with the data set, and of the patient with the name
        of each image. They are no secret: whoever has a patient's id can compute them.
    """
    collection = _SPLIT.sub("", dataset)
    keys: Dict[str, set] = {}
    for image in images:
        patient = image["patient_id"]
        keys.setdefault(patient, {_key("data set", collection, patient)}).add(_key("image", image["file_name"], patient))
    return {patient: frozenset(found) for patient, found in keys.items()}


def patients_of_data_set(name: str) -> Dict[str, FrozenSet[str]]:
    """:func:`patient_keys` of a data set on this machine."""
    ensure_registered(name)
    return patient_keys(name, read_valid_bbui(MetadataCatalog.get(name).json_file)["images"])


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def seen_patients(weights: str, later: Tuple[str, ...] = ()) -> Optional[SeenPatients]:
    """
    The patients that weights have seen in training and validation, from the model file itself, or from the run that a
    checkpoint lies in.

    Args:
        later: see :func:`seen_patients_of_run`.
    Returns:
        None if there is no record: it is unknown.
    Raises:
        InputError: the file or the record is damaged.
    """
    run, name = os.path.split(os.path.abspath(weights))
    if WRITTEN.fullmatch(name) and os.path.isfile(os.path.join(run, RECORD)):
        return seen_patients_of_run(run, later)
    content = read_checkpoint(weights)
    keys, training_set = content.get("patients"), content.get("training_set")
    validation = content.get("validation_patients", [])  # older files have none
    if isinstance(keys, list) and isinstance(validation, list) and isinstance(training_set, dict):
        return SeenPatients(str(training_set.get("name")), *(frozenset(map(str, x)) for x in (keys, validation)))
    return None


def seen_patients_of_run(run: str, later: Tuple[str, ...] = ()) -> Optional[SeenPatients]:
    """See :func:`seen_patients`; round 0 of a run holds all images of its training set, and its last validation those of
    DATASETS.VAL. What its initial weights have seen counts too, where these were a checkpoint.

    Args:
        later: the runs that went on from this one.
    """
    if os.path.realpath(run) in later:
        return SeenPatients("", frozenset())  # they are counted already
    try:
        images = ROIBank(os.path.join(run, "rois")).read(0)["images"]
    except FileNotFoundError:
        return None
    dataset = RunRecord.read(run).dataset
    keys = frozenset().union(*patient_keys(dataset, images).values())
    weights, validation = "", frozenset()
    if os.path.isfile(os.path.join(run, CONFIG_FILE)):
        cfg = read_run_config(run)
        weights = cfg.MODEL.WEIGHTS
        validation = validation.union(*(_validation_keys(run, name) for name in cfg.DATASETS.VAL))
    later = (*later, os.path.realpath(run))
    before: Optional[SeenPatients] = SeenPatients("", frozenset())
    if os.path.isdir(weights):
        before = seen_patients_of_run(weights, later)
    elif weights.endswith(".pth"):
        before = seen_patients(weights, later) if os.path.isfile(weights) else None
    return before and SeenPatients(dataset, keys | before.keys, validation | before.validation_keys)


def _validation_keys(run: str, dataset: str) -> FrozenSet[str]:
    path = os.path.join(run, "inference", f"diagnosis_{dataset}.json")
    if not os.path.isfile(path):  # training has not come so far
        return frozenset()
    report = read_json(path)
    try:
        return frozenset().union(*patient_keys(dataset, report["predictions"]).values())
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no report of a validation: {error!r}") from error


def check_independence(weights: str, datasets: Iterable[str]) -> None:
    """
    Compares the patients that weights have seen with those of the sets that they are to be tested on. A test on the training
    set itself or on patients of the validation is worth a warning, and so are weights without a record.

    Raises:
        InputError: another set has some of the patients.
    """
    seen = seen_patients(weights)
    if seen is None:
        logger.warning("%s has no record of its training: whether it was trained on the test patients is unknown.", weights)
        return
    problems = []
    for name in datasets:
        keys = patients_of_data_set(name)
        known = sorted(patient for patient, found in keys.items() if found & seen.keys)
        if name == seen.dataset:
            logger.warning("%s is what %s was trained on: this is no test.", name, weights)
        elif known:
            listed = ", ".join(known[:3]) + ", ..." * (len(known) > 3)
            problems.append(f"{name}: {len(known)} of its {len(keys)} patients ({listed})")
        validated = sum(bool(found & seen.validation_keys) for found in keys.values())
        if validated:
            logger.warning(
                "%s: %d of its %d patients validated the training of %s: it is no independent test.",
                name, validated, len(keys), weights,
            )  # fmt: skip
    if problems:
        raise InputError(
            f"{weights} was trained on {seen.dataset}, with patients, by their names, of the sets that it is to be tested on:\n  "
            + "\n  ".join(problems)
            + "\nName other sets in DATASETS.TEST, such as those of the same fold. If they are other people of the same names, as "
            "of another clinic, prepare the test set with other names of the patients, such as with a prefix."
        )
