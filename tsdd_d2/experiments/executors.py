"""Where the runs of an experiment take place: on this machine, on Slurm through submitit, on a Ray cluster.

Each is a thin adapter of a scheduler that exists.
"""

import concurrent.futures
import importlib
import os
from typing import Any, Callable, Dict, Hashable, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from ..errors import InputError
from .run import Run


class Executor(Protocol):
    """What calls functions somewhere.

    Attributes:
        slots: how many calls to hand over at a time; None: all that are ready, the scheduler queues them.
    """

    slots: Optional[int]

    def submit(self, function: Callable, *arguments) -> Hashable:
        """Starts or queues a call; returns its handle."""

    def wait(self, handles: Sequence[Hashable], timeout: Optional[float]) -> List[Tuple[Hashable, Any]]:
        """
        Waits until at least one of the calls has ended, or for ``timeout`` seconds.

        Returns:
            the handle and the result of some that have: what the function returned, or the exception that it raised or
            that lost it.
        """

    def close(self) -> None:
        """Nothing will be submitted any more."""


class Resources(NamedTuple):
    """
    Attributes:
        jobs: runs at a time on this machine, or on a local Ray.
        cpus, gpus: of one run.
        retries: how often a run whose worker or node is lost starts again (it resumes).
    """

    jobs: int = 1
    cpus: int = 1
    gpus: int = 0
    retries: int = 2


class LocalExecutor:
    """``jobs`` runs at a time on this machine. They share its GPUs."""

    def __init__(self, resources: Resources, folder: str, options: Dict[str, Any]):
        _refuse(options, "local")
        self.slots = resources.jobs
        self._pool = concurrent.futures.ThreadPoolExecutor(resources.jobs)

    def submit(self, function: Callable, *arguments) -> Hashable:
        return self._pool.submit(function, *arguments)

    def wait(self, handles: Sequence[Hashable], timeout: Optional[float]) -> List[Tuple[Hashable, Any]]:
        done, _ = concurrent.futures.wait(handles, timeout, return_when=concurrent.futures.FIRST_COMPLETED)
        return [(future, future.exception() or future.result()) for future in done]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class SlurmExecutor:
    """Every run a Slurm job, submitted by submitit, whose parameters (``slurm_partition``, ...) are the options.

    A job that Slurm preempts or stops at its time limit is requeued by submitit as long as each start moves its run
    forward; one that is lost is submitted again. The option ``cluster`` is submitit's: "local" runs the jobs on this
    machine, as the tests do.
    """

    # submitit's own are five minutes, and three times that a job may reach its time limit
    DEFAULTS = {"timeout_min": 24 * 60, "max_num_timeout": 10**6}
    OF_CONSTRUCTOR = ("max_num_timeout", "max_pickle_size_gb", "python")
    POLL_SECONDS = {"local": 0.2}

    def __init__(self, resources: Resources, folder: str, options: Dict[str, Any]):
        self._submitit = _optional("submitit", "slurm")
        options = {**self.DEFAULTS, **options}
        cluster = options.pop("cluster", "slurm")
        names = {x: x.removeprefix(f"{cluster}_") for x in options}
        constructor = {f"{cluster}_{y}": options.pop(x) for x, y in names.items() if y in self.OF_CONSTRUCTOR}
        self.slots = None
        self._retries = resources.retries
        self._poll_seconds = self.POLL_SECONDS.get(cluster, 10)
        self._jobs: Dict[int, Tuple[Any, Callable, tuple, int]] = {}
        try:
            self._executor = self._submitit.AutoExecutor(
                folder=os.path.join(folder, "slurm"), cluster=cluster, **constructor
            )
            self._executor.update_parameters(
                name="tsdd_d2", cpus_per_task=resources.cpus, gpus_per_node=resources.gpus, **options
            )
        except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
            raise InputError(f"--executor slurm: {error}") from error

    def submit(self, function: Callable, *arguments) -> Hashable:
        handle = len(self._jobs)
        self._submit(handle, function, arguments, self._retries)
        return handle

    def _submit(self, handle: int, function: Callable, arguments: tuple, retries: int) -> None:
        try:
            job = self._executor.submit(Resumable(function), *arguments)
        except (RuntimeError, OSError) as error:  # of sbatch, on an option that only Slurm can judge
            raise InputError(f"--executor slurm: the job cannot be submitted: {error}") from error
        self._jobs[handle] = job, function, arguments, retries

    def wait(self, handles: Sequence[Hashable], timeout: Optional[float]) -> List[Tuple[Hashable, Any]]:
        errors = self._submitit.core.utils
        while True:
            jobs = {self._jobs[handle][0].job_id: handle for handle in handles}
            completed = self._submitit.helpers.as_completed(
                [self._jobs[handle][0] for handle in handles], timeout, poll_frequency=self._poll_seconds
            )
            try:
                job = next(completed)
            except TimeoutError:
                return []
            handle, error = jobs[job.job_id], job.exception()
            _, function, arguments, retries = self._jobs[handle]
            lost = isinstance(error, errors.UncompletedJobError) and not isinstance(error, errors.FailedJobError)
            if not lost or retries == 0:
                return [(handle, error or job.result())]
            self._submit(handle, function, arguments, retries - 1)

    def close(self) -> None:
        """The jobs stay in Slurm's queue."""


