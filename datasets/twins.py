"""
Near-duplicates: files that show one scene, brighter, cropped, mirrored or compressed again.

Two images are compared as grey thumbnails without their coarse brightness, which is much alike in all of ultrasound. For
each image the most similar others, to the whole or a part of it, are aligned with it, and the correlation after that decides.
Measured on the 1,492 images of BUS-BRA's folds 1 to 4: of 5,374 pairs of different patients that were aligned none but the two
of patients 56 and 91 reached more than 0.85. Of 60 copies each, compressed anew, all were found with 5% cut off at each side,
58 with 8%, 53 with 10%; 52 and 59 with 10% off the top or the bottom, 6 and 29 with 20%.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from tsdd_d2.data.categories import CLASS_NAMES, CONTIGUOUS_IDS
from tsdd_d2.data.decoding import decode_image

__all__ = ["Twins", "apply", "find_twins", "report", "thumbnail"]

THUMBNAIL = 48  # pixels
COARSE = 8  # standard deviation in pixels of a thumbnail of what counts as coarse brightness
# Fractions of height and width at the (top, bottom, left, right) that an image is compared without, to find crops of it. None
# at the left or right alone: layers are much alike along the width.
CUTS = ((0, 0, 0, 0), (0.05, 0.05, 0.05, 0.05), (0.1, 0.1, 0.1, 0.1), (0.1, 0, 0, 0), (0, 0.1, 0, 0))
COMPARED = 24  # pixels of what is compared before the alignment
NEIGHBOURS = 2  # that are aligned with an image, and as many of other patients or classes
LOWEST_BEFORE = 0.35  # correlation of those
LOWEST_AFTER = 0.9  # correlation of twins, once they are aligned
ITERATIONS = 10  # of the alignment
BLOCK = 512  # images whose correlations with all others are in memory at a time


class Twins(NamedTuple):
    """
    Two images of a BBUI file that show one scene.

    Attributes:
        first, second: their `images[]` entries.
        correlation: of the aligned thumbnails.
        mirrored: whether one is the other's mirror image.
    """

    first: Dict[str, Any]
    second: Dict[str, Any]
    correlation: float
    mirrored: bool

    @property
    def is_contradictory(self) -> bool:
        return self.first["category_id"] != self.second["category_id"]

    @property
    def is_of_one_patient(self) -> bool:
        return self.first["patient_id"] == self.second["patient_id"]


def find_twins(images: Sequence[Dict[str, Any]], root: str) -> List[Twins]:
    """
    All pairs that are found, contradictory ones first, then those of two patients, then the most similar.

    Memory grows with the number of images, not with its square.

    Args:
        images: `images[]` of a BBUI file, whose files can be decoded.
    """
    # Threads are enough: the decoders, numpy and OpenCV release the GIL.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        paths = [os.path.join(root, image["file_name"]) for image in images]
        progress = tqdm(pool.map(_read_thumbnail, paths), "Looking for twins", len(paths), unit="image", disable=None)
        read = list(progress)
        thumbnails, parts = map(np.stack, zip(*read))
        kinds = [(image["patient_id"], image["category_id"]) for image in images]
        candidates = sorted({x for mirrored in (False, True) for x in _nearest(parts, kinds, mirrored)})
        correlations = pool.map(lambda x: _aligned_correlation(thumbnails, *x), candidates)
        found = [
            Twins(images[i], images[j], correlation, mirrored)
            for (i, j, mirrored), correlation in zip(candidates, correlations)
            if correlation >= LOWEST_AFTER
        ]
    return sorted(found, key=lambda x: (not x.is_contradictory, x.is_of_one_patient, -x.correlation))


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """(48, 48) float32 of an image (H, W), without coarse brightness, of mean 0 and norm 1; zeros of an image of one grey."""
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), COARSE)
    fine -= fine.mean()
    norm = float(np.linalg.norm(fine))
    return fine / norm if norm > 1 else np.zeros_like(fine)


def _read_thumbnail(path: str) -> Tuple[np.ndarray, np.ndarray]:
    """(48, 48) thumbnail, and (len(CUTS), 24, 24) smaller ones of what each cut leaves, of norm 1."""
    grey = cv2.cvtColor(decode_image(path).pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    thumbnails = []
    for cut in CUTS:
        top, bottom, left, right = (round(x * side) for x, side in zip(cut, (height, height, width, width)))
        thumbnails.append(thumbnail(grey[top : height - bottom, left : width - right]))
    small = [cv2.resize(x, (COMPARED, COMPARED), interpolation=cv2.INTER_AREA) for x in thumbnails]
    return thumbnails[0], np.stack([x / max(float(np.linalg.norm(x)), 1e-6) for x in small])


def _nearest(parts: np.ndarray, kinds: Sequence[tuple], mirrored: bool) -> Iterable[tuple]:
    """(i, j, mirrored) with i < j, where one, or a part of it, is among the most similar to the other: of all, and of those of
    another patient or class, which the frames of one clip would crowd out.

    Args:
        parts: (N, len(CUTS), 24, 24) of :func:`_read_thumbnail`.
    """
    flat = parts.reshape(*parts.shape[:2], -1)
    others = (parts[:, 0, :, ::-1] if mirrored else parts[:, 0]).reshape(len(parts), -1)
    kind = np.unique(np.array([repr(x) for x in kinds]), return_inverse=True)[1]
    number = min(NEIGHBOURS, len(flat) - 1)
    if number < 1:
        return
    for start in range(0, len(flat), BLOCK):
        correlations = np.max([x @ others.T for x in flat[start : start + BLOCK].transpose(1, 0, 2)], axis=0)
        rows = np.arange(len(correlations))
        correlations[rows, start + rows] = -1
        for _ in range(2):
            best = np.argpartition(correlations, -number, axis=1)[:, -number:]
            for i, j in zip(*np.nonzero(correlations[rows[:, None], best] >= LOWEST_BEFORE)):
                a, b = start + int(i), int(best[i, j])
                yield min(a, b), max(a, b), mirrored
            correlations[kind[start + rows][:, None] == kind] = -1


def _aligned_correlation(thumbnails: np.ndarray, i: int, j: int, mirrored: bool) -> float:
    """Correlation where both show something, after the affine transform of Evangelidis and Psarakis, PAMI 2008."""
    first, second = thumbnails[i], thumbnails[j][:, ::-1] if mirrored else thumbnails[j]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 1e-3)
    start = np.eye(2, 3, dtype=np.float32)
    try:
        correlation, _ = cv2.findTransformECC(
            first, np.ascontiguousarray(second), start, cv2.MOTION_AFFINE, criteria, None, 3
        )
    except cv2.error:  # it does not converge
        return -1.0
    return float(correlation)


def apply(bbui: Mapping[str, Any], twins: Sequence[Twins], how: str) -> Dict[str, Any]:
    """
    Args:
        bbui: content of a BBUI file, which is not changed.
        how: "report" changes nothing; "group" makes the patients of twins one, so that no fold separates them; "drop" keeps
            one image of each set of twins, one with a ROI where there is one, and none where their classes contradict.
    """
    if how == "report" or not twins:
        return dict(bbui)
    if how == "group":
        sets = _sets((x.first["patient_id"], x.second["patient_id"]) for x in twins)
        one = {patient: min(members) for members in sets for patient in members}
        images = [{**x, "patient_id": one.get(x["patient_id"], x["patient_id"])} for x in bbui["images"]]
        print(f"{len(one)} patients with twins are {len(sets)} now.")
        return {**bbui, "images": images}
    with_roi = {annotation["image_id"] for annotation in bbui["annotations"]}
    class_of = {image["id"]: image["category_id"] for image in bbui["images"]}
    dropped = set()
    for members in _sets((x.first["id"], x.second["id"]) for x in twins):
        kept = min(members, key=lambda x: (x not in with_roi, x))
        contradict = len({class_of[x] for x in members}) > 1
        dropped |= members if contradict else members - {kept}
    print(f"{len(dropped)} images are left out as twins.")
    return {
        **bbui,
        "images": [image for image in bbui["images"] if image["id"] not in dropped],
        "annotations": [annotation for annotation in bbui["annotations"] if annotation["image_id"] not in dropped],
    }


def _sets(pairs: Iterable[tuple]) -> List[set]:
    """The members of pairs that hang together."""
    set_of: Dict[Any, set] = {}
    for a, b in pairs:
        joined = set_of.get(a, {a}) | set_of.get(b, {b})
        for member in joined:
            set_of[member] = joined
    return list({id(members): members for members in set_of.values()}.values())


def report(twins: Sequence[Twins], splits: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """
    A line for each pair of different patients or classes, with the sets that it lies in where a fold, or all, separates it.

    Args:
        splits: name, such as "fold1_train", -> content of its BBUI file.
    """
    if not twins:
        return ["Twins: none found."]
    sets_of: Dict[int, Dict[str, str]] = {}
    for name, content in splits.items():
        fold, split = name.rsplit("_", 1)
        for image in content["images"]:
            sets_of.setdefault(image["id"], {})[fold] = split
    shown = [x for x in twins if x.is_contradictory or not x.is_of_one_patient]
    contradictory = sum(x.is_contradictory for x in twins)
    lines = [
        f"Twins: {len(twins)} pairs, {contradictory} of them with contradictory classes, "
        f"{len(twins) - len(shown)} of one patient and class, which are not listed."
    ]
    for x in shown:
        first, second = (sets_of.get(image["id"], {}) for image in (x.first, x.second))
        apart = [f"{fold}: {first[fold]}/{second[fold]}" for fold in first if first[fold] != second.get(fold, first[fold])]
        lines.append(
            f"  {_described(x.first)} = {_described(x.second)}, {x.correlation:.2f}"
            + ", mirrored" * x.mirrored
            + f"; apart in {', '.join(apart)}" * bool(apart)
        )
    return lines


def _described(image: Mapping[str, Any]) -> str:
    return f"{image['file_name']} ({CLASS_NAMES[CONTIGUOUS_IDS[image['category_id']]]}, patient {image['patient_id']})"
