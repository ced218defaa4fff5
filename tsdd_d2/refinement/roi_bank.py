"""The versions of the ROI annotation on disk: one immutable file for each round."""

import os
from typing import Dict, List

from ..data.files import read_json, write_json


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
        """Raises FileNotFoundError if the round was not written."""
        return read_json(self.path(round_number))

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
