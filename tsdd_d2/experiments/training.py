"""One run, wherever an executor puts it: a process of the training tool, resumed, recorded, and its predictions."""

import contextlib
import fcntl
import glob
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from typing import Dict, Iterator, List, NamedTuple, Optional, TextIO, Tuple

import detectron2
import tsdd_d2

from ..data import dataset_folder
from ..data.files import remove_leftovers, write_json
from ..engine.processes import ENDS_WITH
from ..engine.run_folder import remove_run
from ..plugins import plugin_versions
from .checks import other_overrides
from .predictions import add_external_predictions, collect_predictions
from .run import LAST_FILE, PREDICTIONS, RECORD, ROOT, TRAIN_TOOL, Run

LOCK = "lock"


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        error: None if it is finished, else why not.
        busy: (start, end) of its training process in seconds since the epoch, None if there was nothing to train.
        taken: nothing was done, because another process, perhaps on another machine, works on the run.
    """

    error: Optional[str] = None
    busy: Optional[Tuple[float, float]] = None
    taken: bool = False


def train_run(run: Run, environment: Dict[str, str]) -> Outcome:
    """
    Trains what is left of a run and writes its predictions; every executor calls this, on any machine that has the
    software, the data and the folder of the runs.

    Args:
        environment: variables for the training process, beside those of this one.
    """
    os.makedirs(run.folder, exist_ok=True)
    busy = None
    with _only_one(run.folder) as lock:
        if lock is None:
            return Outcome(taken=True)
        remove_leftovers(run.folder, RECORD, PREDICTIONS)
        if not run.has_trained:
            remove_run(run.folder)  # of an attempt that was killed early, perhaps with another configuration
        elif problems := [*other_overrides(run)]:  # since the plan was made
            return Outcome(problems[0])
        if run.status == "finished":
            return Outcome()
        if not (run.record and os.path.isfile(os.path.join(run.folder, LAST_FILE))):
            start = time.time()
            _begin_attempt(run, start)
            exit_code = _call(run.command, run.log, environment, lock)
            busy = start, time.time()
            _end_attempt(run, busy[1], exit_code)
            if exit_code != 0:
                return Outcome(_reason(run.log, exit_code), busy)
        else:  # what started the training process was lost, and the process went on to its end
            _end_attempt(run, os.path.getmtime(os.path.join(run.folder, LAST_FILE)), 0)
        collect_predictions(run)
        _remove_periodic_checkpoints(run.folder)
    return Outcome(busy=busy)


def evaluate_run_on(run: Run, names: List[str], environment: Dict[str, str]) -> Outcome:
    """Adds the predictions of a finished run's stored model on other data sets; those that it has stay.

    The report of the evaluation is in ``external/<name>`` of the run's folder.
    """
    if not _without_predictions(run, names):
        return Outcome()
    weights = os.path.join(run.folder, "model_final.pth")
    if not os.path.isfile(weights):
        return Outcome(f"{weights} is not there: without the model nothing can be predicted")
    with _only_one(run.folder) as lock:
        if lock is None:
            return Outcome(taken=True)
        for name in _without_predictions(run, names):  # another process may have added some meanwhile
            folder = os.path.join(run.folder, "external", name)
            config_file = os.path.join(run.folder, "config.yaml")
            command = [sys.executable, TRAIN_TOOL, "--eval-only", "--config-file", config_file]
            # the run's own data sets may not be on this machine
            options = ["MODEL.WEIGHTS", weights, "DATASETS.VAL", "()", "DATASETS.TEST", f"('{name}',)"]
            options += ["TEST.YOUDEN_THRESHOLD", "False", "OUTPUT_DIR", folder]
            exit_code = _call([*command, *options], run.log, environment, lock)
            if exit_code != 0:
                return Outcome(_reason(run.log, exit_code))
            add_external_predictions(run, name, os.path.join(folder, "inference"))
    return Outcome()


def _without_predictions(run: Run, names: List[str]) -> List[str]:
    present = run.result.predictions
    return [name for name in names if name not in present]


def training_environment(threads: int) -> Dict[str, str]:
    """The variables of this process that training processes elsewhere need too; what the user set stays."""
    variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    variables["DETECTRON2_DATASETS"] = os.path.abspath(dataset_folder(""))
    if "PYTHONPATH" in os.environ:
        variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return variables


def is_taken(run: Run) -> bool:
    """Whether another process, perhaps on another machine, works on a run."""
    if not os.path.isfile(os.path.join(run.folder, LOCK)):
        return False
    with _only_one(run.folder, fcntl.LOCK_SH) as lock:
        return lock is None


@contextlib.contextmanager
def _only_one(folder: str, kind: int = fcntl.LOCK_EX) -> Iterator[Optional[TextIO]]:
    """
    The lock of a folder; None if another process works in it.

    The training process inherits the lock: where it does not end with its parent (see :mod:`tsdd_d2.engine.processes`),
    nobody repeats the run or trains beside it until its end. The system releases the lock when both are gone.

    Args:
        kind: LOCK_SH of those who only look, who do not lock each other out.
    """
    with open(os.path.join(folder, LOCK), "w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock


def _call(command: List[str], log_file: str, environment: Dict[str, str], lock: TextIO) -> int:
    """Runs a command with its output appended to the log; returns its exit code."""
    with open(log_file, "a", encoding="utf-8") as log:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, ENDS_WITH: str(os.getpid())},
            pass_fds=[lock.fileno()],
        ).returncode


def _begin_attempt(run: Run, start: float) -> None:
    """Adds an attempt to the run's record, which is made if there is none."""
    record = run.record or {**run.descriptor, "attempts": []}
    if "overrides" not in record or not run.has_trained:  # an earlier attempt may have had others
        record["overrides"] = list(run.overrides)
    if record["attempts"]:
        previous = record["attempts"][-1]
        previous["kept_seconds"] = _kept_seconds(previous, run.folder)
    record["attempts"].append(
        {
            "started": round(start, 3),
            "host": platform.node(),
            "seconds": None,
            "exit_code": None,
            "versions": package_versions(),
            "git_revision": git_revision(),
        }
    )
    write_json(os.path.join(run.folder, RECORD), record)


