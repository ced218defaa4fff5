"""The same runs in every executor: first stages first, failures contained, lost workers repeated."""

import functools
import os
import signal
import sys
import threading

import pytest

from tsdd_d2.errors import InputError
from tsdd_d2.experiments import execution
from tsdd_d2.experiments.execution import execute
from tsdd_d2.experiments.executors import EXECUTORS, Resources, Resumable
from tsdd_d2.experiments.training import Outcome


def stages(run):
    """A first stage and the two methods that go on from it."""
    first = run._replace(method="tsddnet_stage1")
    return [first, first._replace(method="tsddnet"), first._replace(method="tsdd_b_cs")]


def local(jobs=2):
    return EXECUTORS["local"](Resources(jobs=jobs), "", {})


def test_a_run_starts_when_the_one_that_it_needs_has_ended(run):
    log, runs = [], [*stages(run), run]

    def function(run):
        log.append(f"+{run.method}")
        return Outcome()

    ended = lambda run, outcome: log.append(f"-{run.method}")  # noqa: E731
    assert all(x.error is None for x in execute(runs, function, local(), ended).values())
    for method in ("tsddnet", "tsdd_b_cs"):
        assert log.index("-tsddnet_stage1") < log.index(f"+{method}")
    assert sorted(log) == sorted(f"{sign}{x.method}" for x in runs for sign in "+-")


def test_a_failure_stops_those_that_need_the_run_alone(run):
    def function(run):
        if run.method == "tsddnet_stage1":
            raise OSError("no space left")
        return Outcome()

    told = []
    outcomes = execute([*stages(run), run], function, local(), lambda run, outcome: told.append(run))
    errors = {x.method: outcome.error for x, outcome in outcomes.items()}
    assert errors["retinanet"] is None and errors["tsddnet_stage1"] == "OSError: no space left"
    assert errors["tsddnet"] == errors["tsdd_b_cs"] and errors["tsddnet"].startswith("tsddnet_stage1_tiny")
    assert len(told) == 4


def test_local_runs_so_many_at_a_time_in_the_order_of_the_plan(run):
    runs = [run._replace(fold=fold) for fold in range(1, 7)]
    active, most, order, lock = set(), [], [], threading.Lock()
    barrier = threading.Barrier(2)

    def function(run):
        with lock:
            active.add(run)
            order.append(run.fold)
            most.append(len(active))
        barrier.wait(timeout=20)  # two at a time, or this fails
        with lock:
            active.remove(run)
        return Outcome()

    execute(runs, function, local(jobs=2), lambda *_: None)
    assert max(most) == 2 and sorted(order[:2]) == [1, 2] and sorted(order[2:4]) == [3, 4]


def test_what_another_process_works_on_takes_no_place_and_is_waited_for(run, monkeypatch):
    """Of three runs one after the other, the first is another's until the others have ended."""
    runs, log, told = [run._replace(fold=fold) for fold in (1, 2, 3)], [], []
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(execution, "is_taken", lambda run: run.fold == 1 and len(told) < 2)

    def function(run):
        log.append(run.fold)
        # another process was faster once
        return Outcome(taken=log.count(3) == 1 and run.fold == 3)

    outcomes = execute(runs, function, local(jobs=1), lambda run, outcome: told.append(run.fold))
    assert log == [2, 3, 3, 1] and told == [2, 3, 1] and not any(x.taken for x in outcomes.values())


def test_nobody_begins_what_was_waited_for_when_it_was_interrupted(run, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "is_taken", lambda run: True)
    monkeypatch.setattr(execution.time, "sleep", interrupt)
    called = []
    with pytest.raises(KeyboardInterrupt):
        execute([run], called.append, local(), lambda *_: None)
    assert called == []


def logged(log, lost: int):
    """
    A function of a run that writes when it begins and ends, and whose process is killed the first ``lost`` times; a
    partial, as tools/reproduce.py submits.
    """

    def function(run, log, lost):
        with open(log, "a+") as file:
            file.write(f"+{run.method}\n")
            file.seek(0)
            times = file.read().count("+")
        if times <= lost:
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "a") as file:
            file.write(f"-{run.method}\n")
        return Outcome()

    return functools.partial(function, log=log, lost=lost)


def test_slurm_keeps_the_order(run, tmp_path):
    """submitit's local executor: a process for each run."""
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    executor = EXECUTORS["slurm"](Resources(), str(tmp_path), {"cluster": "local"})
    outcomes = execute(stages(run)[:2], logged(str(tmp_path / "log"), lost=0), executor, lambda *_: None)
    assert [x.error for x in outcomes.values()] == [None, None]
    assert (tmp_path / "log").read_text().split() == ["+tsddnet_stage1", "-tsddnet_stage1", "+tsddnet", "-tsddnet"]


