"""
Write the BBUI annotation of a data set, one file for each split. No image is changed.

It says what it took from where: patients, classes and boxes. If something is wrong it writes nothing, and tells each
kind of problem with three examples and their number.
"""

import argparse
import os
import re
import sys
from typing import Any, Dict, List, Optional

import annotation_tools
import busbra
import busi
import csv_table
import dicom_files
import mask_folders
import round_trip
import twins as twin_images
from assembly import Choices, ClassNames, assemble
from phantom import generate_phantom

from tsdd_d2.data import assign_folds, count_table, dataset_folder, patient_classes, validate_bbui, write_splits
from tsdd_d2.data.files import walk
from tsdd_d2.data.folds import NUM_FOLDS
from tsdd_d2.errors import InputError, listed, reports_errors
from tsdd_d2.inference.input_images import IMAGE_SUFFIXES

EXAMPLES = """
the data sets, each with --help of its own:
  coco      a COCO file of an annotation tool
  yolo      YOLO text files
  voc       Pascal VOC, an XML file for each image
  masks     images and masks of their lesions
  dicom     DICOM files, whose frames become PNG images
  csv       a table with file_name, patient_id, class and, where there is a box, x, y, w, h
  busbra    BUS-BRA as published
  busi      BUSI as published
  phantom   generated images

examples:
  $ python datasets/prepare.py csv mine.csv --root data/mine
  $ python datasets/prepare.py coco export.json --root data/mine --table patients.csv --class benign=fibroadenoma,cyst
  $ python datasets/prepare.py yolo --root data/mine --patient '(\\d+)_'
  $ python datasets/prepare.py masks --root data/mine --images images --masks masks --table patients.csv
  $ python datasets/prepare.py masks --root data/mine --images . --masks . --image-name '(case\\d+)' \\
        --mask-name '(case\\d+)_tumor' --table patients.csv --class ignore=normal
  $ python datasets/prepare.py dicom archive --root data/mine --table patients.csv
  $ python datasets/prepare.py coco export.json --like data/mine/annotations/fold1_train.json
  $ python datasets/prepare.py busbra
  $ python datasets/prepare.py busbra --boxes published --twins report
  $ python datasets/prepare.py phantom --patients 20 --images-per-patient 2 --size 128

The folder that holds the annotations, for example mine/, is a data set below $DETECTRON2_DATASETS (default: datasets):
mine_fold1_train, mine_fold1_val, mine_fold1_test, mine_fold2_train, ..., mine_all_train, mine_all_val;
and mine_all, on which networks of other data are tested
"""