def _end_attempt(run: Run, end: float, exit_code: int) -> None:
    record = run.record
    attempt = record["attempts"][-1]
    attempt.update(seconds=round(end - attempt["started"], 3), exit_code=exit_code)
    write_json(os.path.join(run.folder, RECORD), record)


def _kept_seconds(attempt: Dict, folder: str) -> float:
    """How much of an interrupted attempt need not be repeated: up to its last checkpoint."""
    checkpoint = os.path.join(folder, "last_checkpoint")
    kept = os.path.getmtime(checkpoint) - attempt["started"] if os.path.isfile(checkpoint) else 0.0
    return round(max(kept, 0.0), 1)


def package_versions() -> Dict[str, str]:
    """The versions that a training process in this environment runs with."""
    packages = ("torch", "torchvision", "numpy", "opencv-python")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "detectron2": detectron2.__version__,
        "tsdd_d2": tsdd_d2.__version__,
        **plugin_versions(),
    }


def git_revision() -> Optional[str]:
    """The commit of the software, followed by "-dirty" where files differ from it; None outside a repository."""
    command = ["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _remove_periodic_checkpoints(folder: str) -> None:
    """A finished run goes on from ``model_final.pth``; its periodic checkpoints would fill a disk in a large grid."""
    for path in glob.glob(os.path.join(glob.escape(folder), "model_[0-9]*.pth")):
        os.remove(path)


def _reason(log_file: str, exit_code: int) -> str:
    """Exit code, log, and the last line of the log, which is the message of an error."""
    with open(log_file, encoding="utf-8", errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    return f"exit code {exit_code}, see {log_file}: {lines[-1] if lines else 'it is empty'}"
