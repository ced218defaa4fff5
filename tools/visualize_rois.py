#!/usr/bin/env python
"""Draws images with their ROIs after the last round of a finished or running first stage.

tools/compare_figures.py follows lesions through the rounds.
"""

import argparse
import os
import sys
from typing import Set

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image
from tqdm import tqdm

from tsdd_d2.data import ensure_registered
from tsdd_d2.inference.input_images import picture_name
from tsdd_d2.engine.run_folder import read_rounds, read_run_config
from tsdd_d2.errors import reports_errors
from tsdd_d2.visualization import draw_image

EPILOG = """
Examples:
    $ python tools/visualize_rois.py --run output/p02
    $ python tools/visualize_rois.py --run output/p02 --images 40 --output figures
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--output", metavar="DIR", help="folder of the pictures (default: DIR/pictures)")
    parser.add_argument("--images", type=int, default=24, help="number of pictures (default 24)")
    args = parser.parse_args(argv)
    if args.images < 1:
        parser.error("--images must be 1 or more")
    folder = draw_run(args.run, args.output or os.path.join(args.run, "pictures"), args.images)
    print(f"Pictures are in {folder}")
    return 0


def draw_run(run: str, output: str, num_images: int) -> str:
    """Writes ``<file name>.png`` (``<file name>_2.png`` for the second of a name) for evenly chosen images; returns the folder."""
    name = read_run_config(run).DATASETS.TRAIN[0]
    ensure_registered(name)
    root = MetadataCatalog.get(name).image_root
    last = read_rounds(run)[-1]
    annotations = {}
    for annotation in last["annotations"]:
        annotations.setdefault(annotation["image_id"], []).append(annotation)
    os.makedirs(output, exist_ok=True)
    taken: Set[str] = set()
    for image in tqdm(_evenly(last["images"], num_images), desc="Pictures", unit="image"):
        picture = draw_image(os.path.join(root, image["file_name"]), image, annotations.get(image["id"], []))
        Image.fromarray(picture).save(os.path.join(output, picture_name(image["file_name"], taken)))
    return output


def _evenly(items, count):
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


if __name__ == "__main__":
    sys.exit(main())