def seed_option(text: str) -> int:
    """
    The value of `--seed`: numpy and scikit-learn take 32 bits.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to {2**32 - 1}, found {text!r}")
    return int(text)


def folds_option(text: str) -> Optional[int]:
    """The value of `--folds`; None stands for the official ones."""
    if text == "official":
        return None
    if not (text.isdecimal() and int(text) >= 2):
        raise argparse.ArgumentTypeError(f"must be an integer from 2 on, or official, found {text!r}")
    return int(text)


def pattern_option(text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no pattern: {error}") from error


def pattern_with_group(text: str) -> "re.Pattern[str]":
    pattern = pattern_option(text)
    if not pattern.groups:
        raise argparse.ArgumentTypeError(f"{text!r} has no group, such as (case\\d+)")
    return pattern


def build_parser() -> argparse.ArgumentParser:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, epilog=EXAMPLES, formatter_class=shown)
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATA_SET")

    def add(name: str, description: str, root: Optional[str] = None) -> argparse.ArgumentParser:
        command = commands.add_parser(name, allow_abbrev=False, description=description, formatter_class=shown)
        default = f"$DETECTRON2_DATASETS/{root}" if root else None
        command.add_argument(
            "--root",
            type=os.path.expanduser,
            required=not (root or name == "coco"),
            help="folder of the data set, which file names start from" + f" (default: {default})" * bool(root),
        )
        command.add_argument(
            "--output", type=os.path.expanduser, help="folder of the annotation files (default: <root>/annotations)"
        )
        command.add_argument("--seed", type=seed_option, default=0, help="of every draw over patients (default: 0)")
        official = ", or official for those of 5-fold-cv.csv (default: official)"
        command.add_argument(
            "--folds",
            type=folds_option,
            default=None if name == "busbra" else NUM_FOLDS,
            help="number of class-stratified folds over patients" + (official if name == "busbra" else " (default: 5)"),
        )
        if name != "phantom":
            command.add_argument(
                "--patient-ids",
                choices=("keep", "normalise"),
                default="keep",
                help='normalise: patients that look alike, as 1, 001 and "002" of a spreadsheet, are one (default: keep, and warn)',
            )
            command.add_argument(
                "--twins",
                choices=("report", "group", "drop"),
                help="look for near-duplicates: report them, make them one patient, or leave them out",
            )
        return command

    def add_choices(command: argparse.ArgumentParser, table: bool = True) -> None:
        command.add_argument(
            "--class",
            dest="classes",
            metavar="CLASS=NAME,NAME",
            action="append",
            default=[],
            help="names that stand for benign or malignant, in any case, or for boxes and images to ignore; may be repeated",
        )
        if table:
            command.add_argument(
                "--table",
                type=os.path.expanduser,
                help="CSV table with file_name and patient_id or class or both, which go before what the format tells",
            )
            command.add_argument(
                "--patient",
                type=pattern_option,
                help="pattern in the path below the root whose first group is the patient; it goes before what the format tells",
            )

    command = add(
        "coco", "A COCO file of an annotation tool; images are found below the root by their names, in any folder."
    )
    command.add_argument("sources", type=os.path.expanduser, nargs="+", metavar="EXPORT.json")
    command.add_argument(
        "--like",
        type=os.path.expanduser,
        metavar="ORIGINAL.json",
        help="the file of ours that was imported into the tool: its patients, classes and ROI fields are put back, and the "
        "result is one file, EXPORT_restored.json or --output",
    )
    add_choices(command)
    command = add(
        "yolo",
        "YOLO text files beside the images, or in labels/ for images/; classes are named in data.yaml or classes.txt.",
    )
    add_choices(command)
    command = add("voc", "All Pascal VOC files (XML) below the root, and images beside the annotated ones that have none.")
    command.add_argument(
        "--one-based",
        action="store_true",
        help="corners count from 1 and belong to the box, as in Pascal VOC itself (default: edges from 0, as tools write them)",
    )
    add_choices(command)
    command = add(
        "masks", "Masks, black and one more colour, named as their image or IMAGE_mask, IMAGE_mask_1; each gives one ROI."
    )
    for kind, what in (("image", "images"), ("mask", "masks")):
        command.add_argument(
            f"--{what}", default=what, help=f"folder of the {what}, below the root or below its folders (default: {what})"
        )
        command.add_argument(
            f"--{kind}-name",
            type=pattern_with_group,
            metavar="PATTERN",
            help=f"of the names of {what}, without suffix; its first group is what an image and its masks share",
        )
    add_choices(command)
    command = add(
        "dicom",
        "Every frame below FOLDER becomes <root>/images/*.png, cut to its ultrasound region; boxes of the table are in "
        "pixels of the whole frame, whose number is in the column frame.",
    )
    command.add_argument("source", type=os.path.expanduser, metavar="FOLDER")
    add_choices(command)
    command = add(
        "csv", "A table with file_name, patient_id, class and, for a ROI, x, y, w, h in pixels; a row for each ROI."
    )
    command.add_argument("source", type=os.path.expanduser, metavar="TABLE.csv")
    add_choices(command, table=False)
    command = add("busbra", str(busbra.__doc__), root="busbra")
    command.add_argument(
        "--boxes",
        choices=("masks", "published"),
        default="masks",
        help="those of the masks, or the column BBOX, which lies a pixel beside them (default: masks)",
    )
    command = add("busi", str(busi.__doc__), root="busi")
    command.add_argument(
        "--include-normal",
        action="store_true",
        help="take the normal images too, as benign images without ROI: for the evaluation of the diagnosis",
    )
    command = add(
        "phantom",
        "Generated images, each with one lesion of known class and box; a coarse box is its annotation.",
        root="phantom",
    )
    command.add_argument("--patients", type=int, default=100, help="half of them malignant (default: 100)")
    command.add_argument("--images-per-patient", type=int, default=4, help="of the one lesion (default: 4)")
    command.add_argument("--size", type=int, default=256, help="width and height in pixels (default: 256)")
    command.add_argument(
        "--coarseness",
        type=float,
        default=0.45,
        help="of the manual boxes, from 0 (exact) to 1 (default: 0.45: mean IoU of 0.61 with the exact ones)",
    )
    return parser


def build_bbui(args: argparse.Namespace) -> Dict[str, Any]:
    """The content of the whole data set; what deserves a look is printed."""
    root, name = args.root, args.command
    table = csv_table.Table(args.table) if getattr(args, "table", None) else None
    choices = Choices(
        ClassNames(getattr(args, "classes", [])), table, getattr(args, "patient", None), args.patient_ids == "normalise"
    )
    info: Dict[str, Any] = {"description": os.path.basename(os.path.abspath(root))}
    if table and table.has_boxes and name != "dicom":
        print(f"The boxes in {args.table} are not used: those of a {name} data set come from its own files.")
    if name == "coco":
        images, problems = annotation_tools.read_coco(args.sources, root)
    elif name == "yolo":
        images, problems = annotation_tools.read_yolo(root)
    elif name == "voc":
        images, problems = annotation_tools.read_voc(root, args.one_based)
    elif name == "masks":
        names = mask_folders.Names(args.image_name, args.mask_name)
        images, problems = mask_folders.read_images(root, args.images, args.masks, names)
    elif name == "dicom":
        images, problems = dicom_files.read_images(args.source, root, table)
    elif name == "csv":
        images, problems = csv_table.read_images(args.source)
    elif name == "busbra":
        info = busbra.INFO
        images, problems = busbra.read_images(root, args.boxes)
    else:
        info = busi.INFO
        images, problems = busi.read_images(root, args.include_normal)
    bbui = assemble(images, root, info, choices, problems)
    for warning in validate_bbui(bbui, root, decode_images=False):
        print("Warning:", warning)
    if not bbui["annotations"]:
        print("Warning: no image has a ROI, and D-Net learns from nothing else")
    left_out = images_left_out(bbui, root) if name in ("coco", "csv") else []
    if left_out:
        print(f"{len(left_out)} image files below {root} have no entry and are left out: {listed(left_out)}")
    return bbui


def images_left_out(bbui: Dict[str, Any], root: str) -> List[str]:
    """The image files, relative to the root, that are none of the images of `bbui`."""
    named = {os.path.relpath(os.path.join(root, image["file_name"]), root) for image in bbui["images"]}
    there = {os.path.relpath(os.path.join(folder, name), root) for folder, names in walk(root) for name in names}
    return sorted(name for name in there - named if name.lower().endswith(IMAGE_SUFFIXES))


def prepare(args: argparse.Namespace) -> None:
    """
    Write `<output>/fold{k}_{train,val,test}.json`, `all_{train,val}.json` and `all.json`, and print the counts.

    Raises:
        InputError: the data set cannot be used as it is. No annotation is written then.
    """
    if args.command == "phantom":
        bbui = generate_phantom(
            args.root,
            num_patients=args.patients,
            images_per_patient=args.images_per_patient,
            seed=args.seed,
            size=args.size,
            coarseness=args.coarseness,
        )
    else:
        bbui = build_bbui(args)
    twins = None
    if getattr(args, "twins", None):
        twins = twin_images.find_twins(bbui["images"], args.root)
        bbui = twin_images.apply(bbui, twins, args.twins)
    output = args.output or os.path.join(args.root, "annotations")
    if args.folds is None:
        test_folds = busbra.official_test_folds(args.root, bbui)
    else:
        test_folds = assign_folds(patient_classes(bbui), args.folds, args.seed)
    splits = write_splits(bbui, output, test_folds, args.folds or NUM_FOLDS, args.seed)
    print(count_table({"all": splits.pop("all"), **splits}))
    for line in [] if twins is None else twin_images.report(twins, splits):
        print(line)
    if args.command == "busi":
        print(
            "BUSI names no patients: every image counts as a patient of its own. Images of one patient can be "
            "on both sides of a split, so results on BUSI are optimistic; --twins group finds some of them."
        )
        if args.include_normal:
            number = sum("normal" in image for image in bbui["images"])
            print(
                f"{number} normal images are labelled benign and have no ROI. Stage 1 gives a ROI to every image "
                "without one, to these too, which show no lesion."
            )
    print(f"Written to {output}: {args.folds or 'official'} folds, seed {args.seed}.")


@reports_errors
def main(argv=None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.folds is None and args.command != "busbra":
        parser.error("--folds official is of BUS-BRA only")
    if args.command == "phantom":
        # Before anything is rendered: each fold tests, validates and trains on a patient of each class.
        fewest = 2 * args.folds if args.folds > 2 else 8
        if args.patients < fewest:
            parser.error(f"--patients is {args.patients}: {args.folds} folds need {fewest} or more")
    if getattr(args, "like", None):
        if len(args.sources) > 1:
            parser.error("--like restores one export")
        round_trip.restore(args.sources[0], args.like, args.output)
        return 0
    if args.root is None:
        if args.command == "coco":
            parser.error("--root is needed, the folder that the names of the images start from")
        args.root = dataset_folder(args.command)
    args.root = os.path.abspath(args.root)  # one spelling of every path below it
    if args.command not in ("phantom", "dicom") and not os.path.isdir(args.root):
        raise InputError(f"{args.root} is no folder; --root must name that of the data set.")
    prepare(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
