#!/usr/bin/env python
"""Makes one model file from a finished training run: all that tools/predict.py needs."""

import argparse
import sys

from tsdd_d2.errors import reports_errors
from tsdd_d2.inference.model_file import LAST, save_model_of_run

EPILOG = """
Examples:
    $ python tools/save_model.py --run output/p02 --output model.pth
    $ python tools/save_model.py --run output/p02 --checkpoint model_best --threshold 0.35 --output model.pth
    $ python tools/save_model.py --run output/p02 --sensitivity 0.95 --output model.pth
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a training run")
    parser.add_argument("--output", required=True, metavar="FILE", help="the model file, *.pth")
    parser.add_argument(
        "--checkpoint", default=LAST, metavar="NAME", help=f"a checkpoint of the run (default {LAST}, the last weights)"
    )
    operating_point = parser.add_mutually_exclusive_group()
    operating_point.add_argument(
        "--threshold",
        type=float,
        help="malignant from this probability on (default: as in the run's evaluation, 0.5 or Youden's)",
    )
    operating_point.add_argument(
        "--sensitivity",
        type=float,
        metavar="SHARE",
        help="the highest threshold that calls at least this share of the malignant validation images malignant",
    )
    parser.add_argument("--half", action="store_true", help="weights in 16 bits: a file half as large")
    args = parser.parse_args(argv)
    threshold = save_model_of_run(args.run, args.output, args.checkpoint, args.threshold, args.sensitivity, args.half)
    print(f"The model is in {args.output}; malignant from {threshold:.3f} on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
