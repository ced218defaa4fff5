#!/usr/bin/env python
"""Puts the figures of a finished run into one file: its results, what every round did, and how it was run.

results/ keeps these files, and tools/update_readme.py makes the tables of README.md and results/README.md of them.
"""

import argparse
import os
import re
import sys
from typing import Dict, Optional

from detectron2.data import MetadataCatalog

from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.run_folder import read_rounds, read_run_config
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.refinement import round_history

EPILOG = """
Examples:
    $ python tools/collect_results.py --run output/p02 --output results/stage1/busbra_fold1_p0.2.json
    $ python tools/collect_results.py --run output/demo/stage1 --output results/stage1/phantom_demo.json
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file to write")
    args = parser.parse_args(argv)
    write_json(args.output, collect(args.run))
    print(f"Written to {args.output}")
    return 0


def collect(run: str) -> Dict:
    """
    Returns:
        "run": how it was run; "results": results.json of the run; "rounds": see
        :func:`tsdd_d2.refinement.round_history`.
    """
    cfg = read_run_config(run)
    num_rounds = cfg.REFINEMENT.ROUNDS if cfg.REFINEMENT.ENABLED else 0
    rounds = read_rounds(run)
    results_file = os.path.join(run, "results.json")
    missing = [f"round {number}" for number in range(len(rounds), num_rounds + 1)]
    missing += ["results.json"] * (not os.path.isfile(results_file))
    if missing:
        raise InputError(
            f"{run} is not finished, it lacks {', '.join(missing)}: go on with tools/train_net.py --resume."
        )
    return {
        "run": {
            "config_file": config_file_of(run),
            "dataset": cfg.DATASETS.TRAIN[0],
            "p": cfg.DATASETS.P,
            "seed": cfg.SEED,
            "iterations": cfg.SOLVER.MAX_ITER,
            "warmup_iterations": cfg.REFINEMENT.WARMUP_ITER if num_rounds else None,
            "rounds": num_rounds,
            "rule": cfg.REFINEMENT.RULE if num_rounds else None,
        },
        "results": read_json(results_file),
        "rounds": round_history(rounds, training_set(cfg.DATASETS.TRAIN[0])),
    }


def training_set(name: str) -> Optional[Dict]:
    """The annotation with all ROIs, also those that p withheld; None where it is not on this machine."""
    try:
        ensure_registered(name)
    except InputError as error:
        print(f"No IoU with withheld boxes: {error}", file=sys.stderr)
        return None
    return read_json(MetadataCatalog.get(name).json_file)


def config_file_of(run: str) -> Optional[str]:
    """The name of the configuration file, which only the log tells: config.yaml is what came of it."""
    log_file = os.path.join(run, "log.txt")
    if not os.path.isfile(log_file):
        return None
    with open(log_file, encoding="utf-8") as file:
        found = re.findall(r"Contents of args\.config_file=(.+):$", file.read(), flags=re.MULTILINE)
    # the folder says where the software lay, not what was run
    return os.path.basename(found[-1]) if found else None


if __name__ == "__main__":
    sys.exit(main())
