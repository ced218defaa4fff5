"""Training runs as a list: what is finished is never repeated, what was interrupted goes on, a failure stops no other."""

import os
import subprocess
import sys
from typing import List, NamedTuple, Optional, Sequence, Tuple

from tqdm import tqdm

TRAIN_TOOL = os.path.join("tools", "train_net.py")


class Run(NamedTuple):
    """One run of tools/train_net.py.

    Attributes:
        folder: its OUTPUT_DIR; the log is ``<folder>.log``.
        config_file, overrides: as on the command line.
        needs: OUTPUT_DIR of a run that must be finished before, or None.
    """

    folder: str
    config_file: str
    overrides: Tuple[str, ...]
    needs: Optional[str] = None

    @property
    def finished(self) -> bool:
        """results.json is the last file that a run writes."""
        return os.path.isfile(os.path.join(self.folder, "results.json"))

    @property
    def command(self) -> List[str]:
        arguments = ["--config-file", self.config_file, "--resume", "OUTPUT_DIR", self.folder]
        return [sys.executable, TRAIN_TOOL, *arguments, *self.overrides]


def execute(runs: Sequence[Run]) -> List[Run]:
    """Executes what is not finished, in order, with a progress bar over the runs.

    Returns:
        the runs that failed, or whose first stage did.
    """
    failed: List[Run] = []
    to_do = [run for run in runs if not run.finished]
    with tqdm(to_do, unit="run") as progress:
        for run in progress:
            progress.set_description(os.path.basename(run.folder))
            if run.needs is not None and any(run.needs == other.folder for other in failed):
                failed.append(run)
                continue
            os.makedirs(os.path.dirname(os.path.abspath(run.folder)), exist_ok=True)
            with open(f"{run.folder}.log", "a", encoding="utf-8") as log:
                code = subprocess.run(run.command, stdout=log, stderr=subprocess.STDOUT).returncode
            if code != 0:
                tqdm.write(f"failed with exit code {code}, see {run.folder}.log")
                failed.append(run)
    return failed
