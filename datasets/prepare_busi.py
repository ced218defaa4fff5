"""
Write the BBUI annotation of BUSI, one file for each split, with the boxes of the lesion masks. No image is
changed.

Al-Dhabyani, Gomaa, Khaled, Fahmy: "Dataset of breast ultrasound images", Data in Brief 28, 2020.
"""

import collections
import os
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from tqdm import tqdm

from detectron2.data.detection_utils import read_image
from tsdd_d2.data import (
    CATEGORIES,
    BBUIError,
    assign_folds,
    dataset_folder,
    patient_classes,
    read_image_sizes,
)
from tsdd_d2.data.prepare import (
    add_annotation_options,
    preparation_parser,
    print_warnings,
    write_and_count_splits,
)
from tsdd_d2.data.roi import manual_annotation
from tsdd_d2.errors import reports_errors

EXAMPLES = """
expected layout, as published:
  <root>/Dataset_BUSI_with_GT/{benign,malignant,normal}/
      benign (1).png, benign (1)_mask.png, benign (1)_mask_1.png (a second lesion), ...
or with images/ and mask/ (or masks/) below each class. The class folders may also be in <root> itself.

examples:
  python datasets/prepare_busi.py
  python datasets/prepare_busi.py --root ~/data/Dataset_BUSI_with_GT --seed 1
  python datasets/prepare_busi.py --output ~/annotations     # if the folder of the data set is read-only
"""

# A normal image shows no malignancy, so it is negative in the diagnosis, as a benign one is.
CLASS_ID = {"benign": 1, "malignant": 2, "normal": 1}

_MASK_SUFFIX = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)


def find_images(folder: str) -> Dict[str, List[str]]:
    """
    Returns:
        image path -> paths of its masks, for one class folder in either layout, in natural order.

    Raises:
        BBUIError: there is no image, a mask has none, or there are masks in more than one place.
    """
    image_folder, mask_folders = os.path.join(folder, "images"), ("mask", "masks")
    if not os.path.isdir(image_folder):
        image_folder, mask_folders = folder, ()
    beside = [path for path in list_pngs(image_folder) if _MASK_SUFFIX.search(stem(path))]
    places = [beside, *(list_pngs(os.path.join(folder, name)) for name in mask_folders)]
    places = [place for place in places if place]
    if len(places) > 1:
        found = ", ".join(os.path.dirname(place[0]) for place in places)
        raise BBUIError(f"The masks of a class must be in one folder, found some in {found}.")
    masks = places[0] if places else []
    images = [path for path in list_pngs(image_folder) if path not in masks]
    if not images:
        raise BBUIError(f"{image_folder} holds no PNG images.")
    masks_of = {stem(path): [] for path in images}
    orphans = []
    for path in masks:
        # Below mask/, a mask may be named as its image is.
        masks_of.get(_MASK_SUFFIX.sub("", stem(path)), orphans).append(path)
    if orphans:
        raise BBUIError("The images of these masks are missing:", orphans)
    return {path: masks_of[stem(path)] for path in images}


