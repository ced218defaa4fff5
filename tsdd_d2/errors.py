"""What a user can put right."""

from typing import Sequence


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
