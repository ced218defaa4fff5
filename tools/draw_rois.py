#!/usr/bin/env python
"""Shows the ROIs of a finished or running first stage: pictures after the last round, and lesions through the rounds.

rounds.png shows the ROIs that changed most often, half of them on images that had no manual one in the training, with a
column for each round; p is C-Net's probability of the true class in that round. rounds.md tells what every round changed.
"""

import argparse
import os
import sys
from typing import Set

import numpy as np
from PIL import Image
from tqdm import tqdm

import tsdd_d2  # noqa: F401 (before Detectron2, whose import it keeps silent)
from detectron2.data import MetadataCatalog
from tsdd_d2.data.files import replacing, write_text
from tsdd_d2.engine.run_folder import read_rounds, read_run_config
from tsdd_d2.errors import reports_errors
from tsdd_d2.evaluation.tables import rounds_table
from tsdd_d2.experiments.figures import save_figure
from tsdd_d2.experiments.gallery import round_rows
from tsdd_d2.inference.input_images import picture_name
from tsdd_d2.refinement import complete_annotation, round_history
from tsdd_d2.visualization import comparison_figure, draw_image

ROWS, DPI = 6, 110

EPILOG = """
Examples:
    $ python tools/draw_rois.py --run output/p02/tsddnet_stage1
    $ python tools/draw_rois.py --run output/p02/tsddnet_stage1 --images 40 --output figures
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--output", metavar="DIR", help="folder of the pictures (default: DIR/pictures)")
    parser.add_argument("--images", type=int, default=24, help="number of pictures beside rounds.png (default 24)")
    args = parser.parse_args(argv)
    if args.images < 1:
        parser.error("--images must be 1 or more")
    folder = args.output or os.path.join(args.run, "pictures")
    name, rounds = read_run_config(args.run).DATASETS.TRAIN[0], read_rounds(args.run)
    complete = complete_annotation(name, rounds[0]["images"])
    draw_images(name, rounds[-1], folder, args.images)
    titles = [f"round {number}" for number in range(len(rounds))]
    figure = comparison_figure(titles, round_rows(rounds, ROWS, name), roi="ROI of the round")
    save_figure(figure, os.path.join(folder, "rounds"), dpi=DPI)
    write_text(os.path.join(folder, "rounds.md"), rounds_table(round_history(rounds, complete)) + "\n")
    print(f"Pictures are in {folder}")
    return 0


def draw_images(data_set: str, last_round, folder: str, num_images: int) -> None:
    """Writes ``<file name>.png`` (``<file name>_2.png`` for the second of a name) for evenly chosen images."""
    root = MetadataCatalog.get(data_set).image_root
    annotations = {}
    for annotation in last_round["annotations"]:
        annotations.setdefault(annotation["image_id"], []).append(annotation)
    taken: Set[str] = {"rounds.png"}
    for image in tqdm(_evenly(last_round["images"], num_images), desc="Pictures", unit="image"):
        picture = draw_image(os.path.join(root, image["file_name"]), image, annotations.get(image["id"], []))
        with replacing(os.path.join(folder, picture_name(image["file_name"], taken)), "wb") as file:
            Image.fromarray(picture).save(file, "PNG")


def _evenly(items, count):
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


if __name__ == "__main__":
    sys.exit(main())
