"""
Make coarse boxes, as a hasty reader draws them, from the exact ones of a prepared data set.

The copy is a data set of its own: it links to the images, has the folds of the original, and keeps each exact box as
the `true_bbox` of its image, which training does not see. Box and reader depend on the seed and on annotation and
patient alone: an image has the same box in every fold.
"""

import argparse
import os
import pathlib
import sys
import zlib
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
from prepare import seed_option
from source_image import iou
from tabulate import tabulate

from tsdd_d2.data import BBUIError, dataset_folder
from tsdd_d2.data.files import read_json, write_json_files
from tsdd_d2.data.folds import SPLIT, remove_other_folds
from tsdd_d2.data.validation import read_valid_bbui
from tsdd_d2.errors import InputError, reports_errors

EXAMPLES = """
examples:
  python datasets/coarse.py --data busbra                                      # busbra_coarse_fold1_train, ...
  python datasets/coarse.py --data busbra --severity none --name busbra_exact    # what refinement must not harm
  python datasets/coarse.py --data busbra --severity strong --name busbra_strong
  python datasets/coarse.py --data busbra --readers two --name busbra_two_readers
"""


class Severity(NamedTuple):
    """How far a coarse box is from the exact one.

    Attributes:
        scale: bounds of the factor on each side.
        elongation: width and height differ from their common factor by at most this one.
        shift: of the centre, at most, as a share of the exact box's sides.
    """

    scale: Tuple[float, float]
    elongation: float
    shift: float


SEVERITIES = {
    "none": Severity((1.0, 1.0), 1.0, 0.0),
    "slight": Severity((0.85, 1.35), 1.08, 0.08),
    "middle": Severity((0.7, 1.8), 1.15, 0.15),
    "strong": Severity((0.5, 2.5), 1.25, 0.25),
}
# A reader's habit: the factor on the sides of all boxes that this one draws. Several readers divide the patients.
READERS = {"one": (1.0,), "large": (1.3,), "two": (1.3, 0.8)}


def coarse_box(
    exact: Sequence[float], size: Tuple[int, int], severity: Severity, habit: float, draws: Sequence[float]
) -> List[float]:
    """
    Args:
        exact: XYWH in absolute pixels.
        size: height and width of the image, to which the coarse box is clipped.
        draws: five numbers in [-1, 1]: common scale, elongation, shift to the right, shift down, elongation of the other
            side. The scale is uniform in its logarithm.

    Returns:
        XYWH in absolute pixels, with two decimals.
    """
    common, wider, right, down, higher = draws
    low, high = np.log(severity.scale)
    # the common factor leaves room for the elongation: each side's factor stays within the bounds
    room = np.log(severity.elongation)
    common = (low + high) / 2 + common * ((high - low) / 2 - room)
    sides = np.array(exact[2:]) * np.exp(common + room * np.array([wider, higher])) * habit
    centre = np.array(exact[:2]) + np.array(exact[2:]) * (0.5 + severity.shift * np.array([right, down]))
    corners = np.concatenate([centre - sides / 2, centre + sides / 2]).clip(0, [size[1], size[0]] * 2).round(2)
    return [*corners[:2].tolist(), *(corners[2:] - corners[:2]).round(2).tolist()]


def coarsen(bbui: Mapping[str, Any], severity: Severity, habits: Sequence[float] = (1.0,), seed: int = 0) -> Dict[str, Any]:
    """
    The content of a BBUI file with coarse boxes; the exact ones become the `true_bbox` of their images.

    An image that has a `true_bbox` already has its coarse box made from that. An image with several ROIs gets none:
    the field holds one box.

    Args:
        bbui: not changed.
        habits: of each reader, see :data:`READERS`.
    """
    images = {image["id"]: image for image in bbui["images"]}
    counts: Dict[int, int] = {}
    for annotation in bbui["annotations"]:
        counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + 1
    annotations, true_boxes = [], {}
    for annotation in bbui["annotations"]:
        image = images[annotation["image_id"]]
        is_only_one = counts[image["id"]] == 1
        exact = image.get("true_bbox", annotation["bbox"]) if is_only_one else annotation["bbox"]
        if is_only_one:
            true_boxes[image["id"]] = exact
        habit = habits[reader_of(image["patient_id"], len(habits), seed)]
        # RandomState, whose numbers numpy guarantees for ever
        draws = np.random.RandomState([seed, annotation["id"]]).uniform(-1, 1, 5)
        box = coarse_box(exact, (image["height"], image["width"]), severity, habit, draws)
        # the outline would tell the exact box
        kept = {key: value for key, value in annotation.items() if key != "segmentation"}
        annotations.append({**kept, "bbox": box, "area": round(box[2] * box[3], 4)})
    return {
        **bbui,
        "images": [
            {**image, "true_bbox": true_boxes[image["id"]]} if image["id"] in true_boxes else image
            for image in bbui["images"]
        ],
        "annotations": annotations,
    }


