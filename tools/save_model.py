#!/usr/bin/env python
"""Makes one model file from a finished training run: all that tools/predict.py needs."""

import argparse
import sys

from tsdd_d2.errors import reports_errors
from tsdd_d2.inference.model_file import save_model_of_run

EPILOG = """
Examples:
    $ python tools/save_model.py --run output/p02 --output model.pth
    $ python tools/save_model.py --run output/p02 --checkpoint model_final --threshold 0.35 --output model.pth
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a training run")
    parser.add_argument("--output", required=True, metavar="FILE", help="the model file, *.pth")
    parser.add_argument(
        "--checkpoint", default="model_best", metavar="NAME", help="a checkpoint of the run (default model_best)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="malignant from this probability on (default: as in the run's evaluation, 0.5 or Youden's)",
    )
    args = parser.parse_args(argv)
    save_model_of_run(args.run, args.output, args.checkpoint, args.threshold)
    print(f"The model is in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
