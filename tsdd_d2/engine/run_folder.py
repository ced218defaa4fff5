"""The OUTPUT_DIR of a run of tools/train_net.py: reading it, and removing what the run wrote."""

import contextlib
import hashlib
import logging
import os
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from ..config import stored_config
from ..data import ensure_registered
from ..data.files import TEMPORARY, read_json, read_yaml, write_json
from ..data.folds import keep_rois
from ..errors import InputError
from ..method import METHODS, Method, method_of
from ..modeling.contract import ScoresCandidates, supports
from ..refinement import ROIBank, apply_veto_file

logger = logging.getLogger(__name__)

RECORD = "run.json"
FINAL_WEIGHTS = "model_final.pth"
TAG, CONFIG_FILE = "last_checkpoint", "config.yaml"
RESULTS = "results.json", "results.md"  # in the order in which they are written
# of a method that labels the images without ROI once
PSEUDO_BOXES = "pseudo_boxes.json"

# Paths below OUTPUT_DIR of what a run, its final evaluation and --eval-only write.
WRITTEN = re.compile(
    rf"{TAG}|{CONFIG_FILE}|{RECORD}|{PSEUDO_BOXES}|metrics\.json|events\.out\.tfevents\..*|log\.txt(\.rank\d+)?|results\.(json|md)"
    r"|model_(\d{7}|round_00|best|final)\.pth"
    r"|rois/round_\d+\.json"
    r"|inference/(config\.yaml|log\.txt(\.rank\d+)?|results\.json|(.+/)?(diagnosis|localisation)_[^/]+\.json|(.+/)?coco_instances_results\.json)"
)


class RunRecord(NamedTuple):
    """``run.json`` of an OUTPUT_DIR: what a run was trained on, so that the next stage can tell whether it fits.

    Attributes:
        status: "running" or "finished".
        architecture: ``MODEL.META_ARCHITECTURE``.
        method: its name; "" in the record of a run before there was this entry.
        dataset: name of the training set; annotation_sha256: of its annotation file.
        p, p_seed: the draw of the patients that kept their ROIs.
        rule: the selection rule that made the ROIs, None for ROIs that no round touched.
        rounds: number of rounds of candidate selection in this run.
        vetoes_sha256: of the file in ``DATASETS.VETOES``; None without one, and in the record of a run before there was
            this entry.
        evaluated_sha256: data set in ``DATASETS.VAL`` or ``TEST`` -> SHA-256 of its annotation file; None in the record of a
            run before there was this entry.
    """

    status: str
    architecture: str
    dataset: str
    annotation_sha256: str
    p: float
    p_seed: int
    rule: Optional[str]
    rounds: int
    vetoes_sha256: Optional[str] = None
    method: str = ""
    evaluated_sha256: Optional[Dict[str, str]] = None

    @classmethod
    def of(cls, cfg: CfgNode) -> "RunRecord":
        """The record of a run that begins; the training set must be registered."""
        dataset = cfg.DATASETS.TRAIN[0]
        has_rounds = cfg.REFINEMENT.ENABLED
        method = method_of(cfg)
        return cls(
            status="running",
            architecture=cfg.MODEL.META_ARCHITECTURE,
            dataset=dataset,
            annotation_sha256=sha256_of_file(MetadataCatalog.get(dataset).json_file),
            p=cfg.DATASETS.P,
            p_seed=effective_p_seed(cfg),
            rule=cfg.REFINEMENT.RULE if has_rounds or goes_on_from_rounds(method) else None,
            rounds=cfg.REFINEMENT.ROUNDS if has_rounds else 0,
            vetoes_sha256=sha256_of_file(cfg.DATASETS.VETOES) if cfg.DATASETS.VETOES else None,
            method=method.name,
            evaluated_sha256=_sha256_of_data_sets((*cfg.DATASETS.VAL, *cfg.DATASETS.TEST)),
        )

    def write(self, run: str) -> None:
        write_json(os.path.join(run, RECORD), self._asdict())

    @classmethod
    def read(cls, run: str) -> "RunRecord":
        """
        Raises:
            InputError: the folder holds no record, or one of another version of this software.
        """
        path = os.path.join(run, RECORD)
        try:
            record = cls(**read_json(path))
        except FileNotFoundError as error:
            raise InputError(f"{run} is no OUTPUT_DIR of a training run: it has no {RECORD}.") from error
        except TypeError as error:  # no object, or other keys
            raise InputError(f"{path} is no record of a training run: {error}") from error
        if not record._is_well_formed():
            raise InputError(f"{path} is no record of a training run: a value is of another kind: {record._asdict()}")
        return record

    def _is_well_formed(self) -> bool:
        numbers = self.p, self.p_seed, self.rounds
        return (
            all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers)
            and isinstance(self.rounds, int)
            and self.rounds >= 0
            and all(isinstance(x, str) for x in self[:-1] if x is not None and x not in numbers)
            and isinstance(self.evaluated_sha256, (dict, type(None)))
            and all(isinstance(x, str) for x in (self.evaluated_sha256 or {}).values())
            and None not in (self.status, self.architecture, self.dataset, self.annotation_sha256)
        )