def test_ray_keeps_the_order_and_repeats_a_run_whose_worker_was_killed(run, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 would wait for whatever else the machine does
    executor = EXECUTORS["ray"](Resources(jobs=2, retries=1), str(tmp_path), {"object_store_memory": 100 * 2**20})
    try:
        outcomes = execute(stages(run)[:2], logged(str(tmp_path / "log"), lost=1), executor, lambda *_: None)
    finally:
        executor.close()
    assert [x.error for x in outcomes.values()] == [None, None]
    expected = ["+tsddnet_stage1", "+tsddnet_stage1", "-tsddnet_stage1", "+tsddnet", "-tsddnet"]
    assert (tmp_path / "log").read_text().split() == expected


@pytest.mark.parametrize("lost, retries, submitted", [(1, 2, 2), (3, 2, 3), (0, 2, 1)])
def test_slurm_submits_a_lost_run_again_so_many_times(lost, retries, submitted, tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    jobs = []

    class Job:
        def __init__(self):
            jobs.append(self)
            self.job_id = str(len(jobs))
            self.lost = len(jobs) <= lost

        def done(self):
            return True

        def exception(self):
            return submitit.core.utils.UncompletedJobError("node failure") if self.lost else None

        def result(self):
            return "done"

    monkeypatch.setattr(submitit.AutoExecutor, "submit", lambda self, *arguments: Job())
    executor = EXECUTORS["slurm"](Resources(retries=retries), str(tmp_path), {"cluster": "local"})
    handle = executor.submit(print, None)
    ((ended, result),) = executor.wait([handle], None)
    assert ended == handle and len(jobs) == submitted
    assert result == "done" if lost <= retries else isinstance(result, submitit.core.utils.UncompletedJobError)


def test_slurm_gets_the_resources_of_a_run(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    asked = {}
    monkeypatch.setattr(submitit.AutoExecutor, "__init__", lambda self, cluster, **_: asked.update(cluster=cluster))
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda self, **parameters: asked.update(parameters))
    options = {"slurm_partition": "gpu", "timeout_min": 90}
    EXECUTORS["slurm"](Resources(cpus=3, gpus=1), str(tmp_path), options)
    assert asked == {"cluster": "slurm", "name": "tsdd_d2", "cpus_per_task": 3, "gpus_per_node": 1, **options}


@pytest.mark.parametrize("name", ["max_num_timeout", "slurm_max_num_timeout"])
def test_slurm_gets_what_belongs_to_its_constructor(name, tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    asked = {}
    monkeypatch.setattr(submitit.AutoExecutor, "__init__", lambda self, folder, **options: asked.update(options))
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda self, **parameters: None)
    EXECUTORS["slurm"](Resources(), str(tmp_path), {name: 9})
    assert asked == {"cluster": "slurm", "slurm_max_num_timeout": 9}


@pytest.mark.parametrize("options", [{"timeout_min": "2h"}, {"mem_gb": "8 GB"}, {"slurm_nothing": 1}])
def test_slurm_refuses_what_submitit_does_not_take(options, tmp_path):
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    with pytest.raises(InputError, match=next(iter(options)).removeprefix("slurm_")):
        EXECUTORS["slurm"](Resources(), str(tmp_path), {"cluster": "local", **options})


def test_what_sbatch_refuses_is_one_message(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")

    def submit(*_):
        raise submitit.core.utils.FailedJobError("sbatch: error: invalid partition specified: nope")

    executor = EXECUTORS["slurm"](Resources(), str(tmp_path), {"cluster": "local"})
    monkeypatch.setattr(submitit.AutoExecutor, "submit", submit)
    with pytest.raises(InputError, match="nope"):
        executor.submit(print, None)


def test_slurm_takes_half_a_gigabyte(tmp_path):
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    EXECUTORS["slurm"](Resources(), str(tmp_path), {"cluster": "local", "mem_gb": 7.5})


def test_slurm_calls_a_stopped_run_again_if_it_moved_forward(run):
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")

    def one_checkpoint(run):
        os.makedirs(run.folder, exist_ok=True)
        with open(os.path.join(run.folder, "last_checkpoint"), "a") as file:
            file.write("x")
        return run.id

    moves, stands = Resumable(one_checkpoint), Resumable(lambda run: run.id)
    assert moves(run) == run.id
    again = moves.checkpoint(run)
    assert again.function(*again.args, **again.kwargs) == run.id
    stands(run)
    with pytest.raises(RuntimeError, match=run.id):
        stands.checkpoint(run)


def test_what_an_executor_does_not_know_is_refused(tmp_path):
    with pytest.raises(InputError, match="slurm_partition"):
        EXECUTORS["local"](Resources(), str(tmp_path), {"slurm_partition": "gpu"})


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"\[slurm\]"):
        EXECUTORS["slurm"](Resources(), str(tmp_path), {})
