#!/usr/bin/env python
"""Shows what the boxes of a finished SPA run are worth with other thresholds, on the validation images.

A row is a pair of MODEL.SPA.FIRST_ORDER_MIN, from which on cosines of features count, and MODEL.SPA.THRESHOLD, from which on
the map is object: the mean IoU with the manual box, and the share of images with IoU >= 0.5. The network sees each image once.
Nothing is changed: the values that you choose are given to the test, or to the next training.
"""

import argparse
import sys
from typing import Dict, List, Sequence, Tuple

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
from tsdd_d2.methods.spa import SPA, largest_part

MINIMA = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)

EPILOG = """
Examples:
    $ python tools/tune_spa.py --run output/spa
    $ python tools/tune_spa.py --run output/spa --minima 0.6 --thresholds 0.2 0.25 0.3
    $ python tools/train_net.py --method spa --data busbra --fold 1 --eval-only --resume OUTPUT_DIR output/spa \\
        MODEL.SPA.THRESHOLD 0.25
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a run of the method spa")
    parser.add_argument("--checkpoint", default=LAST, metavar="NAME", help=f"a checkpoint of the run (default {LAST})")
    for name, default, what in (("--minima", MINIMA, "FIRST_ORDER_MIN"), ("--thresholds", THRESHOLDS, "THRESHOLD")):
        listed = " ".join(map(str, default))
        parser.add_argument(
            name, type=float, nargs="+", default=default, metavar="X", help=f"of MODEL.SPA.{what} (default {listed})"
        )
    args = parser.parse_args(argv)
    if not all(0 <= x <= 1 for x in (*args.minima, *args.thresholds)):
        parser.error("--minima and --thresholds must be in [0, 1]")
    cfg, model = load_model_of_run(args.run, args.checkpoint)
    if not isinstance(model, SPA):
        raise InputError(f"{args.run} is a run of {cfg.MODEL.META_ARCHITECTURE}, not of SPA.")
    if not cfg.DATASETS.VAL:
        raise InputError(f"{args.run} was trained without DATASETS.VAL: there are no unseen images to choose by.")
    found = overlaps(cfg, model, args.minima, args.thresholds)
    print(table(found))
    minimum, threshold = max(found, key=lambda x: mean(found[x]))
    print(f"\nThe best mean IoU: MODEL.SPA.FIRST_ORDER_MIN {minimum:g} MODEL.SPA.THRESHOLD {threshold:g}")
    return 0


@torch.no_grad()
def overlaps(
    cfg, model: SPA, minima: Sequence[float], thresholds: Sequence[float]
) -> Dict[Tuple[float, float], List[float]]:
    """Minimum of the first order and threshold -> the IoU with the manual box, of each validation image that has one.

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
    found: Dict[Tuple[float, float], List[float]] = {(m, t): [] for m in minima for t in thresholds}
    for (inputs,) in tqdm(loader, desc=name, unit="image"):
        (maps,), (blocks,) = model.class_maps([inputs])
        height, width = inputs["image"].shape[1:]
        # from the image tensor to the original image
        scale = torch.tensor([inputs["width"] / width, inputs["height"] / height] * 2)
        rois = rois_xyxy(images[inputs["image_id"]])
        for minimum in minima:
            model.first_order_min = minimum
            structure = model.structure(maps, blocks, (height, width)).cpu()
            for threshold in thresholds:
                found[minimum, threshold].append(chosen_box_iou((largest_part(structure, threshold) * scale)[None], rois))
    return found


def table(found: Dict[Tuple[float, float], List[float]]) -> str:
    return markdown_table(
        [
            {
                "first-order minimum": f"{minimum:g}",
                "threshold": f"{threshold:g}",
                "images": str(len(overlap)),
                "mean IoU": f"{mean(overlap):.3f}",
                "IoU >= 0.5": f"{mean([x >= 0.5 for x in overlap]):.3f}",
            }
            for (minimum, threshold), overlap in found.items()
        ]
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
