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

import os
import sys
from collections import defaultdict
from typing import Any, Dict, List, Optional, Tuple

from tsdd_d2.data import CATEGORIES, BBUIError, assign_folds, patient_classes
from tsdd_d2.data.image_sizes import decode_image_files
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


# the line of the table, and what is wrong there
Problem = Tuple[int, str]


def read_rows(path: str) -> Tuple[List[Dict[str, Any]], List[Problem]]:
    """
    Returns:
        one dict for each row that can be used: line, file_name, patient_id (str), category_id (1 or 2), bbox (XYWH
        floats, or None); and the problems of all rows.

    Raises:
        BBUIError: the file is missing, is no CSV file in UTF-8, or has no rows or not the columns.
    """
    if not os.path.isfile(path):
        raise BBUIError(f"{path} does not exist. --csv must name the table of the images.")
    found, lines = read_csv(path)
    expected = COLUMNS + (BOX_COLUMNS if set(BOX_COLUMNS) & set(found) else ())
    missing = [column for column in expected if column not in found]
    if missing:
        raise BBUIError(f"{path} has no column {', '.join(missing)}. Its header line is {','.join(found)!r}.")
    if not lines:
        raise BBUIError(f"{path} has no rows.")
    rows, problems = [], []
    for line, row in lines:
        try:
            rows.append({"line": line, **parse_row(row)})
        except ValueError as error:
            problems.append((line, str(error)))
    return rows, problems + disagreements(rows) + repetitions(rows)


def parse_row(row: Dict[Optional[str], Any]) -> Dict[str, Any]:
    """
    Raises:
        ValueError: with all problems of the row.
    """
    if None in row:
        raise ValueError("it has more fields than the header line; decimals are written with a point")
    # A row may end before its last columns.
    text = {column: (row.get(column) or "").strip() for column in COLUMNS + BOX_COLUMNS}
    problems = [f"{column} is empty" for column in ("file_name", "patient_id") if not text[column]]
    class_ids = {category["name"]: category["id"] for category in CATEGORIES}
    category_id = class_ids.get(text["class"].lower())
    if category_id is None:
        problems.append(f"unknown class {text['class']!r}, expected benign or malignant")
    try:
        bbox = parse_box([text[column] for column in BOX_COLUMNS])
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return {
        "file_name": text["file_name"],
        "patient_id": text["patient_id"],
        "category_id": category_id,
        "bbox": bbox,
    }


def parse_box(values: List[str]) -> Optional[List[float]]:
    if not any(values):
        return None
    try:
        return [float(value) for value in values]
    except ValueError:
        raise ValueError(f"x, y, w, h must be four numbers or all empty, found {','.join(values)}") from None


def disagreements(rows: List[Dict[str, Any]]) -> List[Problem]:
    """The rows of one image must name one patient and one class, and its file in one way."""
    rows_of = defaultdict(list)
    for row in rows:
        rows_of[os.path.normpath(row["file_name"])].append(row)
    problems = []
    for file_name, same in rows_of.items():
        for key in ("file_name", "patient_id", "category_id"):
            values = sorted({str(row[key]) for row in same})
            if len(values) > 1:
                lines = ", ".join(str(row["line"]) for row in same)
                text = f"{file_name}: its rows disagree on {key}: {', '.join(values)} (lines {lines})"
                problems.append((same[0]["line"], text))
    return problems


def repetitions(rows: List[Dict[str, Any]]) -> List[Problem]:
    """A ROI that is there twice would count twice in training."""
    first_lines: Dict[Any, int] = {}
    problems = []
    for row in rows:
        if row["bbox"]:
            first = first_lines.setdefault((row["file_name"], *row["bbox"]), row["line"])
            if first != row["line"]:
                problems.append((row["line"], f"{row['file_name']}: its ROI is that of line {first}"))
    return problems


def build_bbui(root: str, csv_file: str) -> Dict[str, Any]:
    """
    The BBUI content of all images of the table, in its order.

    Raises:
        BBUIError: with the problems of all rows, images and ROIs.
    """
    rows, problems = read_rows(csv_file)
    first_rows = {}
    for row in rows:
        first_rows.setdefault(row["file_name"], row)
    decoded = decode_image_files([os.path.join(root, file_name) for file_name in first_rows])
    image_of = {}
    for number, (row, image) in enumerate(zip(first_rows.values(), decoded), start=1):
        if isinstance(image, BBUIError):
            problems.append((row["line"], str(image)))
            continue
        height, width = image.size
        image_of[row["file_name"]] = {
            "id": number,
            "file_name": row["file_name"],
            "height": height,
            "width": width,
            "patient_id": row["patient_id"],
            "category_id": row["category_id"],
        }
    annotations = []
    for row in rows:
        image = image_of.get(row["file_name"])
        if image is None or row["bbox"] is None:
            continue
        wrong = box_problems("bbox", row["bbox"], image)
        problems += [(row["line"], f"{row['file_name']}: {problem}") for problem in wrong]
        annotations.append(manual_annotation(len(annotations) + 1, image, row["bbox"]))
    if problems:
        texts = [f"line {line}: {text}" for line, text in sorted(problems)]
        raise BBUIError(f"{csv_file} cannot be used; correct these rows:", texts)
    return {
        "info": {"description": os.path.basename(os.path.abspath(root))},
        "categories": CATEGORIES,
        "images": list(image_of.values()),
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


@reports_errors
def main(argv=None) -> int:
    parser = preparation_parser(__doc__, EXAMPLES)
    parser.add_argument("--root", type=os.path.expanduser, required=True, help="folder that the file names start from")
    parser.add_argument("--csv", type=os.path.expanduser, required=True, help="the table")
    add_annotation_options(parser)
    parser.add_argument("--num-folds", type=int, default=5, help="number of folds, at least 2 (default: 5)")
    args = parser.parse_args(argv)
    if args.num_folds < 2:
        parser.error("--num-folds must be at least 2")
    output = args.output or os.path.join(args.root, "annotations")
    prepare(args.root, args.csv, output, args.num_folds, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
