"""What is refused of the folder that a run writes into."""

import contextlib
import logging
import os
import re
import tempfile

import yaml

from ...data.files import read_yaml
from ...errors import InputError
from ..configuration import ABSENT, config_differences
from ..run_folder import CONFIG_FILE, describe_difference, differences_of_files, run_files

logger = logging.getLogger(__name__)

# The keys behind the ROIs in OUTPUT_DIR, which a resumed run takes as they are.
DECIDES_ROIS = re.compile(
    r"DATASETS\.(TRAIN|P|P_SEED|VETOES)|SEED|MODEL\.META_ARCHITECTURE|REFINEMENT\.(?!IMS_PER_BATCH$).+"
)
# With refinement on, that behind the iterations of the rounds.
DECIDES_ROUNDS = "SOLVER.MAX_ITER"


def check_output_dir(cfg, resume: bool, overwrite: bool, training: bool = True) -> None:
    """Raises InputError if OUTPUT_DIR cannot be written to, or holds a run that this one would destroy, unasked or though it needs it, or a run
    that training cannot resume since its ROIs come from something else.

    Evaluation (not ``training``) writes below OUTPUT_DIR/inference alone: there a run of another configuration is worth a
    warning.
    """
    _require_writable(cfg.OUTPUT_DIR)
    if overwrite:
        removed = [os.path.realpath(x) for x in (cfg.OUTPUT_DIR, *run_files(cfg.OUTPUT_DIR))]
        if cfg.MODEL.WEIGHTS and os.path.realpath(cfg.MODEL.WEIGHTS) in removed:
            raise InputError(
                f"--overwrite would remove MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}, which training starts from: name another "
                "OUTPUT_DIR."
            )
        return
    config_file = os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)
    if not os.path.exists(config_file):
        return
    # empty where Detectron2 was killed as it wrote it
    found = read_yaml(config_file) or {}
    if not isinstance(found, dict):
        raise InputError(f"{config_file} cannot be read: it holds no keys with values.")
    differences = config_differences(found, yaml.safe_load(cfg.dump()))
    listed = [describe_difference(*difference) for difference in differences]
    if training and not resume:
        if not differences:
            raise InputError(
                f"OUTPUT_DIR {cfg.OUTPUT_DIR} holds a run of this configuration: go on with --resume, or start again "
                "with --overwrite."
            )
        raise InputError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} belongs to a run with a different configuration:\n  "
            + "\n  ".join(listed)
            + "\nName another OUTPUT_DIR, or start again in this one with --overwrite."
        )
    if training:
        decisive = [
            describe_difference(key, old, new)
            for key, old, new in differences
            # a key that one side lacks is of another version of this software
            if (DECIDES_ROIS.fullmatch(key) or cfg.REFINEMENT.ENABLED and key == DECIDES_ROUNDS) and ABSENT not in (old, new)
        ]
        decisive = decisive or differences_of_files(cfg)
        if decisive:
            raise InputError(
                f"--resume: the ROIs of the run in OUTPUT_DIR {cfg.OUTPUT_DIR} come from something else:\n  "
                + "\n  ".join(decisive)
                + "\nName another OUTPUT_DIR, or start again in this one with --overwrite."
            )
    if differences:
        logger.warning("The configuration differs from that of the run in OUTPUT_DIR:\n  %s", "\n  ".join(listed))


def _require_writable(folder: str) -> None:
    """Raises InputError unless a file can be written into a folder, which need not exist; nothing is left there."""
    made, path = [], os.path.abspath(folder)
    while not os.path.lexists(path):
        made.append(path)
        path = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 2**20)  # more than the first files of a run
    except (OSError, ValueError) as error:
        raise InputError(
            f"OUTPUT_DIR {folder} cannot be written to: {getattr(error, 'strerror', None) or error}."
        ) from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                os.rmdir(path)
