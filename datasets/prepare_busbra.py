"""
Write the BBUI annotation of BUS-BRA, one file for each split, from the official tables. No image is changed.

Gómez-Flores, Gregorio-Calas, Coelho de Albuquerque Pereira: "BUS-BRA: A Breast Ultrasound Dataset for
Assessing Computer-aided Diagnosis Systems", Medical Physics, 2023.
"""

import json
import os
import sys
from typing import Any, Dict, List, Tuple

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
    read_csv,
    write_and_count_splits,
)
from tsdd_d2.data.roi import manual_annotation
from tsdd_d2.data.validation import box_problems
from tsdd_d2.errors import reports_errors

EXAMPLES = """
expected layout, as published:
  <root>/bus_data.csv, 5-fold-cv.csv, Images/bus_0001-l.png, ...

examples:
  python datasets/prepare_busbra.py
  python datasets/prepare_busbra.py --root ~/data/busbra --folds random --seed 1
  python datasets/prepare_busbra.py --output ~/annotations     # if the data set's folder is read-only
"""


def read_table(path: str, columns: List[str]) -> List[Tuple[int, Dict[str, str]]]:
    """
    The (line, row) of a csv file that must have `columns`.

    Raises:
        BBUIError: the file is missing, is no CSV file in UTF-8, or lacks a column, or a row does.
    """
    if not os.path.isfile(path):
        raise BBUIError(f"{path} does not exist. --root must name the folder of BUS-BRA that holds it.")
    found, rows = read_csv(path)
    missing = [column for column in columns if column not in found]
    if missing:
        raise BBUIError(f"{path} has no column {', '.join(missing)}. It is not the official table.")
    cut_off = [
        f"line {line}: nothing in {', '.join(column for column in columns if row[column] is None)}"
        for line, row in rows
        if None in (row[column] for column in columns)
    ]
    if cut_off:
        raise BBUIError(f"{path} has rows that are cut off; take the official table:", cut_off)
    return rows


def build_bbui(root: str) -> Dict[str, Any]:
    """The BBUI content of all images in `bus_data.csv`, in the order of the table."""
    table = os.path.join(root, "bus_data.csv")
    lines_and_rows = read_table(table, ["ID", "Case", "Pathology", "Width", "Height", "BBOX"])
    rows = [row for _, row in lines_and_rows]
    sizes = read_image_sizes(root, [f"Images/{row['ID']}.png" for row in rows])
    check_sizes(rows, sizes)

    class_ids = {category["name"]: category["id"] for category in CATEGORIES}
    images, annotations, problems = [], [], []
    for number, ((line, row), size) in enumerate(zip(lines_and_rows, sizes), start=1):
        try:
            bbox = [float(value) for value in json.loads(row["BBOX"])]
            image = {
                "id": number,
                "file_name": f"Images/{row['ID']}.png",
                "height": size[0],
                "width": size[1],
                "patient_id": row["Case"],
                "category_id": class_ids[row["Pathology"].strip().lower()],
            }
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"line {line} ({row['ID']}): {type(error).__name__}: {error}")
            continue
        wrong = box_problems("bbox", bbox, image)
        if wrong:
            problems += [f"line {line} ({row['ID']}): {problem}" for problem in wrong]
            continue
        images.append(image)
        annotations.append(manual_annotation(number, image, bbox))
    if problems:
        raise BBUIError(f"{table} cannot be used; compare these rows with the official table:", problems)
    return {
        "info": {"description": "BUS-BRA", "url": "https://doi.org/10.5281/zenodo.8231412"},
        "categories": CATEGORIES,
        "images": images,
        "annotations": annotations,
    }


def check_sizes(rows: List[Dict[str, str]], sizes: List[Tuple[int, int]]) -> None:
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
    table = os.path.join(root, "5-fold-cv.csv")
    fold_of_image = {row["ID"]: row["kFold"] for _, row in read_table(table, ["ID", "kFold"])}
    test_folds, problems = {}, []
    for image in bbui["images"]:
        name = os.path.splitext(os.path.basename(image["file_name"]))[0]
        fold = fold_of_image.get(name, "")
        if not fold.isdecimal():
            problems.append(f"image {name}: no fold in the column kFold, found {fold!r}")
        elif test_folds.setdefault(image["patient_id"], int(fold)) != int(fold):
            problems.append(f"patient {image['patient_id']}: images in fold {fold} and in another")
    if problems:
        raise BBUIError(f"{table} cannot be used; take --folds random, or the official table:", problems)
    return test_folds


def prepare(root: str, output: str, folds: str, seed: int) -> None:
    """
    Write `<output>/fold{k}_{train,val,test}.json` and print the counts.

    Raises:
        BBUIError: the data set cannot be used as it is. Nothing is written then.
    """
    bbui = build_bbui(root)
    print_warnings(bbui, root)
    if folds == "official":
        test_folds = official_test_folds(root, bbui)
    else:
        test_folds = assign_folds(patient_classes(bbui), seed=seed)
    write_and_count_splits(bbui, output, test_folds, seed=seed)
    print(f"Written to {output}: {folds} folds, seed {seed}.")


@reports_errors
def main(argv=None) -> int:
    parser = preparation_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--root",
        type=os.path.expanduser,
        default=dataset_folder("busbra"),
        help="folder of BUS-BRA (default: $DETECTRON2_DATASETS/busbra)",
    )
    add_annotation_options(parser)
    parser.add_argument(
        "--folds",
        choices=("official", "random"),
        default="official",
        help="test folds of 5-fold-cv.csv, or a class-stratified draw over patients (default: official)",
    )
    args = parser.parse_args(argv)
    output = args.output or os.path.join(args.root, "annotations")
    prepare(args.root, output, args.folds, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
