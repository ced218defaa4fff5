"""Reading the OUTPUT_DIR of a run of tools/train_net.py."""

import os
from typing import Dict, List

from detectron2.config import CfgNode

from ..errors import InputError
from ..refinement import ROIBank


def read_run_config(run: str) -> CfgNode:
    """The configuration that the run was started with.

    Raises:
        InputError: the folder holds no run.
    """
    config_file = os.path.join(run, "config.yaml")
    if not os.path.isfile(config_file):
        raise InputError(f"{run} is no OUTPUT_DIR of tools/train_net.py: it has no config.yaml.")
    with open(config_file) as file:
        return CfgNode.load_cfg(file)


def read_rounds(run: str) -> List[Dict]:
    """The annotation of every round so far, from round 0 on.

    Raises:
        InputError: there is none.
    """
    bank = ROIBank(os.path.join(run, "rois"))
    rounds = [bank.read(r) for r in bank.rounds()]
    if not rounds:
        raise InputError(f"{run} has no rois/round_00.json: training has not begun.")
    return rounds
