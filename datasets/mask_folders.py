"""Masks: files that are not 0 on a lesion, and the folders they lie in."""

import os
import re
from collections import Counter
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image
from source_image import SourceImage
from tqdm import tqdm

from tsdd_d2.data.decoding import decode_image, transparencies
from tsdd_d2.data.files import MASK_SUFFIX, walk
from tsdd_d2.errors import BBUIError, listed

__all__ = ["Names", "list_images", "mask_to_box", "pair", "read_images", "read_mask", "read_masks", "refuse_orphans", "stem"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Names(NamedTuple):
    """
    How images and masks are called: patterns of the whole name without suffix, whose first group an image and its masks
    share. Without them a mask is called as its image, or <image>_mask, <image>_mask_1, ...

    Attributes:
        image: of images; other files, that are no masks either, are left out.
        mask: of masks; beside it files in the folder of masks are left out.
    """

    image: Optional["re.Pattern[str]"] = None
    mask: Optional["re.Pattern[str]"] = None


def read_images(root: str, images: str, masks: str, names: Names = Names()) -> Tuple[List[SourceImage], List[str]]:
    """
    The images below `<root>/<images>` with one ROI for each mask that is not empty, which is in the same folder or in the same
    place below `<root>/<masks>`; or, if there is no `<root>/<images>`, those of all folders called so, with `<masks>` beside.

    Returns:
        list[SourceImage], and the problems of all masks.
    """
    found, problems, orphans, left_out = [], [], [], []
    roots = _roots(root, images, masks)
    if not roots:
        raise BBUIError(f"{root} has no folder {images!r}, and neither has a folder below it: --images names another.")
    for image_root, mask_root in roots:
        beside = image_root == mask_root
        unused = {x: list_images(x) for x, _ in walk(mask_root) if beside or not _is_within(x, image_root, mask_root)}
        for folder, _ in walk(image_root):
            if not beside and _is_within(folder, mask_root, image_root):
                continue
            place = os.path.normpath(os.path.join(mask_root, os.path.relpath(folder, image_root)))
            there = unused.pop(place, [])
            pairs, without = pair(list_images(folder), list_images(place), names)
            found, orphans = found + pairs, orphans + without
            used = {path for path, masks_of in pairs for path in (path, *masks_of)} | set(without)
            left_out += [x for x in dict.fromkeys((*list_images(folder), *there)) if x not in used]
        for path in (path for paths in unused.values() for path in paths):
            (orphans if _shared(names.mask, stem(path)) else left_out).append(path)
    if not any(masks_of for _, masks_of in found):
        raise BBUIError(
            f"{root}: no mask is called as an image of {images}, or as one with _mask. Without masks are "
            f"{_stems([path for path, _ in found])}; without image {_stems(orphans)}; neither {_stems(left_out)}. --images and "
            "--masks name the folders, --image-name and --mask-name the files."
        )
    refuse_orphans(orphans)
    if left_out:
        print(f"{len(left_out)} files are called neither as images nor as masks and are left out: {_stems(left_out)}")
    return read_masks(root, found, problems), problems


def _roots(root: str, images: str, masks: str) -> List[Tuple[str, str]]:
    """The folders of images, each with that of its masks."""
    image_root = os.path.normpath(os.path.join(root, images))
    if os.path.isdir(image_root):
        return [(image_root, os.path.normpath(os.path.join(root, masks)))]
    # masks without images beside them too, which are refused
    parents = {os.path.dirname(folder): None for folder, _ in walk(root) if os.path.basename(folder) in (images, masks)}
    roots = [(os.path.join(parent, images), os.path.join(parent, masks)) for parent in parents]
    outer = [x for x in roots if not any(f"{x[0]}/".startswith(f"{y[0]}/") for y in roots if y is not x)]
    return outer if any(os.path.isdir(image_root) for image_root, _ in outer) else []


def _stems(paths: Sequence[str]) -> str:
    return listed([stem(path) for path in paths]) or "none"


def _is_within(folder: str, inner: str, outer: str) -> bool:
    """Whether `folder` belongs to `inner`, the folder of the other kind of files, where that lies in `outer`."""
    return f"{inner}/".startswith(f"{outer}/") and f"{folder}/".startswith(f"{inner}/")


def pair(
    images: Sequence[str], masks: Sequence[str], names: Names = Names()
) -> Tuple[List[Tuple[str, List[str]]], List[str]]:
    """
    Each image with its masks, and the masks without image; in one folder, files that are called as masks are no images.

    Raises:
        BBUIError: several images in one folder share a mask.
    """
    if list(images) == list(masks):
        is_mask = names.mask.fullmatch if names.mask else MASK_SUFFIX.search
        masks = [path for path in images if is_mask(stem(path))]
        images = [path for path in images if path not in masks]
    shared = {path: _shared(names.image, stem(path)) for path in images}
    masks_of: Dict[str, List[str]] = {name: [] for name in shared.values() if name is not None}
    orphans: List[str] = []
    for path in masks:
        name = _shared(names.mask, stem(path))
        if name is not None:
            known = names.mask or name in masks_of
            masks_of.get(name if known else MASK_SUFFIX.sub("", name), orphans).append(path)
    found = [(path, masks_of[name]) for path, name in shared.items() if name is not None]
    several = [x for x, count in Counter(shared.values()).items() if x is not None and count > 1 and masks_of[x]]
    if several:
        of_first = [path for path, name in shared.items() if name == several[0]]
        raise BBUIError(f"{masks_of[several[0]][0]} may be the mask of {listed(of_first)}: it must be that of one alone.")
    return found, orphans


def _shared(pattern: Optional["re.Pattern[str]"], name: str) -> Optional[str]:
    """What an image and its masks have in common; None of a file that is called as neither."""
    if pattern is None:
        return name
    match = pattern.fullmatch(name)
    return match and match[1]


def refuse_orphans(masks: Sequence[str]) -> None:
    """
    Raises:
        BBUIError: there are masks without image.
    """
    if masks:
        raise BBUIError("The images of these masks are missing; they must lie in the same subfolder:", masks)


def read_masks(root: str, images: Sequence[Tuple[str, Sequence[str]]], problems: List[str]) -> List[SourceImage]:
    """A SourceImage for each image with its masks; what is wrong with a mask is added to the problems."""
    read, parted, empty = [], [], []
    # Shown on a terminal only.
    for path, masks in tqdm(images, "Reading masks", unit="image", disable=None):
        image = SourceImage(os.path.relpath(path, root).replace(os.sep, "/"), os.path.relpath(path, root))
        read.append(image)
        for mask_path in masks:
            try:
                mask = read_mask(mask_path, path)
            except BBUIError as error:
                problems.append(str(error))
                continue
            box = mask_to_box(mask)
            if box is None:
                empty.append(os.path.relpath(mask_path, root))
                continue
            if cv2.connectedComponents(mask.astype(np.uint8))[0] > 2:
                parted.append(os.path.relpath(mask_path, root))
            box = [float(value) for value in box]
            if box in image.boxes:
                print(f"Warning: {mask_path} has the box of another mask of its image and is ignored.")
                continue
            image.boxes.append(box)
            image.labels.append("")
    if empty and not any(image.boxes for image in read):
        problems.append(f"no mask marks a pixel: {listed(empty)}")
    elif empty:
        print(f"Warning: {len(empty)} masks mark no pixel and are ignored: {listed(empty)}")
    if parted:
        print(f"Warning: {len(parted)} masks have several parts, and one box around all of them: {listed(parted)}")
    return read


def read_mask(path: str, image_path: str) -> np.ndarray:
    """
    (H, W) bool: where a mask is not 0.

    Raises:
        BBUIError: it cannot be decoded, is not as large as its image, or does not have the two values 0 and another one.
    """
    pixels = decode_image(path).pixels
    with Image.open(path) as file:
        if len(transparencies(file)) > 1:
            raise BBUIError(f"{path} keeps its mask in the alpha channel; save it as grey values, 0 outside the lesion")
    size = decode_image(image_path).pixels.shape[1::-1]  # upright, as the boxes are
    if pixels.shape[1::-1] != size:
        raise BBUIError(f"{path} has {pixels.shape[1]}x{pixels.shape[0]} pixels, its image {size[0]}x{size[1]}")
    colours = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    values = np.unique(colours)
    if len(values) > 2 or values[0] != 0:
        shown = ", ".join(f"#{value:06x}" for value in values[:4])
        raise BBUIError(f"{path} is no mask: it must be black and one more colour; it has {len(values)}: {shown}")
    return colours != 0


def mask_to_box(mask: np.ndarray) -> Optional[List[int]]:
    """
    Args:
        mask: (H, W), not 0 on the lesion.

    Returns:
        XYWH box in pixels around all that is not 0; None if nothing is. A box of one pixel has width and
        height 1.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def list_images(folder: str) -> List[str]:
    """The image files of a folder, "benign (2).png" before "benign (10).png"; none if there is no folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    # macOS writes "._benign (2).png", which is no image, beside each file of an archive.
    names = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return [os.path.join(folder, name) for name in sorted(names, key=natural_key)]


def natural_key(name: str) -> List[Tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