def is_finished(cfg: CfgNode) -> bool:
    """Whether OUTPUT_DIR holds a run that was trained to its end, no earlier than the configuration asks for, and evaluated."""
    run = cfg.OUTPUT_DIR
    if not all(os.path.isfile(os.path.join(run, name)) for name in (RECORD, *RESULTS)):
        return False
    return RunRecord.read(run).status == "finished" and read_run_config(run).SOLVER.MAX_ITER >= cfg.SOLVER.MAX_ITER


def effective_p_seed(cfg: CfgNode) -> int:
    """The seed of the draw of the patients that keep their ROIs."""
    return cfg.DATASETS.P_SEED if cfg.DATASETS.P_SEED >= 0 else cfg.SEED


def initial_annotation(cfg: CfgNode) -> Dict:
    """The training set's file, with the ROIs of the share p of its patients alone."""
    bbui = read_json(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).json_file)
    bbui = apply_veto_file(bbui, cfg.DATASETS.VETOES, cfg.DATASETS.TRAIN[0])
    return keep_rois(bbui, cfg.DATASETS.P, effective_p_seed(cfg))


def goes_on_from_rounds(method: Method) -> bool:
    """Whether a method takes the ROIs of a run that refined them."""
    if method.starts_from is None:
        return False
    return supports(METHODS[method.starts_from].architecture, ScoresCandidates)


def sha256_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def differences_of_files(cfg: CfgNode) -> List[str]:
    """What has another content than when the run in OUTPUT_DIR began, of the files that its ROIs come from.

    A file that is missing now is left to the checks of the data.
    """
    if not os.path.isfile(os.path.join(cfg.OUTPUT_DIR, RECORD)):
        return []  # training has not begun
    record = RunRecord.read(cfg.OUTPUT_DIR)
    dataset = cfg.DATASETS.TRAIN[0]
    ensure_registered(dataset)
    files = {"annotation": MetadataCatalog.get(dataset).json_file, "veto": cfg.DATASETS.VETOES}
    recorded = {"annotation": record.annotation_sha256, "veto": record.vetoes_sha256}
    found = {kind: sha256_of_file(path) for kind, path in files.items() if recorded[kind] and os.path.isfile(path)}
    differences = [
        describe_difference(f"SHA-256 of the {kind} file {files[kind]}", recorded[kind], sha256)
        for kind, sha256 in found.items()
        if sha256 != recorded[kind]
    ]
    # a first stage that is no longer there is not needed either: the second one keeps a copy of its ROIs
    if goes_on_from_rounds(method_of(cfg)) and os.path.isfile(os.path.join(cfg.MODEL.WEIGHTS, RECORD)):
        copy = ROIBank(os.path.join(cfg.OUTPUT_DIR, "rois")).read(0)
        if read_refined_rois(cfg)["annotations"] != copy["annotations"]:
            differences.append(f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}: its last round has other ROIs")
    return differences


def warn_of_other_evaluation_data(cfg: CfgNode) -> None:
    """Warns of each data set whose annotation has changed since the run in OUTPUT_DIR was validated or tested with it.

    A run that goes on has not been tested yet.
    """
    if not os.path.isfile(os.path.join(cfg.OUTPUT_DIR, RECORD)):
        return  # training has not begun
    recorded = RunRecord.read(cfg.OUTPUT_DIR).evaluated_sha256 or {}
    finished = is_finished(cfg)
    names = (*cfg.DATASETS.VAL, *cfg.DATASETS.TEST) if finished else cfg.DATASETS.VAL
    for name, sha256 in _sha256_of_data_sets(names).items():
        if recorded.get(name, sha256) == sha256:
            continue
        what = "results" if finished else "validations so far"
        logger.warning(
            f"The annotation of the data set {name} has changed since the run in {cfg.OUTPUT_DIR}: its {what} are of the file "
            "as it was; --eval-only evaluates anew."
        )


def _sha256_of_data_sets(names: Iterable[str]) -> Dict[str, str]:
    """Of the annotation files; what is missing is left to the checks of the data."""
    found = {}
    for name in names:
        with contextlib.suppress(InputError):
            ensure_registered(name)
            found[name] = sha256_of_file(MetadataCatalog.get(name).json_file)
    return found


def describe_difference(title: str, old: Any, new: Any) -> str:
    old, new = ("''" if value == "" else value for value in (old, new))
    return f"{title}: {old} there, {new} now"


