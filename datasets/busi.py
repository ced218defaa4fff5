"""
BUSI, with the boxes of its lesion masks.

Al-Dhabyani, Gomaa, Khaled, Fahmy: "Dataset of breast ultrasound images", Data in Brief 28, 2020.
"""

import collections
import os
from typing import List, Tuple

from mask_folders import list_images, pair, read_masks, refuse_orphans, stem
from source_image import SourceImage

from tsdd_d2.data import BBUIError

__all__ = ["INFO", "read_images"]

INFO = {"description": "BUSI", "url": "https://doi.org/10.1016/j.dib.2019.104863"}


def read_images(root: str, include_normal: bool = False) -> Tuple[List[SourceImage], List[str]]:
    """
    All images, with one ROI for each mask file that is not empty, and the problems of all masks.

    Every image is its own patient, named as its file, after the class folder if another one has an image of this name. A
    normal image is benign (it shows no malignancy), without ROI, and its entry has `"normal": true`.
    """
    published = os.path.join(root, "Dataset_BUSI_with_GT")
    class_root = published if os.path.isdir(published) else root
    class_names = ["benign", "malignant"] + ["normal"] * include_normal
    folders = {name.lower(): os.path.join(class_root, name) for name in sorted(os.listdir(class_root))}
    missing = [name for name in class_names if not os.path.isdir(folders.get(name, ""))]
    if missing:
        raise BBUIError(f"{class_root} has no folder {', '.join(missing)}. --root must name the folder of BUSI.")
    pairs, orphans = {}, []
    for name in class_names:
        pairs[name], without = find_images(folders[name])
        orphans += without
    refuse_orphans(orphans)
    without = [folders[name] for name in ("benign", "malignant") if not any(masks for _, masks in pairs[name])]
    if without:
        raise BBUIError(
            "A class has images but not one mask. Masks are <image>_mask.png beside the images, or in mask/ or masks/ "
            "beside images/:",
            without,
        )
    images_of_stem = collections.Counter(stem(path) for found in pairs.values() for path, _ in found)
    images: List[SourceImage] = []
    problems: List[str] = []
    for name, found in pairs.items():
        if name == "normal":  # its mask is empty, if it has one
            found = [(path, []) for path, _ in found]
        for (path, masks), image in zip(found, read_masks(root, found, problems)):
            image.patient = stem(path) if images_of_stem[stem(path)] == 1 else f"{name}/{stem(path)}"
            image.class_name = "malignant" if name == "malignant" else "benign"
            if name == "normal":
                image.fields = {"normal": True}
            elif not masks:
                print(f"Warning: {image.file_name} has no mask, so it is partially annotated.")
            images.append(image)
    return images, problems


def find_images(folder: str) -> Tuple[List[Tuple[str, List[str]]], List[str]]:
    """
    The images of one class folder in either layout, in natural order, each with its masks; and the masks without image.

    Raises:
        BBUIError: there is no image, or there are masks in more than one place.
    """
    image_folder, mask_folders = os.path.join(folder, "images"), ("mask", "masks")
    if not os.path.isdir(image_folder):
        image_folder, mask_folders = folder, ()
    images = list_images(image_folder)
    places = [images] * any(masks for _, masks in pair(images, images)[0])
    places += [x for x in (list_images(os.path.join(folder, name)) for name in mask_folders) if x]
    if len(places) > 1:
        found = ", ".join(os.path.dirname(place[0]) for place in places)
        raise BBUIError(f"The masks of a class must be in one folder, found some in {found}.")
    pairs, orphans = pair(images, places[0] if places else [])
    if not pairs:
        raise BBUIError(f"{image_folder} holds no images.")
    return pairs, orphans