def reader_of(patient_id: str, num_readers: int, seed: int) -> int:
    """Which of the readers, from 0, drew the boxes of a patient."""
    return np.random.RandomState([seed, zlib.crc32(patient_id.encode())]).randint(num_readers)


def overlaps(bbui: Mapping[str, Any]) -> Dict[int, float]:
    """Image id -> IoU of its box with its `true_bbox`."""
    boxes = {annotation["image_id"]: annotation["bbox"] for annotation in bbui["annotations"]}
    return {
        image["id"]: iou(boxes[image["id"]], image["true_bbox"])
        for image in bbui["images"]
        if "true_bbox" in image and image["id"] in boxes
    }


def prepare(data: str, name: str, severity: str, readers: str, seed: int) -> None:
    """
    Write the folder `name` below $DETECTRON2_DATASETS and print the distribution of the IoU with the exact boxes.

    Raises:
        BBUIError: an annotation file breaks the format. Nothing is written then.
        InputError: there is no annotation, or something else stands where a link to the images must be.
    """
    source, target = dataset_folder(data), dataset_folder(name)
    paths = sorted(x for x in pathlib.Path(source, "annotations").glob("*.json") if SPLIT.fullmatch(x.stem))
    if not paths:
        raise InputError(f"{source}/annotations has no split such as fold1_train.json: prepare the data set {data} first.")
    if os.path.abspath(source) == os.path.abspath(target):
        raise InputError(f"--name {name} is the data set itself, whose boxes are not replaced: give another name.")
    coarse = {}
    for path in paths:
        bbui = coarsen(read_valid_bbui(path), SEVERITIES[severity], READERS[readers], seed)
        made = {"severity": severity, "readers": readers, "seed": seed, "of": data}
        coarse[path.name] = {**bbui, "info": {**bbui.get("info", {}), "coarse_boxes": made}}
        _require_own(os.path.join(target, "annotations", path.name))
    _link_images(coarse.values(), source, target)
    write_json_files({os.path.join(target, "annotations", file): bbui for file, bbui in coarse.items()})
    remove_other_folds(os.path.join(target, "annotations"), [path.stem for path in paths])
    print(distribution({key: value for bbui in coarse.values() for key, value in overlaps(bbui).items()}.values()))
    print(f"Written to {target}: {len(coarse)} files, {severity} severity, readers {readers}, seed {seed}.")


def _require_own(path: str) -> None:
    """Raises InputError if an annotation file is there that this script did not make."""
    content = read_json(path) if os.path.lexists(path) else {"info": {"coarse_boxes": {}}}
    if not (isinstance(content, dict) and isinstance(content.get("info"), dict) and "coarse_boxes" in content["info"]):
        raise InputError(f"{path} is that of another data set: give another --name.")


def _link_images(contents: Sequence[Mapping[str, Any]], source: str, target: str) -> None:
    """Relative links to the first part of the path of every image."""
    parts = {pathlib.PurePath(image["file_name"]).parts[0] for bbui in contents for image in bbui["images"]}
    links = {os.path.join(target, part): os.path.relpath(os.path.join(source, part), target) for part in sorted(parts)}
    for link, image_path in links.items():
        if os.path.lexists(link) and not (os.path.islink(link) and os.readlink(link) == image_path):
            raise BBUIError(
                f"{link} must be a link to {image_path} and is something else: remove it, or give another --name."
            )
    os.makedirs(target, exist_ok=True)
    for link, image_path in links.items():
        if not os.path.lexists(link):
            os.symlink(image_path, link)


def distribution(ious: Sequence[float]) -> str:
    """A table of the IoU of coarse with exact boxes, over all images."""
    ious = np.array(list(ious))
    if len(ious) == 0:
        return "No image has one ROI: nothing to compare."
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    headers = ["images", "mean IoU", *(f"{100 * q:g}%" for q in quantiles), "IoU >= 0.5", "IoU >= 0.7"]
    row = [len(ious), ious.mean(), *np.quantile(ious, quantiles), (ious >= 0.5).mean(), (ious >= 0.7).mean()]
    return tabulate([row], headers=headers, floatfmt=".3f")


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder below $DETECTRON2_DATASETS, such as busbra")
    parser.add_argument("--name", help="folder to write below $DETECTRON2_DATASETS (default: <data>_coarse)")
    parser.add_argument("--severity", choices=SEVERITIES, default="middle", help="(default: middle)")
    parser.add_argument(
        "--readers", choices=READERS, default="one",
        help="one without a habit, one who draws all boxes too large, or two of different habits (default: one)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed_option, default=0, help="of boxes and readers (default: 0)")
    args = parser.parse_args(argv)
    prepare(args.data, args.name or f"{args.data}_coarse", args.severity, args.readers, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
