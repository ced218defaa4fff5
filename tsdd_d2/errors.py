"""What a user can put right, and how the command-line tools tell it."""

import functools
import sys
from typing import Callable, Sequence


class InputError(ValueError):
    """A problem of configuration, data or files; the tools print its message alone and exit with code 2."""


class BBUIError(InputError):
    """
    Data that must not be trained on. The message holds all problems found, one on a line.

    Attributes:
        problems (tuple[str]): the problems, one string each.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()):
        super().__init__("\n".join([headline, *(f"  - {problem}" for problem in problems)]))
        self.problems = tuple(problems)


def reports_errors(main: Callable[..., int]) -> Callable[..., int]:
    """
    Decorates the `main` of a tool: an :class:`InputError`, and an OSError of the system, such as of a file that cannot
    be written, are told in a message without traceback on the standard error, and the exit code is 2.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except InputError as error:
            message = str(error)
        except OSError as error:
            if error.errno is None:  # raised by a library for reasons of its own
                raise
            file = error.filename2 or error.filename  # of a file that is renamed its new name, which the user knows
            message = f"{file}: {error.strerror}" if file else str(error)
        print(f"error: {message}", file=sys.stderr)
        return 2

    return wrapped
