#!/usr/bin/env python
"""Trains the four variants of the paper's Table II and writes their figures; go on by giving the same command again.

Without --p and --seeds: p = 0.2 with seeds 0, 1 and 2, and p = 1.0 with seed 0, on official fold 1 of BUS-BRA in the
small-compute profile, about eight machine hours on two cores.
"""

import argparse
import os
import sys

from tsdd_d2.data.files import write_json
from tsdd_d2.experiments import collect_ablation, execute, plan_ablation
from tsdd_d2.tables import ablation_table

EPILOG = """
Examples:
    $ python tools/ablation.py --dry-run
    $ python tools/ablation.py --p 0.2 --seeds 0 --results results/ablation.json
"""

DRAWS = [(0.2, 0), (0.2, 1), (0.2, 2), (1.0, 0)]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", default="output/ablation", metavar="DIR", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--results", metavar="FILE", help="JSON file of the figures (default: DIR/ablation.json)")
    parser.add_argument("--p", type=float, help="only this share of patients that keep their ROIs")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these seeds")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that are left to run, and stop")
    parser.add_argument("--overrides", nargs="+", default=[], metavar="KEY VALUE", help="for every run")
    args = parser.parse_args(argv)
    draws = DRAWS
    if args.p is not None or args.seeds:
        draws = [(args.p if args.p is not None else 0.2, seed) for seed in args.seeds or [0]]
    runs = plan_ablation(args.output, draws, args.overrides)
    if args.dry_run:
        for run in runs:
            if not run.finished:
                print(" ".join(run.command))
        return 0
    failed = execute(runs)
    content = collect_ablation(args.output, draws)
    write_json(args.results or os.path.join(args.output, "ablation.json"), content)
    print(ablation_table(content["ablation"]))
    for run in failed:
        print(f"failed: {run.folder}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
