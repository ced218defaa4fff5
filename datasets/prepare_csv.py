"""
Write the BBUI annotation of your own images, one file for each split, from a table. No image is changed.

The table is a CSV file with a header line and the columns
  file_name    path of the image, relative to --root
  patient_id   any text; all images of a patient must have the same
  class        benign or malignant
  x,y,w,h      optional: left, top, width and height of the lesion's ROI in pixels
A row without x, y, w and h is an image whose ROI is not known (partially annotated). An image with several
ROIs has several rows.
"""

import csv
import os
from typing import Any, Dict, List, Optional

from tsdd_d2.data import CATEGORIES, BBUIError, assign_folds, patient_classes, read_image_sizes
from tsdd_d2.data.prepare import (
    add_annotation_options,
    exit_on_input_error,
    preparation_parser,
    print_warnings,
    write_and_count_splits,
)
from tsdd_d2.data.roi import manual_annotation

EXAMPLES = """
example of a table:
  file_name,patient_id,class,x,y,w,h
  scans/0001.png,A17,benign,91,24,103,79
  scans/0002.png,A17,benign,,,,
  scans/0003.png,B02,malignant,40,55,120,98

examples:
  python datasets/prepare_csv.py --root datasets/clinic --csv datasets/clinic/images.csv
  python datasets/prepare_csv.py --root datasets/clinic --csv images.csv --num-folds 3 --seed 1

The data sets are then called clinic_fold1_train, clinic_fold1_val, clinic_fold1_test, clinic_fold2_train, ...
if $DETECTRON2_DATASETS is the folder that holds clinic/ (default: datasets).
"""

COLUMNS = ("file_name", "patient_id", "class")
BOX_COLUMNS = ("x", "y", "w", "h")


def read_rows(path: str) -> List[Dict[str, Any]]:
    """
    Returns:
        one dict for each row: file_name, patient_id (str), category_id (1 or 2), bbox (XYWH floats, or None).

    Raises:
        BBUIError: with the problems of all rows.
    """
    if not os.path.isfile(path):
        raise BBUIError(f"{path} does not exist. --csv must name the table of the images.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            found = reader.fieldnames or []
            lines = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path} is no CSV file in UTF-8 ({error}). Spreadsheets save it as 'CSV UTF-8 (comma delimited)'."
        raise BBUIError(message) from error
    expected = COLUMNS + (BOX_COLUMNS if set(BOX_COLUMNS) & set(found) else ())
    missing = [column for column in expected if column not in found]
    if missing:
        raise BBUIError(
            f"{path} has no column {', '.join(missing)}. Its header line is {','.join(found)!r}."
        )
    rows, problems = [], []
    for line, row in lines:
        try:
            rows.append(parse_row(row))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    problems += disagreements(rows)
    if problems:
        raise BBUIError(f"{path} cannot be used; correct these rows:", problems)
    if not rows:
        raise BBUIError(f"{path} has no rows.")
    return rows


def parse_row(row: Dict[str, str]) -> Dict[str, Any]:
    if None in row:
        raise ValueError("it has more fields than the header line; decimals are written with a point")
    for column in ("file_name", "patient_id"):
        if not row[column].strip():
            raise ValueError(f"{column} is empty")
    class_ids = {category["name"]: category["id"] for category in CATEGORIES}
    class_name = row["class"].strip().lower()
    if class_name not in class_ids:
        raise ValueError(f"unknown class {row['class']!r}, expected benign or malignant")
    return {
        "file_name": row["file_name"].strip(),
        "patient_id": row["patient_id"].strip(),
        "category_id": class_ids[class_name],
        "bbox": parse_box([row.get(column, "").strip() for column in BOX_COLUMNS]),
    }


def parse_box(values: List[str]) -> Optional[List[float]]:
    if not any(values):
        return None
    try:
        return [float(value) for value in values]
    except ValueError:
        raise ValueError(f"x, y, w, h must be four numbers or all empty, found {','.join(values)}") from None


def disagreements(rows: List[Dict[str, Any]]) -> List[str]:
    """The rows of one image must name one patient and one class."""
    problems = []
    for key in ("patient_id", "category_id"):
        values: Dict[str, set] = {}
        for row in rows:
            values.setdefault(row["file_name"], set()).add(row[key])
        problems += [
            f"{file_name}: its rows disagree on {key}: {', '.join(sorted(map(str, found)))}"
            for file_name, found in values.items()
            if len(found) > 1
        ]
    return problems


def build_bbui(root: str, csv_file: str) -> Dict[str, Any]:
    """The BBUI content of all images of the table, in its order."""
    rows = read_rows(csv_file)
    first_rows = {}
    for row in rows:
        first_rows.setdefault(row["file_name"], row)
    sizes = read_image_sizes(root, list(first_rows))
    images = [
        {
            "id": number,
            "file_name": row["file_name"],
            "height": height,
            "width": width,
            "patient_id": row["patient_id"],
            "category_id": row["category_id"],
        }
        for number, (row, (height, width)) in enumerate(zip(first_rows.values(), sizes), start=1)
    ]
    image_of = {image["file_name"]: image for image in images}
    annotations = [
        manual_annotation(number, image_of[row["file_name"]], row["bbox"])
        for number, row in enumerate((row for row in rows if row["bbox"]), start=1)
    ]
    return {
        "info": {"description": os.path.basename(os.path.abspath(root))},
        "categories": CATEGORIES,
        "images": images,
        "annotations": annotations,
    }


def prepare(root: str, csv_file: str, output: str, num_folds: int, seed: int) -> None:
    """
    Write `<output>/fold{k}_{train,val,test}.json` and print the counts.

    Raises:
        BBUIError: the data set cannot be used as it is. Nothing is written then.
    """
    bbui = build_bbui(root, csv_file)
    print_warnings(bbui, root)
    test_folds = assign_folds(patient_classes(bbui), num_folds, seed)
    write_and_count_splits(bbui, output, test_folds, num_folds, seed)
    print(f"Written to {output}: {num_folds} random folds, seed {seed}.")


def main() -> None:
    parser = preparation_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--root", type=os.path.expanduser, required=True, help="folder that the file names start from"
    )
    parser.add_argument("--csv", type=os.path.expanduser, required=True, help="the table")
    add_annotation_options(parser)
    parser.add_argument("--num-folds", type=int, default=5, help="number of folds, at least 2 (default: 5)")
    args = parser.parse_args()
    if args.num_folds < 2:
        parser.error("--num-folds must be at least 2")
    output = args.output or os.path.join(args.root, "annotations")
    with exit_on_input_error(parser):
        prepare(args.root, args.csv, output, args.num_folds, args.seed)


if __name__ == "__main__":
    main()
