#!/usr/bin/env python
"""Draws the ROIs of a finished or running first stage: pictures of images, and a grid of lesions through the rounds."""

import argparse
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tqdm import tqdm

from detectron2.data import MetadataCatalog

from tsdd_d2.data import CLASS_NAMES, ensure_registered
from tsdd_d2.engine.run_folder import read_rounds, read_run_config
from tsdd_d2.errors import InputError
from tsdd_d2.visualization import draw_image

EPILOG = """
Examples:
    $ python tools/visualize_rois.py --run output/p02
    $ python tools/visualize_rois.py --run output/p02 --images 40 --lesions 6 --output figures
"""


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--output", metavar="DIR", help="folder of the pictures (default: DIR/pictures)")
    parser.add_argument("--images", type=int, default=24, help="pictures of single images (default 24)")
    parser.add_argument("--lesions", type=int, default=4, help="lesions in the grid (default 4)")
    args = parser.parse_args(argv)
    try:
        folder = draw_run(args.run, args.output or os.path.join(args.run, "pictures"), args.images, args.lesions)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Pictures are in {folder}")
    return 0


def draw_run(run: str, output: str, num_images: int, num_lesions: int) -> str:
    """Writes ``<file name>.png`` for evenly chosen images and ``rounds.png``; returns the folder."""
    name = read_run_config(run).DATASETS.TRAIN[0]
    ensure_registered(name)
    root = MetadataCatalog.get(name).image_root
    rounds = read_rounds(run)
    by_image = [_annotations_by_image(bbui) for bbui in rounds]
    os.makedirs(output, exist_ok=True)

    last = rounds[-1]
    for image in tqdm(_evenly(last["images"], num_images), desc="Pictures", unit="image"):
        picture = draw_image(
            os.path.join(root, image["file_name"]), image, by_image[-1].get(image["id"], [])
        )
        stem = os.path.splitext(os.path.basename(image["file_name"]))[0]
        plt.imsave(os.path.join(output, f"{stem}.png"), picture)

    # the lesions whose ROI changed most often tell most about the rounds
    changes = {
        image["id"]: len({str(_boxes(r.get(image["id"], []))) for r in by_image}) for image in last["images"]
    }
    lesions = sorted(last["images"], key=lambda x: -changes[x["id"]])[:num_lesions]
    figure, axes = plt.subplots(
        len(lesions), len(rounds), figsize=(2.6 * len(rounds), 2.8 * len(lesions)), squeeze=False
    )
    for row, image in zip(axes, lesions):
        for number, (axis, annotations) in enumerate(zip(row, by_image)):
            axis.imshow(
                draw_image(
                    os.path.join(root, image["file_name"]), image, annotations.get(image["id"], []), title=""
                )
            )
            axis.set_title(f"{CLASS_NAMES[image['category_id'] - 1]}, round {number}", fontsize=8)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(os.path.join(output, "rounds.png"), dpi=110)
    plt.close(figure)
    return output


def _annotations_by_image(bbui):
    by_image = {}
    for annotation in bbui["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    return by_image


def _boxes(annotations):
    return [x["bbox"] for x in annotations]


def _evenly(items, count):
    step = max(1, len(items) // max(count, 1))
    return items[::step][:count]


if __name__ == "__main__":
    sys.exit(main())