def check_first_run(cfg: CfgNode) -> None:
    """Raises InputError unless MODEL.WEIGHTS is a finished run, on the data that this run names, of the method that this
    one starts from, or of a variant of it."""
    run, method = cfg.MODEL.WEIGHTS, method_of(cfg)
    first = METHODS[method.starts_from]
    if not os.path.isdir(run):
        raise InputError(
            f"{method.name} goes on from a run of {first.name}: MODEL.WEIGHTS must name the OUTPUT_DIR of one, not {run!r}."
        )
    record = RunRecord.read(run)
    if record.architecture not in META_ARCH_REGISTRY:
        raise InputError(
            f"MODEL.WEIGHTS {run}: a run of {record.architecture}, which nothing here registers: install the package that "
            "it is part of."
        )
    found, expected = (META_ARCH_REGISTRY.get(x) for x in (record.architecture, first.architecture))
    if not issubclass(found, expected):
        raise InputError(
            f"MODEL.WEIGHTS {run}: a run of {record.method or record.architecture}, and {method.name} goes on from one of "
            f"{first.name}."
        )
    if record.status != "finished":
        raise InputError(f"MODEL.WEIGHTS {run}: the run is not finished, go on with it by tools/train_net.py --resume.")
    expected = RunRecord.of(cfg)
    differences = [
        describe_difference(title, getattr(record, key), getattr(expected, key))
        for key, title in (
            ("dataset", "DATASETS.TRAIN"),
            ("annotation_sha256", "SHA-256 of the annotation file"),
            ("p", "DATASETS.P"),
            ("p_seed", "DATASETS.P_SEED (or SEED)"),
            ("rule", "REFINEMENT.RULE"),
        )
        # without rounds no rule was used
        if getattr(record, key) != getattr(expected, key) and (record.rounds or key != "rule")
    ]
    if differences:
        raise InputError(f"MODEL.WEIGHTS {run}: the run was trained on something else:\n  " + "\n  ".join(differences))
    if record.rounds:
        read_refined_rois(cfg)


def read_refined_rois(cfg: CfgNode) -> Dict:
    """The annotation after the last round of the first-stage run in MODEL.WEIGHTS, less what DATASETS.VETOES rejects."""
    run = cfg.MODEL.WEIGHTS
    record = RunRecord.read(run)
    bank = ROIBank(os.path.join(run, "rois"))
    try:
        bbui = bank.read(record.rounds)
    except FileNotFoundError as error:
        raise InputError(f"{run} lacks the ROIs of its last round, {bank.path(record.rounds)}.") from error
    return apply_veto_file(bbui, cfg.DATASETS.VETOES, cfg.DATASETS.TRAIN[0])


def read_run_config(run: str, strict: bool = False) -> CfgNode:
    """The configuration that the run was started with, and the defaults of the keys that are newer.

    Args:
        strict: refuse keys that are not known here; otherwise they are left out.
    Raises:
        InputError: the folder holds no run, or its configuration is damaged.
    """
    path = os.path.join(run, CONFIG_FILE)
    if not os.path.isfile(path):
        raise InputError(f"{run} is no OUTPUT_DIR of tools/train_net.py: it has no config.yaml.")
    return stored_config(read_yaml(path), path, ignore_unknown=not strict)


def read_rounds(run: str) -> List[Dict]:
    """The annotation of every round so far, from round 0 on.

    Raises:
        InputError: there is none, or one is damaged.
    """
    bank = ROIBank(os.path.join(run, "rois"))
    rounds = [bank.read(r) for r in bank.rounds()]
    if not rounds:
        raise InputError(f"{run} has no rois/round_00.json: training has not begun.")
    for number, bbui in enumerate(rounds[1:], start=1):
        info = bbui.get("info", {})
        statistics = info.get("statistics")
        figures = statistics.values() if isinstance(statistics, dict) else [None]
        if info.get("round") != number or not all(type(x) in (int, float) for x in figures):
            raise InputError(
                f"{bank.path(number)} is no file of round {number}: its 'info' lacks the round or its statistics."
            )
        without_score = [x["id"] for x in bbui["annotations"] if x.get("roi_round") == number and "roi_score" not in x]
        if without_score:
            raise InputError(f"{bank.path(number)}: annotation {without_score[0]} is of this round, and has no 'roi_score'.")
    return rounds


def run_files(run: str) -> List[str]:
    """The paths of all that a run wrote, also of what it was writing when it was killed.

    The tag of the last checkpoint comes first and the configuration last: what a removal leaves that is interrupted is
    still a run, and none that ``--resume`` would go on from.
    """
    found = []
    for folder, subfolders, names in os.walk(run):
        if folder == run:
            subfolders[:] = [x for x in subfolders if x in ("rois", "inference")]
        for name in names:
            complete = os.path.join(folder, TEMPORARY.sub(r"\1", name))
            if WRITTEN.fullmatch(os.path.relpath(complete, run)):
                found.append(os.path.join(folder, name))
    tag, config_file = os.path.join(run, TAG), os.path.join(run, CONFIG_FILE)
    return sorted(found, key=lambda path: (path == config_file, path != tag, path))


def remove_leftovers(run: str) -> None:
    """Removes what a run was writing when it was killed, and the results of its first iterations where it goes on."""
    for path in run_files(run):
        if TEMPORARY.fullmatch(os.path.basename(path)) or os.path.relpath(path, run) in RESULTS:
            os.remove(path)


def remove_run(run: str) -> None:
    """Removes what a run wrote, and the folders that this leaves empty; whatever else is there stays."""
    for path in run_files(run):
        os.remove(path)
    for name in ("rois", "inference"):
        for folder, _, _ in os.walk(os.path.join(run, name), topdown=False):
            if not os.listdir(folder):
                os.rmdir(folder)
