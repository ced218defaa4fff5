"""
Calipers: the marks that a sonographer sets at the border of a lesion, burnt into an image. They tell where the lesion is, and
perhaps that somebody found it worth measuring; a network may learn them instead of the lesion.

It reports in how many images of a prepared data set they are found, for each class, and how much they give away. `--list`
names these images, for tools/compare_predictions.py; `--copy` writes the data set again with the marks painted over, to train
or test on.
"""

import argparse
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import cv2
import numpy as np
from source_image import iou
from tabulate import tabulate
from tqdm import tqdm

from tsdd_d2.data.categories import CATEGORIES
from tsdd_d2.data.decoding import decode_image
from tsdd_d2.data.files import write_bytes, write_text
from tsdd_d2.data.validation import read_valid_bbui
from tsdd_d2.errors import InputError, reports_errors

__all__ = ["Mark", "find_marks", "paint_over"]

EXAMPLES = """
examples:
  $ python datasets/calipers.py --root data/busbra --list calipers.txt
  $ python datasets/calipers.py --root data/busbra --copy data/busbra_painted
  $ python tools/train_net.py --data busbra_painted --fold 1
"""

RADIUS = 7  # pixels of a template around its centre
SMALLEST_CONTRAST = 15  # grey values of a mark above what is around it
# A plus beside its number, or at the edge of something bright, resembles its template less, but all its arms are thin.
LOWEST_WITH_ARMS = 0.69  # correlation
SMALLEST_ARM = 40  # grey values of the weakest arm above both its sides


class Mark(NamedTuple):
    """
    Attributes:
        x, y: its centre in pixels.
        shape: name of its template.
        score: normalised correlation with the template, at most 1.
    """

    x: int
    y: int
    shape: str
    score: float


def _template(*shapes: np.ndarray) -> np.ndarray:
    """(15, 15) float32 of (row, column) offsets from the centre that are bright."""
    template = np.zeros((2 * RADIUS + 1,) * 2, np.float32)
    for offsets in shapes:
        template[offsets[:, 0] + RADIUS, offsets[:, 1] + RADIUS] = 1
    return cv2.GaussianBlur(template, (0, 0), 0.6)


