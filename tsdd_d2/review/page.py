"""The page on which a sonologist reviews what the rounds changed: one HTML file with everything in it."""

import base64
import hashlib
import io
import json
import os
from typing import Dict, Iterable, List, NamedTuple, Sequence

from PIL import Image
from tqdm import tqdm

from ..data import CLASS_NAMES
from ..data.files import write_text
from ..data.roi import REFINED
from ..errors import InputError
from ..inference.input_images import read_pixels
from ..refinement import veto
from ..templates import environment
from .changes import ChangedROI, changed_rois

# An image takes 4/3 of this in the page, as base64: 1,000 images stay below 40 MB.
MAX_THUMBNAIL_BYTES = 28_000
THUMBNAIL_SIDE = 480
JPEG_QUALITIES = (85, 75, 60, 45, 30, 15)


class ReviewCounts(NamedTuple):
    """What a page holds: ROIs by their source, and its size in bytes."""

    refined: int
    pseudo: int
    size: int


def write_review_page(path: str, rounds: Sequence[Dict], data_set: str, image_root: str) -> ReviewCounts:
    """
    Writes the page of all changed ROIs, completely or not at all.

    Args:
        path: of the HTML file.
        rounds: the annotation of every round of a run, from round 0 on.
        data_set: the registered name of the training set.
        image_root: the folder that the ``file_name`` entries start from.
    Raises:
        InputError: no ROI was changed, or an image is missing or damaged.
    """
    rois = changed_rois(rounds)
    if not rois:
        raise InputError(
            f"There is nothing to review: after round {len(rounds) - 1} all ROIs of {data_set} are the manual ones."
        )
    progress = tqdm(rois, desc="Thumbnails", unit="ROI", disable=None)
    thumbnails = [thumbnail(os.path.join(image_root, roi.image["file_name"])) for roi in progress]
    earlier = rounds[-1].get("info", {}).get("vetoes", [])
    page = review_page(rois, thumbnails, data_set, run_fingerprint(rounds[-1], data_set), earlier)
    write_text(path, page)
    refined = sum(roi.annotation["roi_source"] == REFINED for roi in rois)
    return ReviewCounts(refined, len(rois) - refined, os.path.getsize(path))


def review_page(
    rois: Sequence[ChangedROI],
    thumbnails: Iterable[bytes],
    data_set: str,
    run: str,
    earlier_vetoes: List[Dict],
) -> str:
    """
    The text of the page.

    Args:
        rois: what to review.
        thumbnails: a JPEG for each of them.
        data_set, run: name of the training set and :func:`run_fingerprint`, which go into the veto file.
        earlier_vetoes: those that the run was given; the veto file will hold them too.
    """
    encoded = [base64.b64encode(jpeg).decode("ascii") for jpeg in thumbnails]
    return (
        environment("tsdd_d2.review")
        .get_template("page.html")
        .render(
            cards=[(roi, jpeg, veto(roi.image, roi.annotation)) for roi, jpeg in zip(rois, encoded, strict=True)],
            patients=sorted({roi.image["patient_id"] for roi in rois}),
            class_names=dict(enumerate(CLASS_NAMES, start=1)),
            data_set=data_set,
            run=run,
            earlier_vetoes=earlier_vetoes,
            any_refined=any(roi.annotation["roi_source"] == REFINED for roi in rois),
        )
    )


def run_fingerprint(bbui: Dict, data_set: str) -> str:
    """16 hexadecimal digits of the ROIs after a run's last round: other ROIs need another review."""
    content = json.dumps([data_set, bbui["images"], bbui["annotations"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def thumbnail(path: str) -> bytes:
    """A JPEG of an image, of at most 480 pixels in each direction and about 28 kB.

    Raises:
        InputError: the image cannot be read.
    """
    image = Image.fromarray(read_pixels(path))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    red, green, blue = image.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        image = red
    for quality in JPEG_QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MAX_THUMBNAIL_BYTES:
            break
    return file.getvalue()
