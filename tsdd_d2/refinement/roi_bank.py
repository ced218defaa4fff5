"""The versions of the ROI annotation on disk: one immutable file for each round."""

import errno
import os
from typing import Dict, List

from ..data.files import write_json
from ..data.validation import read_valid_bbui


class ROIBank:
    """``<directory>/round_00.json`` is what training started from, ``round_RR.json`` what round RR made of it.

    Each file is a complete BBUI annotation file. A file is written under a temporary name and renamed, so that a file
    that exists is whole.
    """

    def __init__(self, directory: str):
        """
        Attributes:
            begun: whether this object wrote round 0, so that no round is of an earlier training.
        """
        self.directory = directory
        self.begun = False

    def path(self, round_number: int) -> str:
        return os.path.join(self.directory, f"round_{round_number:02d}.json")

    def read(self, round_number: int) -> Dict:
        """
        Raises:
            FileNotFoundError: the round was not written.
            BBUIError: with all problems of the file.
        """
        path = self.path(round_number)
        if not os.path.isfile(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return read_valid_bbui(path)

    def write(self, round_number: int, bbui: Dict) -> str:
        """Returns the path of the new file."""
        os.makedirs(self.directory, exist_ok=True)
        write_json(self.path(round_number), bbui)
        self.begun = self.begun or round_number == 0
        return self.path(round_number)

    def rounds(self) -> List[int]:
        """The rounds on disk, ascending, without gaps from 0 on."""
        number = 0
        while os.path.exists(self.path(number)):
            number += 1
        return list(range(number))
