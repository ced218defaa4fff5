#!/usr/bin/env python
"""Shows what the boxes of a finished SPA run are worth with other values, on the validation images.

A row is a choice of MODEL.SPA.FIRST_ORDER_MIN, from which on cosines of features count, of MODEL.SPA.SEEDS, up to which cells
of the class map are seeds of the background and from which on of the object, and of MODEL.SPA.THRESHOLD, from which on the
structure map is object: the mean IoU with the manual box, and the share of images with IoU >= 0.5. The best rows are shown,
and the plain class map for comparison. The network sees each image once. Nothing is changed: the values that you choose are
given to the test, or to the next training.
"""

import argparse
import sys
from itertools import product
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from tqdm import tqdm

import tsdd_d2  # noqa: F401 (before Detectron2, whose import it keeps silent)
from detectron2.data import DatasetCatalog, build_detection_test_loader
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.mapper import BBUIMapper
from tsdd_d2.data.roi import rois_xyxy
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.evaluation.localisation import chosen_box_iou
from tsdd_d2.evaluation.tables import markdown_table
from tsdd_d2.inference.model_file import LAST, load_model_of_run
from tsdd_d2.methods.spa import SPA, at_pixels, class_map, largest_part, self_correlation, structure_map

MOST_ROWS = 20
# option -> key, default
GRID = {
    "--minima": ("FIRST_ORDER_MIN", (0.1, 0.3, 0.6)),
    "--backgrounds": ("SEEDS, the first", (0.05, 0.2)),
    "--foregrounds": ("SEEDS, the second", (0.1, 0.3, 0.5, 0.7)),
    "--thresholds": ("THRESHOLD", (0.1, 0.2, 0.3, 0.4, 0.5)),
}

# First-order minimum, seeds of the background and of the object; None for the plain class map.
Structure = Optional[Tuple[float, float, float]]

EPILOG = """
Examples:
    $ python tools/tune_spa.py --run output/spa
    $ python tools/tune_spa.py --run output/spa --minima 0.6 --backgrounds 0.2 --foregrounds 0.6 0.7 0.8
    $ python tools/train_net.py --method spa --data busbra --fold 1 --eval-only --resume OUTPUT_DIR output/spa \\
        MODEL.SPA.THRESHOLD 0.25
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a run of the method spa")
    parser.add_argument("--checkpoint", default=LAST, metavar="NAME", help=f"a checkpoint of the run (default {LAST})")
    for name, (key, default) in GRID.items():
        listed = " ".join(map(str, default))
        parser.add_argument(
            name, type=float, nargs="+", default=default, metavar="X", help=f"of MODEL.SPA.{key} (default {listed})"
        )
    args = parser.parse_args(argv)
    if not all(0 <= x <= 1 for x in (*args.minima, *args.backgrounds, *args.foregrounds, *args.thresholds)):
        parser.error(f"{', '.join(GRID)} must be in [0, 1]")
    structures = [x for x in product(args.minima, args.backgrounds, args.foregrounds) if x[1] <= x[2]]
    if not structures:
        parser.error("a value of --foregrounds must not be below one of --backgrounds")
    cfg, model = load_model_of_run(args.run, args.checkpoint)
    if not isinstance(model, SPA):
        raise InputError(f"{args.run} is a run of {cfg.MODEL.META_ARCHITECTURE}, not of SPA.")
    if not cfg.DATASETS.VAL:
        raise InputError(f"{args.run} was trained without DATASETS.VAL: there are no unseen images to choose by.")
    found = overlaps(cfg, model, structures, args.thresholds)
    ranked = sorted((x for x in found if x[0] is not None), key=lambda x: -mean(found[x]))
    plain = sorted((x for x in found if x[0] is None), key=lambda x: -mean(found[x]))
    print(table({x: found[x] for x in (*ranked[:MOST_ROWS], *plain)}))
    (minimum, background, foreground), threshold = ranked[0]
    print(
        f"\nThe best mean IoU: MODEL.SPA.FIRST_ORDER_MIN {minimum:g} MODEL.SPA.SEEDS '({background:g}, {foreground:g})' "
        f"MODEL.SPA.THRESHOLD {threshold:g}"
    )
    return 0


@torch.no_grad()
def overlaps(
    cfg, model: SPA, structures: Sequence[Tuple[float, float, float]], thresholds: Sequence[float]
) -> Dict[Tuple[Structure, float], List[float]]:
    """Structure (or the plain map) and threshold -> the IoU with the manual box, of each validation image that has one.

    Raises:
        InputError: none has.
    """
    name = cfg.DATASETS.VAL[0]
    ensure_registered(name)
    images = {x["image_id"]: x for x in DatasetCatalog.get(name) if x["annotations"]}
    if not images:
        raise InputError(f"{name} has no ROI to compare a box with.")
    loader = build_detection_test_loader(
        list(images.values()), mapper=BBUIMapper(cfg, is_train=False), num_workers=cfg.DATALOADER.NUM_WORKERS
    )
    found: Dict[Tuple[Structure, float], List[float]] = {x: [] for x in product((*structures, None), thresholds)}
    for (inputs,) in tqdm(loader, desc=name, unit="image"):
        (maps,), (blocks,) = model.class_maps([inputs])
        height, width = inputs["image"].shape[1:]
        # from the image tensor to the original image
        scale = torch.tensor([inputs["width"] / width, inputs["height"] / height] * 2)
        rois = rois_xyxy(images[inputs["image_id"]])
        plain = class_map(maps)
        cells = {None: plain}
        for minimum in {x[0] for x in structures}:
            correlation = sum(self_correlation(x, minimum) for x in blocks)
            cells.update({x: structure_map(plain, correlation, *x[1:]) for x in structures if x[0] == minimum})
        for structure, values in cells.items():
            at_input = at_pixels(values, model.stride, (height, width)).cpu()
            for threshold in thresholds:
                box = largest_part(at_input, threshold) * scale
                found[structure, threshold].append(chosen_box_iou(box[None], rois))
    return found


def table(found: Dict[Tuple[Structure, float], List[float]]) -> str:
    return markdown_table(
        [
            {
                "map": "class map" if structure is None else "structure",
                "first-order minimum": "–" if structure is None else f"{structure[0]:g}",
                "seeds": "–" if structure is None else f"{structure[1]:g}, {structure[2]:g}",
                "threshold": f"{threshold:g}",
                "images": str(len(overlap)),
                "mean IoU": f"{mean(overlap):.3f}",
                "IoU >= 0.5": f"{mean([x >= 0.5 for x in overlap]):.3f}",
            }
            for (structure, threshold), overlap in found.items()
        ]
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
