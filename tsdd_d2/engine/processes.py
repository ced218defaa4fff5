"""The processes of a training: they end with the one that started them, and one training at a time has a folder."""

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import sys
import time
from typing import Any, Callable, Iterator, Optional

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from detectron2.utils import comm

from ..errors import InputError, is_told_in_a_line, message_of

__all__ = ["ENDS_WITH", "as_rank", "end_with", "lock_folder", "one_message"]

# The variable of the environment in which a program is told the process that it must end with.
ENDS_WITH = "TSDD_D2_ENDS_WITH"
PR_SET_PDEATHSIG = 1  # of Linux' prctl
SECONDS_OF_ORPHANS = 10.0

# Exit codes of a rank.
TOLD, LOST_OTHERS = 2, 3
# What gloo and NCCL say of it.
_LOST = re.compile(
    r"[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|remote process exited|NCCL communicator was aborted"
)


def end_with(parent: int) -> None:
    """From now on the system kills this process when its parent ends, whatever ends it (on Linux; elsewhere nothing).

    Args:
        parent: the process id that it had when it started this one.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def lock_folder(folder: str) -> Iterator[None]:
    """
    In this context no other process of a training has the folder, which is made if it is missing.

    Raises:
        InputError: another one has; the message names it.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = _holder(descriptor)
            raise InputError(
                f"OUTPUT_DIR {folder}: {f'process {holder}' if holder else 'another process'} trains there. Wait for its end, "
                "or end it, and go on with --resume."
            ) from None
        except OSError:  # a file system without such locks
            pass
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Locks an open file; BlockingIOError if another process keeps it locked.

    The loader's processes of a training that was killed have its lock too, and live a few seconds longer.
    """
    end = time.monotonic() + SECONDS_OF_ORPHANS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            if holder is None or os.path.exists(f"/proc/{holder}") or time.monotonic() > end:
                raise
        time.sleep(0.2)


def _holder(descriptor: int) -> Optional[int]:
    """The process that has the lock of an open file, where the system tells."""
    with contextlib.suppress(OSError):
        inode = os.fstat(descriptor).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                # 1: FLOCK  ADVISORY  WRITE 4711 08:01:131074 0 EOF
                fields = line.split()
                if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                    return int(fields[4])
    return None


def as_rank(main: Callable[[Any], Any], parent: int, args: Any) -> Any:
    """`main` of a process that ``launch`` of Detectron2 started: it ends with its parent, and what a user can put right is
    told in one message, as the decorator of the tools tells it, which sees the errors of its own process alone."""
    end_with(parent)
    try:
        result = main(args)
        if torch.distributed.is_initialized():
            comm.synchronize()
            # a thread of gloo that still runs when the interpreter ends aborts the process
            torch.distributed.destroy_process_group()
        return result
    except Exception as error:
        if is_told_in_a_line(error):
            print(f"error: {message_of(error)}", file=sys.stderr, flush=True)
            sys.exit(TOLD)
        if isinstance(error, RuntimeError) and _LOST.search(str(error)):
            sys.exit(LOST_OTHERS)
        raise


@contextlib.contextmanager
def one_message() -> Iterator[None]:
    """Around ``launch``: InputError if one of its processes was ended from outside; SystemExit if it told why itself."""
    try:
        yield
    except ProcessRaisedException:  # with the traceback of the process, which is an error of the software
        raise
    except ProcessExitedException as error:
        if error.exit_code == TOLD:
            raise SystemExit(TOLD) from None
        what = f"was ended by {error.signal_name}" if error.signal_name else f"ended with exit code {error.exit_code}"
        if error.exit_code == LOST_OTHERS:
            what = "lost the connection to the others"
        raise InputError(
            f"Process {error.error_index} of the training {what}; the system may have killed one for want of memory. The "
            "others were ended too; --resume goes on from the last checkpoint."
        ) from None