class Resumable:
    """A function of a run that submitit calls again when Slurm preempts its job or stops it at its time limit."""

    def __init__(self, function: Callable):
        self.function = function
        self._progress = None

    def __call__(self, run: Run):
        self._progress = run.progress
        return self.function(run)

    def checkpoint(self, run: Run):
        if run.progress == self._progress:
            raise RuntimeError(f"{run.id} came to no checkpoint within its time limit: raise timeout_min.")
        return _optional("submitit", "slurm").helpers.DelayedSubmission(self, run)


class RayExecutor:
    """Every run a Ray task with its CPUs and GPUs, on the cluster that the option ``address`` (or $RAY_ADDRESS) names,
    or on a local one with ``jobs`` times the CPUs of a run. Other options are those of ``ray.init``.

    Ray repeats a task whose worker or node is lost.
    """

    def __init__(self, resources: Resources, folder: str, options: Dict[str, Any]):
        self._ray = _optional("ray", "ray")
        self.slots = None
        if "address" not in options and "RAY_ADDRESS" not in os.environ:
            local = {"num_cpus": resources.jobs * resources.cpus, "include_dashboard": False}
            options = {**local, **options}
        try:
            self._ray.init(**{"log_to_driver": False, "logging_level": "WARNING", **options})
        except (RuntimeError, ValueError, ConnectionError, TypeError) as error:
            raise InputError(f"--executor ray: {error}") from error
        self._options = {
            "num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": resources.retries,
        }  # fmt: skip

    def submit(self, function: Callable, *arguments) -> Hashable:
        # Ray makes tasks of functions alone, and the callable may be a functools.partial
        return self._ray.remote(**self._options)(_call).remote(function, *arguments)

    def wait(self, handles: Sequence[Hashable], timeout: Optional[float]) -> List[Tuple[Hashable, Any]]:
        done, _ = self._ray.wait(list(handles), timeout=timeout)
        return [(reference, self._result(reference)) for reference in done]

    def _result(self, reference) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return error

    def close(self) -> None:
        self._ray.shutdown()


def _call(function: Callable, *arguments) -> Any:
    return function(*arguments)


EXECUTORS = {"local": LocalExecutor, "slurm": SlurmExecutor, "ray": RayExecutor}


def _optional(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--executor {extra} needs the package {module}: pip install -c constraints.txt -e '.[{extra}]'"
        ) from error


def _refuse(options: Dict[str, Any], executor: str) -> None:
    if options:
        raise InputError(f"--executor {executor} has no options, and got {', '.join(options)}.")
