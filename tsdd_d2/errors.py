"""What a user can put right, and how the command-line tools tell it."""

import contextlib
import functools
import io
import logging
import re
import sys
import threading
import warnings
from typing import Callable, Dict, Iterator, List, Sequence

MOST_EXAMPLES = 3  # of one kind of problem in a message
MOST_KINDS = 30
LONGEST_PROBLEM = 600  # characters
LONGEST_MESSAGE = 60_000
# What differs between problems of one kind: values, places and numbers.
_PARTICULARS = re.compile(r"found .*|\(.*?\)|\[.*?\]|\S*[/\\]\S*|\S+\.[a-z]{3,4}\b|\d+")


class InputError(ValueError):
    """A problem of configuration, data or files; the tools print its message alone and exit with code 2.

    A message that a damaged file makes endless is cut.
    """

    def __init__(self, message: str):
        super().__init__(_cut(message, LONGEST_MESSAGE))


class BBUIError(InputError):
    """
    Data that must not be trained on. The message holds the problems found, one on a line; of those of one kind the first
    three and their number.

    Attributes:
        problems (tuple[str]): all problems, one string each.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()):
        super().__init__("\n".join([headline, *_grouped(problems)]))
        self.problems = tuple(problems)


def listed(texts: Sequence[str], most: int = MOST_EXAMPLES) -> str:
    """The first of them, and how many more there are."""
    return ", ".join([*texts[:most], *[f"and {len(texts) - most} more"] * (len(texts) > most)])


def _grouped(problems: Sequence[str]) -> List[str]:
    kinds: Dict[str, List[str]] = {}
    for problem in problems:
        kinds.setdefault(_PARTICULARS.sub("#", problem[:LONGEST_PROBLEM]), []).append(problem)
    lines = []
    for found in list(kinds.values())[:MOST_KINDS]:
        lines += [f"  - {_cut(problem)}" for problem in found[:MOST_EXAMPLES]]
        if len(found) > MOST_EXAMPLES:
            lines.append(f"    ... and {len(found) - MOST_EXAMPLES} more like these")
    left = [problem for found in list(kinds.values())[MOST_KINDS:] for problem in found]
    return lines + [f"    ... and {len(left)} more"] * bool(left)


def _cut(text: str, longest: int = LONGEST_PROBLEM) -> str:
    return text if len(text) <= longest else f"{text[:longest]} ..."


def reports_errors(main: Callable[..., int]) -> Callable[..., int]:
    """
    Decorates the `main` of a tool: an :class:`InputError`, and an OSError of the system, such as of a file that cannot
    be written, are told in a message without traceback on the standard error, and the exit code is 2.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for names that the terminal, or any, has no characters for
        # of Detectron2's anchors; it tells a user nothing
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        try:
            return main(*args, **kwargs)
        except (InputError, OSError) as error:
            if not is_told_in_a_line(error):  # raised by a library for reasons of its own
                raise
            print(f"error: {message_of(error)}", file=sys.stderr)
        return 2

    return wrapped


def message_of(error: BaseException) -> str:
    """What is told of an error without its traceback."""
    if not isinstance(error, OSError):
        return str(error)
    file = error.filename2 or error.filename  # of a file that is renamed its new name, which the user knows
    return f"{file}: {error.strerror}" if file and error.strerror else str(error)


def is_told_in_a_line(error: BaseException) -> bool:
    """Whether :func:`reports_errors` tells an error without its traceback."""
    return isinstance(error, InputError) or isinstance(error, OSError) and error.errno is not None


def without_traceback(error: threading.ExceptHookArgs) -> None:
    """A ``threading.excepthook`` that says nothing of an error that :func:`reports_errors` tells where it is raised again."""
    if not is_told_in_a_line(error.exc_value):
        threading.__excepthook__(error)


class WithoutTraceback(logging.Filter):
    """For handlers of a log: an error that a user can put right is one line there too, where Detectron2 logs what ended
    a training."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and is_told_in_a_line(error):
            record.msg, record.args = f"{record.getMessage()} {error}", None
            record.exc_info = record.exc_text = None
        return True


@contextlib.contextmanager
def kept_warnings() -> Iterator[List[str]]:
    """The warnings of this package while the context lasts, in place of their output: the log of a run begins later."""
    kept: List[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())
    package = logging.getLogger("tsdd_d2")
    package.addHandler(handler)
    try:
        yield kept
    finally:
        package.removeHandler(handler)