def list_pngs(folder: str) -> List[str]:
    """The PNG files of a folder, "benign (2).png" before "benign (10).png"; none if there is no folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    # macOS writes "._benign (2).png", which is no image, beside each file of an archive.
    names = [name for name in names if name.lower().endswith(".png") and not name.startswith(".")]
    return [os.path.join(folder, name) for name in sorted(names, key=natural_key)]


def natural_key(name: str) -> List[Tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


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


def build_bbui(root: str, include_normal: bool = False) -> Dict[str, Any]:
    """
    The BBUI content of all images: one ROI for each mask file that is not empty.

    Every image is its own patient, `patient_id` being the file name, after that of the class folder if another one
    has an image of this name. A normal image is benign, without ROI, and its entry has `"normal": true`.
    """
    published = os.path.join(root, "Dataset_BUSI_with_GT")
    class_root = published if os.path.isdir(published) else root
    class_names = ["benign", "malignant"] + ["normal"] * include_normal
    missing = [name for name in class_names if not os.path.isdir(os.path.join(class_root, name))]
    if missing:
        raise BBUIError(f"{class_root} has no folder {', '.join(missing)}. --root must name the folder of BUSI.")

    entries = [
        (name, path, masks) for name in class_names for path, masks in find_images(os.path.join(class_root, name)).items()
    ]
    without = [
        os.path.join(class_root, name)
        for name in ("benign", "malignant")
        if not any(masks for entry_name, _, masks in entries if entry_name == name)
    ]
    if without:
        raise BBUIError(
            "A class has images but not one mask. Masks are <image>_mask.png beside the images, or in mask/ or masks/ "
            "beside images/:",
            without,
        )
    images_of_stem = collections.Counter(stem(path) for _, path, _ in entries)
    paths = [os.path.relpath(path, root).replace(os.sep, "/") for _, path, _ in entries]
    sizes = read_image_sizes(root, paths)

    images, annotations, problems = [], [], []
    # Shown on a terminal only.
    progress = tqdm(zip(entries, paths, sizes), "Reading masks", len(entries), unit="image", disable=None)
    for (class_name, path, masks), file_name, (height, width) in progress:
        image = {
            "id": len(images) + 1,
            "file_name": file_name,
            "height": height,
            "width": width,
            "patient_id": stem(path) if images_of_stem[stem(path)] == 1 else f"{class_name}/{stem(path)}",
            "category_id": CLASS_ID[class_name],
        }
        images.append(image)
        if class_name == "normal":  # its mask is empty, if it has one
            image["normal"] = True
            continue
        if not masks:
            print(f"Warning: {file_name} has no mask, so it is partially annotated.")
        for mask_path in masks:
            try:
                mask = read_image(mask_path, format="L")[:, :, 0]
            except Exception as error:  # a decoder may raise anything on a damaged file
                problems.append(f"{mask_path} cannot be decoded: {type(error).__name__}: {error}")
                continue
            if mask.shape != (height, width):
                problems.append(f"{mask_path} has {mask.shape[1]}x{mask.shape[0]} pixels, its image {width}x{height}")
                continue
            box = mask_to_box(mask)
            if box is None:
                print(f"Warning: {mask_path} marks no pixel and is ignored.")
                continue
            bbox = [float(value) for value in box]
            annotations.append(manual_annotation(len(annotations) + 1, image, bbox))
    if problems:
        raise BBUIError("Masks that cannot be used; take the published files:", problems)
    return {
        "info": {"description": "BUSI", "url": "https://doi.org/10.1016/j.dib.2019.104863"},
        "categories": CATEGORIES,
        "images": images,
        "annotations": annotations,
    }


def prepare(root: str, output: str, seed: int, include_normal: bool) -> None:
    """
    Write `<output>/fold{k}_{train,val,test}.json` and print the counts.

    Raises:
        BBUIError: the data set cannot be used as it is. Nothing is written then.
    """
    bbui = build_bbui(root, include_normal)
    print_warnings(bbui, root)
    write_and_count_splits(bbui, output, assign_folds(patient_classes(bbui), seed=seed), seed=seed)
    print(
        "BUSI names no patients: every image counts as a patient of its own. Images of one patient can be "
        "on both sides of a split, so results on BUSI are optimistic."
    )
    if include_normal:
        number = sum("normal" in image for image in bbui["images"])
        print(
            f"{number} normal images are labelled benign and have no ROI. Stage 1 gives a ROI to every image "
            "without one, to these too, which show no lesion."
        )
    print(f"Written to {output}: random folds, seed {seed}.")


@reports_errors
def main(argv=None) -> int:
    parser = preparation_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--root",
        type=os.path.expanduser,
        default=dataset_folder("busi"),
        help="folder of BUSI (default: $DETECTRON2_DATASETS/busi)",
    )
    add_annotation_options(parser)
    parser.add_argument(
        "--include-normal",
        action="store_true",
        help="take the normal images too, as benign images without ROI: for the evaluation of the diagnosis",
    )
    args = parser.parse_args(argv)
    output = args.output or os.path.join(args.root, "annotations")
    prepare(args.root, output, args.seed, args.include_normal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
