"""From the name of a table or figure to the list of its training runs."""

import functools
import itertools
import os
import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

from ..data import dataset_folder, ensure_registered
from ..method import METHODS
from .archive import list_folder
from .paper import ABLATIONS
from .run import ROOT, Run

# Predictions of the experiments in results/, with the times of the runs.
KEPT_RUNS = os.path.join(ROOT, "results", "predictions.tar.xz")

TEST_SPLIT = re.compile(r"fold([1-9][0-9]*)_test\.json")


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper: its runs unless the user says otherwise, and how it is shown.

    Attributes:
        name: in options and file names; title: the paper's name of it.
        render: makes its section of the report of a :class:`~tsdd_d2.experiments.catalogue.View`.
        methods, folds, p, seeds: their product are the runs; methods None: those of :func:`compared_methods`, folds
            None: all of the data set.
        stages: it shows the first stages too.
        external: it shows other test data too.
    """

    name: str
    title: str
    render: Callable
    methods: Optional[Sequence[str]] = None
    folds: Optional[Sequence[int]] = None
    p: Sequence[float] = (0.2,)
    seeds: Sequence[int] = (0,)
    stages: bool = False
    external: bool = False


def compared_methods() -> List[str]:
    """The methods of the paper's Table I, and those of plug-ins: all but the parts and the ablations of TSDDNet."""
    return [x.name for x in METHODS.values() if not x.is_part and x.name not in ABLATIONS]


def planned_runs(
    experiment: Experiment, output: str, data: str, profile: str, overrides: Sequence[str] = (), train: bool = True
) -> List[Run]:
    """
    What a table or figure shows, seed by seed and fold by fold.

    Args:
        output: folder or archive of the runs.
        train: what is missing will be trained; otherwise the folds of an experiment without folds of its own are those
            of which there is a run.
    """
    output = os.path.abspath(output)
    methods = experiment.methods or compared_methods()
    runs: Dict[Run, None] = {}
    for seed, p in itertools.product(experiment.seeds, map(float, experiment.p)):
        folds = experiment.folds
        if folds is None:
            folds = existing_folds(data) if train else folds_of_runs(output, methods, data, profile, p)
        for fold, name in itertools.product(folds, methods):
            run = Run(output, name, data, profile, fold, p, seed, tuple(overrides))
            if experiment.stages and run.needs is not None:
                runs[run.needs] = None
            runs[run] = None
    return list(runs)


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


def folds_of_runs(output: str, methods: Sequence[str], data: str, profile: str, p: float) -> List[int]:
    """The folds of which a folder of runs has any of some methods at one p."""
    names = "|".join(map(re.escape, methods))
    run = re.compile(rf"({names})_{re.escape(data)}_{profile}_fold([0-9]+)_p{re.escape(str(p))}_seed.+")
    return sorted({int(match[2]) for match in map(run.fullmatch, list_folder(output)) if match})


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
            seconds = mean_seconds(run._replace(output=folder, fold=0, p=0.0, seed=0, overrides=()))
            if seconds is not None:
                expected[run] = ExpectedTime(seconds, here=folder == run.output)
                break
    return expected


def _mean_seconds(kind: Run) -> Optional[float]:
    """Over the finished runs of any fold, p and seed that are otherwise of one kind."""
    name = re.compile(rf"{re.escape(f'{kind.method}_{kind.data}_{kind.profile}')}_fold(\d+)_p([\d.]+)_seed(\d+)")
    found = [match for match in map(name.fullmatch, list_folder(kind.output)) if match]
    runs = (kind._replace(fold=int(x[1]), p=float(x[2]), seed=int(x[3])) for x in found)
    seconds = [result.seconds for result in (run.result for run in runs) if result is not None]
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
