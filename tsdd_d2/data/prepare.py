"""What the scripts `datasets/prepare_*.py` share: options, checks and counts."""

import argparse
import csv
import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import BBUIError
from .folds import NUM_FOLDS, count_table, write_splits
from .validation import validate_bbui

__all__ = [
    "add_annotation_options",
    "preparation_parser",
    "print_warnings",
    "read_csv",
    "seed_option",
    "write_and_count_splits",
]


def preparation_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose `--help` shows both texts as they are written."""
    return argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_annotation_options(parser: argparse.ArgumentParser) -> None:
    """`--output` and `--seed` of a script that annotates images which are there already."""
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        help="folder of the annotation files (default: <root>/annotations)",
    )
    parser.add_argument("--seed", type=seed_option, default=0, help="seed of every draw over patients (default: 0)")


def seed_option(text: str) -> int:
    """
    The value of `--seed`: numpy and scikit-learn take 32 bits.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to {2**32 - 1}, found {text!r}")
    return int(text)


def read_csv(path: str) -> Tuple[List[str], List[Tuple[int, Dict[Optional[str], Any]]]]:
    """
    Returns:
        the columns of a CSV file, and (line, column -> text) of each row. A row that is too short has None in its
        last columns, one that is too long has the column None.

    Raises:
        BBUIError: the file is no CSV file in UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or []), [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path} is no CSV file in UTF-8 ({error}). Spreadsheets save it as 'CSV UTF-8 (comma delimited)'."
        raise BBUIError(message) from error


def print_warnings(bbui: Mapping[str, Any], root: str) -> None:
    """
    Print what deserves a look in the content of a BBUI file. Its images, which were decoded for their sizes, are not
    decoded again; training does, and warns of those with the same pixels.

    Raises:
        BBUIError: the content breaks the format.
    """
    for warning in validate_bbui(bbui, root, decode_images=False):
        print("Warning:", warning)


def write_and_count_splits(
    bbui: Mapping[str, Any],
    output: str,
    test_folds: Mapping[str, int],
    num_folds: int = NUM_FOLDS,
    seed: int = 0,
) -> None:
    """Write the files of :func:`write_splits`, whose arguments these are, and print the counts of each."""
    splits = write_splits(bbui, output, test_folds, num_folds, seed)
    print(count_table({"all": bbui, **splits}))
