"""One training run of an experiment, and the files in its folder."""

import os
import signal
import sys
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import tsdd_d2

from ..engine.run_folder import TAG
from ..method import METHODS, Method
from ..plugins import load_plugins
from .archive import read_file
from .schema import read_record, read_result

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(tsdd_d2.__file__)))
TRAIN_TOOL = os.path.join(ROOT, "tools", "train_net.py")

# What a run leaves beside the files of tools/train_net.py.
RECORD, PREDICTIONS = "experiment.json", "predictions.json"

# The last file that the training tool writes.
LAST_FILE = "results.json"

# Exit codes of a training process that was told to end, by Ctrl-C or by a scheduler.
INTERRUPTED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)


class Result(NamedTuple):
    """What ``predictions.json`` of a finished run holds, less what its name says.

    Attributes:
        seconds: wall time without what interruptions made it repeat.
        git_revision: of this software, or None.
        youden_threshold: the best malignancy to decide at on the validation split, or None if that has one class.
        overrides: ``KEY VALUE`` pairs of the user.
        annotation_sha256: data set -> checksum of its annotation file, where it is known.
        predictions: test set -> one record for each image: "image_id", "file_name" (relative to the image root),
            "patient_id", "label" (1 malignant, 0 benign), "malignancy" in [0, 1], "box" and "roi" (the manual one, of
            several that which the box overlaps most), both absolute XYXY or None, "num_rois".
        pseudo_boxes: name of :class:`~tsdd_d2.methods.pseudo_boxes.PseudoBoxLog` -> (iteration, value) pairs, of a teacher.
    """

    seconds: float
    git_revision: Optional[str]
    youden_threshold: Optional[float]
    overrides: List[str]
    annotation_sha256: Dict[str, str]
    predictions: Dict[str, List[Dict[str, Any]]]
    pseudo_boxes: Mapping[str, List[List[float]]] = MappingProxyType({})


class Run(NamedTuple):
    """One training: one method on one fold with one p and one seed.

    Attributes:
        output: absolute path of the folder of all runs, or of an archive of their predictions.
        p: share of the training patients that keep their ROIs.
        overrides: ``KEY VALUE`` pairs of the user for tools/train_net.py.
    """

    output: str
    method: str
    data: str
    profile: str
    fold: int
    p: float
    seed: int
    overrides: Tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.method}_{self.data}_{self.profile}_fold{self.fold}_p{self.p}_seed{self.seed}"

    @property
    def folder(self) -> str:
        """Its OUTPUT_DIR."""
        return os.path.join(self.output, self.id)

    @property
    def log(self) -> str:
        """What the processes of the run printed."""
        return os.path.join(self.folder, "console.log")

    @property
    def definition(self) -> Method:
        load_plugins()  # this may be another process than the one that planned the run
        return METHODS[self.method]

    @property
    def needs(self) -> Optional["Run"]:
        """The run that must be finished before."""
        first = self.definition.starts_from
        return None if first is None else self._replace(method=first)

    def split(self, name: str) -> str:
        """The data set "train", "val" or "test" of its fold."""
        return f"{self.data}_fold{self.fold}_{name}"

    @property
    def own_options(self) -> Dict[str, str]:
        """What its name says, as keys of the configuration."""
        options = {"DATASETS.P": str(self.p), "SEED": str(self.seed), "OUTPUT_DIR": self.folder}
        if self.needs is not None:
            options["MODEL.WEIGHTS"] = self.needs.folder
        return options

    @property
    def options(self) -> List[str]:
        """``KEY VALUE`` pairs for tools/train_net.py: the user's and its own."""
        return [*self.overrides, *(x for pair in self.own_options.items() for x in pair)]

    @property
    def command(self) -> List[str]:
        """The training tool, which goes on where an earlier process stopped."""
        what = ["--method", self.method, "--profile", self.profile, "--data", self.data, "--fold", str(self.fold)]
        return [sys.executable, TRAIN_TOOL, *what, "--resume", *self.options]

    @property
    def descriptor(self) -> Dict[str, Any]:
        """What its name says, for its files and for the tables."""
        return {name: getattr(self, name) for name in ("method", "data", "profile", "fold", "p", "seed")}

    @property
    def status(self) -> str:
        """ "finished", "failed" (the last attempt ended with an error) or "missing" (also where it was interrupted)."""
        if read_file(os.path.join(self.folder, PREDICTIONS)) is not None:
            return "finished"
        attempts = self.record.get("attempts")
        return "failed" if attempts and attempts[-1]["exit_code"] not in (None, 0, *INTERRUPTED) else "missing"

    @property
    def has_trained(self) -> bool:
        """Whether there is anything that a further attempt goes on from, or the outcome."""
        return any(read_file(os.path.join(self.folder, x)) is not None for x in (TAG, LAST_FILE, PREDICTIONS))

    @property
    def progress(self) -> Optional[Tuple[bytes, int]]:
        """What is another value after each checkpoint; None before the first."""
        path = os.path.join(self.folder, TAG)
        content = read_file(path)
        return None if content is None else (content, os.stat(path).st_mtime_ns)

    @property
    def record(self) -> Dict[str, Any]:
        """Its descriptor, "overrides" and "attempts", in their order; empty before the first attempt.

        Raises:
            InputError: the file is damaged.
        """
        return read_record(os.path.join(self.folder, RECORD))

    @property
    def result(self) -> Optional[Result]:
        """What a finished run found; None if it is not finished; InputError if its file is damaged or of another run."""
        content = read_result(os.path.join(self.folder, PREDICTIONS), self.descriptor)
        return None if content is None else Result(*(content.get(name) for name in Result._fields))

    def __str__(self) -> str:
        return f"{self.method}, p = {self.p}, fold {self.fold}, seed {self.seed}"
