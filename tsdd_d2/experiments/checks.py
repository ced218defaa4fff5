"""What is refused of a plan before anything is trained."""

import logging
import os
from typing import Dict, Iterable, Iterator, List, Sequence

import yaml

from detectron2.data import MetadataCatalog

from ..data import ensure_registered
from ..data.files import parse_yaml
from ..engine.checks import check_config
from ..engine.configuration import ABSENT, config_differences, load_config
from ..engine.run_folder import CONFIG_FILE, RunRecord, describe_difference, sha256_of_file
from ..engine.run_folder import RECORD as RUN_RECORD
from ..engine.seen_patients import patients_of_data_set
from ..errors import InputError
from .archive import read_file
from .run import Run

logger = logging.getLogger(__name__)

# Keys that the name of a run says, beside those that Run.own_options writes.
OWN_KEYS = ("DATASETS.TRAIN", "DATASETS.VAL", "DATASETS.TEST", "METHOD", "MODEL.META_ARCHITECTURE", "MODEL.WEIGHTS")

# Keys, and beginnings of keys, of a configuration that differ between machines, folders and versions of Detectron2, and
# not in what a run is.
NOT_COMPARED = (
    "CUDNN_BENCHMARK", "DATALOADER.", "MODEL.DEVICE", "OUTPUT_DIR", "SOLVER.AMP.ENABLED", "VERSION",
)  # fmt: skip


def check_plan(runs: Iterable[Run], to_train: Sequence[Run], test_data: Sequence[str] = ()) -> None:
    """
    Args:
        runs: all that are shown.
        to_train: :func:`runs_to_train`, or none of them.
        test_data: data sets for external validation.

    Raises:
        InputError: with every problem of the configurations that are to be trained, every data set that is not there,
            every one for external validation that a run knows from its training, and every run that was made with another
            configuration or with other data.
    """
    runs = list(runs)
    problems: Dict[str, None] = dict.fromkeys(_problems_of_configurations(to_train))
    splits = dict.fromkeys(run.split(name) for run in to_train for name in ("train", "val", "test"))
    absent = set()
    for name in (*splits, *test_data):
        try:
            ensure_registered(name)
        except InputError as error:
            problems[str(error)] = None
            absent.add(name)
    problems.update(dict.fromkeys(_leaks(runs, [name for name in test_data if name not in absent])))
    # a finished first stage is neither shown nor trained, and yet part of what goes or went on from it
    finished = [run for run in runs if run.status == "finished"]
    needed = [run.needs for run in (*to_train, *finished) if run.needs is not None]
    for run in (x for x in dict.fromkeys((*runs, *to_train, *needed)) if x.has_trained):
        problems.update(dict.fromkeys([*other_overrides(run)] or [*_other_values(run)] or [*_other_data(run)]))
    if problems:
        raise InputError("The experiment cannot be run:\n  " + "\n  ".join(problems))


def _problems_of_configurations(runs: Sequence[Run]) -> Iterator[str]:
    """What a training process would refuse at its start."""
    for run in runs:
        own = [key for key in run.overrides[::2] if key in (*OWN_KEYS, *run.own_options)]
        if own:
            yield f"--overrides {', '.join(own)}: part of the name of a run; choose it by --p, --seeds, --folds, --output."
            continue
        try:
            # of the options of a run only these can be unknown, and the message shows them
            _configuration(run, run.overrides)
            check_config(_configuration(run, run.options))
        except InputError as error:
            yield f"{run.method}: {error}".replace("\n", "\n  ")


def _configuration(run: Run, options: Sequence[str]):
    """That of a training process, but for what differs between machines and would give a warning for each run."""
    options = [*options, "SOLVER.AMP.ENABLED", "False", "MODEL.DEVICE", "cpu"]
    return load_config(opts=options, method=run.definition.name, profile=run.profile, data=run.data, fold=run.fold)


def other_overrides(run: Run) -> Iterator[str]:
    """A problem if a run was made with other overrides."""
    result = run.result
    found = result.overrides if result else run.record.get("overrides")
    if found is not None and tuple(found) != run.overrides:
        yield f"{run.folder} was made with overrides {found}, not {list(run.overrides)}: name another --output."


def _other_values(run: Run) -> Iterator[str]:
    """A problem if the configuration of its method has changed since the run was made."""
    path = os.path.join(run.folder, CONFIG_FILE)
    content = read_file(path)
    if content is None:
        return
    try:
        found = parse_yaml(content.decode("utf-8", "replace"), path)
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no keys with values.")
    except InputError as error:
        yield f"{error} Name another --output, or remove the folder."
        return
    try:
        wanted = yaml.safe_load(_configuration(run, run.options).dump())
    except InputError as error:
        yield str(error)
        return
    described = [
        describe_difference(key, old, new)
        for key, old, new in config_differences(found, wanted)
        # a key that only one of them has came or went with a version of the software
        if ABSENT not in (old, new)
        and not key.startswith(NOT_COMPARED)
        # a folder, where the run goes on from another one
        and not (key == "MODEL.WEIGHTS" and run.needs is not None)
    ]
    if described:
        yield "\n    ".join(
            [f"{run.folder} was made with other values: name another --output, or remove the folder.", *described]
        )


def _other_data(run: Run) -> Iterator[str]:
    """A problem for each annotation file that has changed since the run was trained on it or tested with it."""
    known: Dict[str, str] = {}
    if os.path.isfile(os.path.join(run.folder, RUN_RECORD)):
        record = RunRecord.read(run.folder)
        known[record.dataset] = record.annotation_sha256
    if (result := run.result) is not None:
        known.update(result.annotation_sha256)
    for name, sha256 in known.items():
        try:
            ensure_registered(name)
        except InputError:  # rendering needs no data
            continue
        path = MetadataCatalog.get(name).json_file
        if sha256_of_file(path) != sha256:
            yield f"{run.folder} was made with another {path}: name another --output, or restore the file."


def _leaks(runs: Sequence[Run], test_data: Sequence[str]) -> Iterator[str]:
    """A problem for each data set for external validation and each split of the runs' training that it shares patients
    with. What is not on this machine is not compared, and a warning says so.
    """
    users: Dict[str, List[Run]] = {}
    for run in runs if test_data else ():
        for name in ("train", "val"):
            users.setdefault(run.split(name), []).append(run)
    unknown = []
    for split in users:
        try:
            ensure_registered(split)
        except InputError:
            unknown.append(split)
    known = {name: patients_of_data_set(name) for name in dict.fromkeys((*users, *test_data)) if name not in unknown}
    for split in (x for x in users if x not in unknown):
        seen = frozenset().union(*known[split].values())
        for name in test_data:
            shared = sum(bool(found & seen) for found in known[name].values())
            if shared:
                first, *others = users[split]
                yield (
                    f"--test-data {name}: {shared} of its {len(known[name])} patients are in {split}, "
                    f"which belongs to the training of {first.id}{f' and {len(others)} more' if others else ''}: it is no "
                    "external data set. Name another one, or --folds that do not know it."
                )
    if unknown:
        logger.warning(
            "Not on this machine, so that nobody knows whether they share patients with %s: %s",
            ", ".join(test_data),
            ", ".join(unknown),
        )
