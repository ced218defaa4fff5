"""Masks: files that are not 0 on a lesion, and the folders they lie in."""

import os
import re
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image
from source_image import SourceImage, listed
from tqdm import tqdm

from tsdd_d2.data.decoding import decode_image, transparencies
from tsdd_d2.data.files import walk
from tsdd_d2.errors import BBUIError

__all__ = ["list_images", "mask_to_box", "pair", "read_images", "read_mask", "read_masks", "refuse_orphans", "stem"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_MASK_SUFFIX = re.compile(r"_(?:mask|seg|segmentation)(_\d+)?$", re.IGNORECASE)


def read_images(root: str, images: str, masks: str) -> Tuple[List[SourceImage], List[str]]:
    """
    The images below `<root>/<images>` with one ROI for each mask that is not empty. A mask is named as its image is, or
    <image>_mask, <image>_mask_1, ..., in the same folder or in the same place below `<root>/<masks>`.

    Returns:
        list[SourceImage], and the problems of all masks.
    """
    found, problems, orphans = [], [], []
    image_root, mask_root = (os.path.normpath(os.path.join(root, x)) for x in (images, masks))
    beside = image_root == mask_root
    unused = {x: list_images(x) for x, _ in walk(mask_root) if beside or not _is_within(x, image_root, mask_root)}
    for folder, _ in walk(image_root):
        if not beside and _is_within(folder, mask_root, image_root):
            continue
        place = os.path.normpath(os.path.join(mask_root, os.path.relpath(folder, image_root)))
        unused.pop(place, None)
        pairs, without = pair(list_images(folder), list_images(place))
        found, orphans = found + pairs, orphans + without
    if not any(masks_of for _, masks_of in found):
        raise BBUIError(f"{mask_root} holds no mask of an image below {image_root}: name them by --images and --masks.")
    refuse_orphans(orphans + [path for paths in unused.values() for path in paths])
    return read_masks(root, found, problems), problems


def _is_within(folder: str, inner: str, outer: str) -> bool:
    """Whether `folder` belongs to `inner`, the folder of the other kind of files, where that lies in `outer`."""
    return f"{inner}/".startswith(f"{outer}/") and f"{folder}/".startswith(f"{inner}/")


def pair(images: Sequence[str], masks: Sequence[str]) -> Tuple[List[Tuple[str, List[str]]], List[str]]:
    """Each image with its masks, and the masks without image; files with the suffix of a mask are no images."""
    if list(images) == list(masks):
        masks = [path for path in images if _MASK_SUFFIX.search(stem(path))]
        images = [path for path in images if path not in masks]
    masks_of: Dict[str, List[str]] = {stem(path): [] for path in images}
    orphans: List[str] = []
    for path in masks:
        name = stem(path)
        masks_of.get(name if name in masks_of else _MASK_SUFFIX.sub("", name), orphans).append(path)
    return [(path, masks_of[stem(path)]) for path in images], orphans


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
