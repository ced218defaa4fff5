"""From the name of a table or figure to the list of its training runs."""

import functools
import itertools
import os
import re
import signal
import sys
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import tsdd_d2

from ..data import dataset_folder, ensure_registered
from ..data.files import read_json
from ..engine.run_folder import TAG
from ..errors import InputError
from ..plugins import load_plugins
from .methods import ABLATIONS, METHODS, Method

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(tsdd_d2.__file__)))
TRAIN_TOOL = os.path.join(ROOT, "tools", "train_net.py")

# Predictions of the experiments in README, with the times of the runs.
KEPT_RUNS = os.path.join(ROOT, "results", "runs")

# What a run leaves beside the files of tools/train_net.py.
RECORD, PREDICTIONS = "experiment.json", "predictions.json"

# The last file that the training tool writes.
LAST_FILE = "results.json"

# Exit codes of a training process that was told to end, by Ctrl-C or by a scheduler.
INTERRUPTED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)

TEST_SPLIT = re.compile(r"fold([1-9][0-9]*)_test\.json")


class Run(NamedTuple):
    """One training run: one method on one fold with one p and one seed.

    Attributes:
        output: absolute path of the folder of all runs.
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
    def config_file(self) -> str:
        """The absolute path."""
        return os.path.join(ROOT, self.definition.config_file(self.profile))

    @property
    def own_options(self) -> Dict[str, str]:
        """What its name says, for tools/train_net.py."""
        options = {
            "DATASETS.TRAIN": f"('{self.split('train')}',)",
            "DATASETS.VAL": f"('{self.split('val')}',)",
            "DATASETS.TEST": f"('{self.split('test')}',)",
            "DATASETS.P": str(self.p),
            "SEED": str(self.seed),
            "OUTPUT_DIR": self.folder,
        }
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
        return [sys.executable, TRAIN_TOOL, "--config-file", self.config_file, "--resume", *self.options]

    @property
    def descriptor(self) -> Dict:
        """What the run is, for its record and for the tables."""
        return {
            "method": self.method,
            "stage": self.definition.stage,
            "data": self.data,
            "profile": self.profile,
            "fold": self.fold,
            "p": self.p,
            "seed": self.seed,
        }

    @property
    def configuration(self) -> Dict:
        """What beside the descriptor decides the outcome."""
        file = self.definition.config_file(self.profile)
        # another package is elsewhere on another machine
        return {"config_file": os.path.basename(file) if os.path.isabs(file) else file, "overrides": list(self.overrides)}

    @property
    def status(self) -> str:
        """"finished", "failed" (the last attempt ended with an error) or "missing" (also where it was interrupted)."""
        if os.path.isfile(os.path.join(self.folder, PREDICTIONS)):
            return "finished"
        record = os.path.join(self.folder, RECORD)
        attempts = read_run_file(record)["attempts"] if os.path.isfile(record) else []
        return "failed" if attempts and attempts[-1]["exit_code"] not in (None, 0, *INTERRUPTED) else "missing"

    @property
    def has_trained(self) -> bool:
        """Whether there is anything that a further attempt goes on from, or the outcome."""
        return any(os.path.isfile(os.path.join(self.folder, name)) for name in (TAG, LAST_FILE, PREDICTIONS))


def read_run_file(path: str) -> Dict:
    """The content of a JSON file of a run; InputError if it is damaged."""
    try:
        return read_json(path)
    except ValueError as error:
        raise InputError(f"{error}. Copy it again, or remove it.") from error


class Experiment(NamedTuple):
    """A table or figure of the paper: its runs unless the user says otherwise.

    Attributes:
        title: the paper's name of it.
        methods, folds, p, seeds: their product are the runs; methods None: those of
            :func:`~tsdd_d2.experiments.compared_methods`, folds None: all that :func:`existing_folds` finds.
        stages: it shows the first stages too.
        external: it shows other test data too.
    """

    title: str
    methods: Optional[Sequence[str]] = None
    folds: Optional[Sequence[int]] = None
    p: Sequence[float] = (0.2,)
    seeds: Sequence[int] = (0,)
    stages: bool = False
    external: bool = False


# what is drawn of them has the same names in tsdd_d2/report/experiments.py, which needs the drawing packages
EXPERIMENTS = {
    "table1": Experiment("Table I", external=True),
    "table2": Experiment("Table II", ("tsddnet", *ABLATIONS), external=True),
    "table3": Experiment("Table III", ("tsddnet", "retinanet"), folds=(1,), p=(0.2, 0.4, 0.6, 0.8, 1.0), external=True),
    "roc": Experiment("Fig. 7", external=True),
    "fig6": Experiment("Fig. 6"),
    "fig8": Experiment("Fig. 8", ("tsddnet", *ABLATIONS)),
    "fig9": Experiment("Fig. 9", ("tsddnet", "tsdd_b_sd"), folds=(1,), p=(1.0,), stages=True),
}


def existing_folds(data: str) -> List[int]:
    """
    The folds of a data set whose test split is there.

    Raises:
        InputError: none is; the message holds the command that prepares the data set.
    """
    folder = os.path.join(dataset_folder(data), "annotations")
    files = os.listdir(folder) if os.path.isdir(folder) else []
    folds = sorted(int(match[1]) for match in map(TEST_SPLIT.fullmatch, files) if match)
    if not folds:
        ensure_registered(f"{data}_fold1_test")
    return folds


def folds_of_runs(output: str, data: str, profile: str) -> List[int]:
    """The folds of which a folder of runs has any."""
    name = re.compile(rf"({'|'.join(map(re.escape, METHODS))})_{re.escape(data)}_{profile}_fold([0-9]+)_p.+")
    folders = os.listdir(output) if os.path.isdir(output) else []
    return sorted({int(match[2]) for match in map(name.fullmatch, folders) if match})


def shown_runs(
    experiment: Experiment, output: str, data: str, profile: str, overrides: Sequence[str] = ()
) -> List[Tuple[str, Run]]:
    """
    What a table or figure shows, seed by seed and fold by fold; its methods and folds are no longer None.

    Returns:
        the method as it is named there, and its run: a first stage belongs to every method that goes on from it.
    """
    shown = []
    for seed, p, fold, name in itertools.product(experiment.seeds, experiment.p, experiment.folds, experiment.methods):
        run = Run(os.path.abspath(output), name, data, profile, fold, float(p), seed, tuple(overrides))
        if experiment.stages and run.needs is not None:
            shown.append((name, run.needs))
        shown.append((name, run))
    return shown


def runs_to_train(runs: Iterable[Run]) -> List[Run]:
    """The unfinished ones and, before them, those unfinished ones that they need; each once."""
    found: Dict[Run, None] = {}
    for run in runs:
        if run.status != "finished":
            if run.needs is not None:
                found.update(dict.fromkeys(runs_to_train([run.needs])))
            found[run] = None
    return list(found)


class ExpectedTime(NamedTuple):
    """How long a run will take; ``here``: as runs in the same folder did, and not those that are kept in results/."""

    seconds: float
    here: bool


def expected_times(runs: Sequence[Run]) -> Dict[Run, Optional[ExpectedTime]]:
    """For each run the mean over the finished runs of its method in the same folder, with the same data set and profile;
    without one, over those in :data:`KEPT_RUNS`, which have no overrides; None without any.
    """
    mean_seconds = functools.cache(_mean_seconds)
    expected: Dict[Run, Optional[ExpectedTime]] = dict.fromkeys(runs)
    for run in runs:
        for folder in (run.output, *(() if run.overrides else (KEPT_RUNS,))):
            seconds = mean_seconds(folder, run.method, run.data, run.profile)
            if seconds is not None:
                expected[run] = ExpectedTime(seconds, here=folder == run.output)
                break
    return expected


def _mean_seconds(output: str, method: str, data: str, profile: str) -> Optional[float]:
    prefix = f"{method}_{data}_{profile}_fold"
    folders = [x for x in os.listdir(output) if x.startswith(prefix)] if os.path.isdir(output) else []
    files = [os.path.join(output, folder, PREDICTIONS) for folder in folders]
    seconds = [read_run_file(path)["seconds"] for path in files if os.path.isfile(path)]
    return sum(seconds) / len(seconds) if seconds else None


def duration(seconds: Optional[float]) -> str:
    """Wall time with two units at most, such as "1 h 05 min"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
