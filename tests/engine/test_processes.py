import os
import signal
import subprocess
import time

import pytest
from torch.multiprocessing import ProcessExitedException

from tsdd_d2.engine.processes import as_rank, end_with, lock_folder, one_message
from tsdd_d2.errors import InputError

from ..conftest import train_command


def forked(function):
    """The id of a process that calls a function."""
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    return child


@pytest.mark.parametrize("killed_before", [False, True])
def test_a_process_ends_with_the_one_that_started_it(killed_before):
    """Also where that one was killed before the process could ask for it."""
    reader, writer = os.pipe()  # at its end when all who have the other side are gone

    def child():
        if killed_before:
            time.sleep(0.2)
        end_with(parent)
        os.write(writer, b"r")
        time.sleep(600)

    def middle():
        nonlocal parent
        parent = os.getpid()
        forked(child)
        os.write(writer, b"f")
        time.sleep(600)

    parent = None
    process = forked(middle)
    os.close(writer)
    for _ in range(1 if killed_before else 2):
        os.read(reader, 1)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_one_training_at_a_time_has_a_folder(tmp_path):
    with lock_folder(str(tmp_path / "new")):
        with pytest.raises(InputError, match=f"process {os.getpid()} "):
            with lock_folder(str(tmp_path / "new")):
                pass
        with lock_folder(str(tmp_path)):
            pass
    with lock_folder(str(tmp_path / "new")):
        assert os.listdir(tmp_path / "new") == []


def test_a_loader_that_outlives_a_killed_training_is_waited_for(tmp_path):
    reader, writer = os.pipe()

    def training():
        with lock_folder(str(tmp_path)):
            if os.fork() == 0:
                os.write(writer, b"1")
                time.sleep(1)
                os._exit(0)
            time.sleep(60)

    process = forked(training)
    os.read(reader, 1)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with lock_folder(str(tmp_path)):
        pass
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "error, code",
    [(InputError("a.png is missing"), 2), (RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:1"), 3)],
)
def test_a_rank_tells_what_a_user_can_put_right(error, code, capsys):
    def main(_):
        raise error

    def rank():
        try:
            as_rank(main, os.getppid(), None)
        except SystemExit as end:
            os._exit(end.code)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(rank), 0)[1]) == code


@pytest.mark.parametrize(
    "code, name, expected, match",
    [(-9, "SIGKILL", InputError, "Process 1 .*SIGKILL"), (3, None, InputError, "lost"), (2, None, SystemExit, "2")],
)
def test_the_end_of_a_rank_is_one_message(code, name, expected, match):
    with pytest.raises(expected, match=match):
        with one_message():
            raise ProcessExitedException("process 1 ended", 1, 4711, code, name)


def test_a_killed_rank_and_a_training_in_the_folder_are_told(tmp_path, tiny_environment):
    """Two real ranks, of which one is killed; meanwhile a second start is refused."""
    run = tmp_path / "run"
    options = ("--num-gpus", "2", "--dist-url", "auto")
    overrides = ("SOLVER.MAX_ITER", "100000", "TEST.EVAL_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD", "100000")
    process = subprocess.Popen(
        train_command(run, *options, overrides=overrides), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.time() + 240
        while not (run / "metrics.json").exists():
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.05)
        with pytest.raises(InputError, match=f"process {process.pid} "):
            with lock_folder(str(run)):
                pass
        os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 2 and "Traceback" not in errors
    # after it Python's resource tracker may warn of what a killed process could not give back
    (message,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "--resume" in message


def ranks_of(parent):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as command:
                if int(stat.read().split()[3]) == parent and "spawn_main" in command.read():
                    found.append(int(name))
        except OSError:  # it has ended
            continue
    return sorted(found)
