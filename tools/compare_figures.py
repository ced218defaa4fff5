#!/usr/bin/env python
"""Draws a grid of images in the manner of the paper's Fig. 6 and 8, as PNG and PDF.

It has one row per image, and one column for each of several models (--predictions) or for each round of a first-stage
run (--run).
"""

import argparse
import os
import sys
from typing import List

from matplotlib.figure import Figure

from tsdd_d2.engine.run_folder import read_rounds, read_run_config
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.report.figures import save_figure
from tsdd_d2.report.gallery import choose_images, model_rows, read_columns, round_rows
from tsdd_d2.visualization import comparison_figure

EPILOG = """
Examples:
    $ python tools/compare_figures.py --run output/p02
    $ python tools/compare_figures.py --output figures/models --labels RetinaNet TSDDNet \\
        --predictions output/retinanet/predictions.json output/tsddnet/predictions.json
    $ python tools/compare_figures.py --output figures/stages --labels "stage 1" "stage 2" --image-ids 8 21 \\
        --predictions output/p02/inference/model_final/found_box/diagnosis_busbra_fold1_test.json \\
        output/p02_stage2/inference/model_final/found_box/diagnosis_busbra_fold1_test.json

A file of predictions is the predictions.json of an experiment, or a diagnosis_<data set>.json of tools/train_net.py.
The images are chosen by rule: half of each class, most of them diagnosed rightly by the last model and some not, first
those on which the models disagree most. Of a run, the ROIs that changed most often are shown, half of them on images
that had no manual one in the training; p is C-Net's probability of the true class in that round.
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--predictions", nargs="+", metavar="FILE", help="predictions of the models, one file for each")
    source.add_argument("--run", metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="titles of the models (default: as files say)")
    parser.add_argument("--data-set", metavar="NAME", help="test set (default: the one that all files have)")
    parser.add_argument("--images", type=int, default=6, help="number of rows (default 6)")
    parser.add_argument("--image-ids", type=int, nargs="+", metavar="ID", help="these images instead of chosen ones")
    parser.add_argument(
        "--output", metavar="STEM", help="of STEM.png and STEM.pdf (default: comparison, or DIR/pictures/rounds)"
    )
    args = parser.parse_args(argv)
    if args.run and (args.labels or args.data_set or args.image_ids):
        parser.error("--labels, --data-set and --image-ids belong to --predictions")
    if args.images < 1:
        parser.error("--images must be 1 or more")
    stem = args.output or (os.path.join(args.run, "pictures", "rounds") if args.run else "comparison")
    figure = draw_rounds(args.run, args.images) if args.run else draw_models(args)
    save_figure(figure, *os.path.split(os.path.abspath(stem)), dpi=110)
    print(f"Written to {stem}.png and {stem}.pdf")
    return 0


def draw_models(args: argparse.Namespace) -> Figure:
    """One column for each file of predictions."""
    data_set, columns = read_columns(args.predictions, args.labels, args.data_set)
    image_ids: List[int] = args.image_ids or choose_images(columns, args.images)
    if not image_ids:
        raise InputError(f"The files have no image of {data_set} in common.")
    return comparison_figure([x.title for x in columns], model_rows(columns, image_ids, data_set))


def draw_rounds(run: str, count: int) -> Figure:
    """One column for each round."""
    data_set = read_run_config(run).DATASETS.TRAIN[0]
    rounds = read_rounds(run)
    rows = round_rows(rounds, count, data_set)
    return comparison_figure([f"round {number}" for number in range(len(rounds))], rows, roi="ROI of the round")


if __name__ == "__main__":
    sys.exit(main())