def _bar(rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    return np.array([(row, column) for row in rows for column in columns])


_ARM = range(-5, 6)
_CROSS = np.array([(i, i) for i in _ARM] + [(i, -i) for i in _ARM])
_BLOCK = _bar(range(-1, 2), range(-1, 2))

_CORNERS = np.array([(5, 3), (4, 3), (4, 4), (3, 4), (3, 5)])

# Template and lowest correlation. Chosen on BUS-BRA by looking at what lies around each threshold: below it are speckle, the
# "4", "MM" and "D" of burnt-in text, and dots.
_TEMPLATES = {
    "plus": (_template(_bar(range(-5, 6), (-1, 0)), _bar((-1, 0), range(-5, 6))), 0.78),
    "large plus": (_template(_bar(range(-6, 7), (-1, 0)), _bar((-1, 0), range(-6, 7))), 0.76),
    "cross": (_template(_CROSS), 0.64),
    "cross with a level bar": (_template(_CROSS, _bar((0,), _ARM), _BLOCK), 0.79),
    "cross with an upright bar": (_template(_CROSS, _bar(_ARM, (0,)), _BLOCK), 0.70),
    "gapped cross": (_template(_BLOCK, *(_CORNERS * sign for sign in ((1, 1), (1, -1), (-1, 1), (-1, -1)))), 0.605),
    "four dots": (_template(*(_BLOCK + offset for offset in ((-4, 0), (4, 0), (0, -4), (0, 4)))), 0.64),
}


def find_marks(grey: np.ndarray) -> List[Mark]:
    """
    Args:
        grey: (H, W) uint8, at the resolution of the scanner: marks are about 11 pixels wide.

    Returns:
        the marks, the surest first; no two of them overlap.
    """
    padded = cv2.copyMakeBorder(grey, *[RADIUS] * 4, cv2.BORDER_REPLICATE).astype(np.float32)
    arms = cv2.dilate(_weakest_arm(padded), np.ones((5, 5)))[RADIUS:-RADIUS, RADIUS:-RADIUS]
    found = []
    for shape, (template, lowest) in _TEMPLATES.items():
        scores = cv2.matchTemplate(padded, template, cv2.TM_CCOEFF_NORMED)
        scores[~np.isfinite(scores)] = 0  # where all is of one grey
        likely = scores >= lowest
        if "plus" in shape:
            likely |= (scores >= LOWEST_WITH_ARMS) & (arms >= SMALLEST_ARM)
        peaks = likely & (scores == cv2.dilate(scores, np.ones((5, 5))))
        for y, x in zip(*np.nonzero(peaks)):
            window = padded[y : y + 2 * RADIUS + 1, x : x + 2 * RADIUS + 1]
            if window[template > 0.5].mean() - window[template < 0.1].mean() >= SMALLEST_CONTRAST:
                found.append(Mark(int(x), int(y), shape, float(scores[y, x])))
    kept: List[Mark] = []
    for mark in sorted(found, key=lambda x: -x.score):
        if all(max(abs(mark.x - x.x), abs(mark.y - x.y)) > RADIUS for x in kept):
            kept.append(mark)
    return kept


def _weakest_arm(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 of the same: by how much the weakest arm of an upright cross at each pixel, of lines that are one or two
    pixels wide, is brighter than what is three pixels beside it; 0 where its quadrants are as bright as its centre."""

    def moved(values: np.ndarray, down: int, right: int) -> np.ndarray:
        return np.roll(values, (-down, -right), (0, 1))

    weakest = np.zeros_like(image)
    for width in (1, 2):
        upright = cv2.blur(image, (width, 1), anchor=(0, 0)) - (moved(image, 0, -3) + moved(image, 0, 2 + width)) / 2
        level = cv2.blur(image, (1, width), anchor=(0, 0)) - (moved(image, -3, 0) + moved(image, 2 + width, 0)) / 2
        steps, beyond = (2, 3, 4), width - 1
        arms = [
            sum(moved(upright, -k, 0) for k in steps),
            sum(moved(upright, k + beyond, 0) for k in steps),
            sum(moved(level, 0, -k) for k in steps),
            sum(moved(level, 0, k + beyond) for k in steps),
        ]
        weakest = np.maximum(weakest, np.min(arms, axis=0) / len(steps))
    mean = cv2.blur(image, (3, 3))
    quadrants = np.sort([moved(mean, down, right) for down in (-3, 4) for right in (-3, 4)], axis=0)
    # one of them may hold a number
    return np.where(cv2.blur(image, (2, 2), anchor=(0, 0)) - quadrants[2] > SMALLEST_CONTRAST, weakest, 0).astype(np.float32)


def paint_over(pixels: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 with what is around the marks continued into them (Telea, Journal of Graphics Tools 2004)."""
    mask = np.zeros(pixels.shape[:2], np.uint8)
    for mark in marks:
        template = np.uint8(cv2.dilate(_TEMPLATES[mark.shape][0], np.ones((3, 3))) > 0.2)
        y, x = mark.y - RADIUS, mark.x - RADIUS
        rows, columns = slice(max(y, 0), y + 2 * RADIUS + 1), slice(max(x, 0), x + 2 * RADIUS + 1)
        part = mask[rows, columns]
        top, left = max(-y, 0), max(-x, 0)
        part |= template[top : top + part.shape[0], left : left + part.shape[1]]
    return cv2.inpaint(pixels, mask, 3, cv2.INPAINT_TELEA)


class _Found(NamedTuple):
    image: Mapping[str, Any]
    marks: List[Mark]
    boxes: List[List[float]]


def _table(found: Sequence[_Found]) -> str:
    """Images, share with marks, and IoU of the box around three marks or more with the ROI, for each class and all."""
    rows = []
    for name, ids in [*((x["name"], {x["id"]}) for x in CATEGORIES), ("all", {x["id"] for x in CATEGORIES})]:
        of_class = [x for x in found if x.image["category_id"] in ids]
        marked = [x for x in of_class if x.marks]
        ious = [_iou_of_marks(x) for x in marked if len(x.marks) > 2 and x.boxes]
        rows.append(
            [
                name,
                len(of_class),
                len(marked),
                100 * len(marked) / max(len(of_class), 1),
                sum(map(len, (x.marks for x in marked))) / max(len(marked), 1),
                len(ious),
                np.mean(ious) if ious else float("nan"),
            ]
        )
    headers = ["", "images", "with marks", "share (%)", "marks in each", "ROI from 3 marks or more: images", "mean IoU"]
    return tabulate(rows, headers=headers, floatfmt=".2f")


def _iou_of_marks(found: _Found) -> float:
    x, y = [mark.x for mark in found.marks], [mark.y for mark in found.marks]
    box = [min(x), min(y), max(max(x) - min(x), 1), max(max(y) - min(y), 1)]
    return max(iou(box, roi) for roi in found.boxes)


def read_data_set(root: str) -> List[Dict[str, Any]]:
    """
    The content of annotation files that hold all images: `all.json`, or else those of the first fold that is there.

    Raises:
        InputError: there are none.
    """
    folder = os.path.join(root, "annotations")
    names = sorted(x for x in os.listdir(folder) if x.endswith(".json")) if os.path.isdir(folder) else []
    if not names:
        raise InputError(f"{folder} holds no annotation files; datasets/prepare.py writes them.")
    fold = names[0].rpartition("_")[0]
    chosen = ["all.json"] if "all.json" in names else [x for x in names if x.rpartition("_")[0] == fold]
    return [read_valid_bbui(os.path.join(folder, name)) for name in chosen]


def copy_data_set(root: str, target: str, found: Sequence[_Found]) -> None:
    """Writes images and annotations to `target`, with the marks painted over; images without marks are the same bytes."""
    outside = [name for name in (x.image["file_name"] for x in found) if os.path.normpath(name).startswith(("/", ".."))]
    if outside:
        raise InputError(f"{root}: images that lie elsewhere are not copied: {', '.join(outside[:3])}")
    unwritable = [x.image["file_name"] for x in found if x.marks and not cv2.haveImageWriter(x.image["file_name"])]
    if unwritable:
        raise InputError(f"{root}: images whose format, by the suffix, cannot be written: {', '.join(unwritable[:3])}")
    for x in tqdm(found, "Writing", unit="image", disable=None):
        source, path = os.path.join(root, x.image["file_name"]), os.path.join(target, x.image["file_name"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not x.marks:
            shutil.copyfile(source, path)
            continue
        pixels = paint_over(decode_image(source).pixels, x.marks)
        _, content = cv2.imencode(os.path.splitext(path)[1], cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        write_bytes(path, content.tobytes())
    shutil.copytree(os.path.join(root, "annotations"), os.path.join(target, "annotations"), dirs_exist_ok=True)


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of a prepared data set")
    parser.add_argument("--list", metavar="FILE", help="write the names of the images with marks here, one on each line")
    parser.add_argument("--copy", metavar="FOLDER", help="write the data set here, with the marks painted over")
    args = parser.parse_args(argv)
    if args.copy and os.path.lexists(args.copy) and (not os.path.isdir(args.copy) or os.listdir(args.copy)):
        parser.error(
            f"--copy {args.copy} must be a new or empty folder: no image is changed, also none that a link leads to"
        )
    contents = read_data_set(args.root)
    boxes: Dict[int, List[List[float]]] = {}
    for annotation in (x for content in contents for x in content["annotations"]):
        boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    images = [image for content in contents for image in content["images"]]

    def look(image: Mapping[str, Any]) -> _Found:
        pixels = decode_image(os.path.join(args.root, image["file_name"])).pixels
        return _Found(image, find_marks(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)), boxes.get(image["id"], []))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = list(tqdm(pool.map(look, images), "Looking for marks", len(images), unit="image", disable=None))
    print(_table(found))
    if args.list:
        write_text(args.list, "".join(f"{x.image['file_name']}\n" for x in found if x.marks))
    if args.copy:
        copy_data_set(args.root, args.copy, found)
        print(f"Written to {args.copy}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
