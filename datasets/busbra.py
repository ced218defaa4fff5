"""
BUS-BRA, from its official tables.

Gómez-Flores, Gregorio-Calas, Coelho de Albuquerque Pereira: "BUS-BRA: A Breast Ultrasound Dataset for
Assessing Computer-aided Diagnosis Systems", Medical Physics, 2023.
"""

import json
import os
from typing import Any, Dict, List, Sequence, Tuple

from csv_table import Row, read_csv
from mask_folders import mask_to_box, read_mask
from source_image import SourceImage
from tqdm import tqdm

from tsdd_d2.data import BBUIError, read_image_sizes

__all__ = ["INFO", "official_test_folds", "read_images"]

INFO = {"description": "BUS-BRA", "url": "https://doi.org/10.5281/zenodo.8231412"}


def read_images(root: str, boxes: str) -> Tuple[List[SourceImage], List[str]]:
    """
    All images of `bus_data.csv`, in the order of the table.

    Args:
        boxes: "masks" for the boxes of the masks, or "published" for the column BBOX.

    Returns:
        the images and the problems of all rows.
    """
    rows = read_table(root, "bus_data.csv", ["ID", "Case", "Pathology", "Width", "Height", "BBOX"])
    check_sizes(rows, read_image_sizes(root, [f"Images/{row['ID']}.png" for row in rows]))
    if boxes == "masks" and not os.path.isdir(os.path.join(root, "Masks")):
        raise BBUIError(f"{root} has no folder Masks; --boxes published takes the boxes of bus_data.csv instead.")
    images, problems = [], []
    for row in tqdm(rows, "Reading masks", unit="image", disable=None):
        where = f"line {row.line} ({row['ID']})"
        image = SourceImage(f"Images/{row['ID']}.png", where, class_name=row["Pathology"], patient=row["Case"])
        images.append(image)
        try:
            published = [float(value) for value in json.loads(row["BBOX"])]
            mask_path = os.path.join(root, "Masks", f"{row['ID'].replace('bus_', 'mask_')}.png")
            mask = None
            if boxes == "masks" or os.path.isfile(mask_path):
                mask = mask_to_box(read_mask(mask_path, os.path.join(root, image.file_name)))
        except BBUIError as error:
            problems.append(f"{where}: {error}")
        except (TypeError, ValueError) as error:
            problems.append(f"{where}: BBOX: {type(error).__name__}: {error}")
        else:
            if boxes == "masks" and mask is None:
                print(f"Warning: {mask_path} marks no pixel; its image is partially annotated.")
                continue
            mask = mask and [float(value) for value in mask]
            image.boxes, image.labels = [mask if boxes == "masks" else published], [""]
            image.mask_boxes = [mask]
    return images, problems


def read_table(root: str, name: str, columns: Sequence[str]) -> List[Row]:
    """
    The rows of an official table.

    Raises:
        BBUIError: see :func:`csv_table.read_csv`; a row is cut off.
    """
    path = os.path.join(root, name)
    _, rows = read_csv(path, columns)
    cut_off = [
        f"line {row.line}: nothing in {', '.join(column for column in columns if row[column] is None)}"
        for row in rows
        if None in (row[column] for column in columns)
    ]
    if cut_off:
        raise BBUIError(f"{path} has rows that are cut off; take the official table:", cut_off)
    return rows


def check_sizes(rows: Sequence[Row], sizes: Sequence[Tuple[int, int]]) -> None:
    """
    Refuse a resized copy of the data set, whose boxes would be wrong.

    The size in the file is the image's, not the table's: a few published images are lower than the table
    says, cut off at the bottom; their boxes are right, as the masks show.
    """
    differing = [
        f"{row['ID']} has {width}x{height} pixels, the table says {row['Width']}x{row['Height']}"
        for row, (height, width) in zip(rows, sizes)
        if (row["Width"], row["Height"]) != (str(width), str(height))
    ]
    if len(differing) > len(rows) / 10:
        raise BBUIError(
            "The images are not those of bus_data.csv, whose boxes are in pixels of the original. "
            "Take the published images, not a resized copy:",
            differing,
        )
    for line in differing:
        print(f"Note: {line}. The image's size is taken.")


def official_test_folds(root: str, bbui: Dict[str, Any]) -> Dict[str, int]:
    """
    Patient id -> official test fold (column kFold).

    The official validation columns (valid_1 ... valid_5) are drawn over images, not over patients: of fold 1,
    for example, most patients with a validation image have a training image too. The test folds are
    patient-disjoint. So only these are taken, and the validation patients are drawn here, from those that the
    fold does not test.
    """
    fold_of_image = {row["ID"]: row["kFold"] for row in read_table(root, "5-fold-cv.csv", ["ID", "kFold"])}
    test_folds: Dict[str, int] = {}
    problems = []
    for image in bbui["images"]:
        name = os.path.splitext(os.path.basename(image["file_name"]))[0]
        fold = fold_of_image.get(name, "")
        if not fold.isdecimal():
            problems.append(f"image {name}: no fold in the column kFold, found {fold!r}")
        elif test_folds.setdefault(image["patient_id"], int(fold)) != int(fold):
            problems.append(f"patient {image['patient_id']}: images in fold {fold} and in another")
    if problems:
        raise BBUIError(f"{root}/5-fold-cv.csv cannot be used; take --folds 5, or the official table:", problems)
    return test_folds
