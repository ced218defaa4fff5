"""
From what a reader found to the content of a BBUI file: classes, patients, sizes, plausible boxes, and an account of what
was taken from where.
"""

import csv
import os
import re
import shlex
from collections import Counter, defaultdict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from csv_table import Table
from source_image import SourceImage, iou

from tsdd_d2.data import CATEGORIES, CLASS_NAMES, BBUIError
from tsdd_d2.data.entries import box_problems
from tsdd_d2.data.image_sizes import DecodedImage, decode_image_files
from tsdd_d2.data.patients import clean_patient, look_alikes
from tsdd_d2.data.roi import manual_annotation
from tsdd_d2.errors import InputError, listed

__all__ = ["Choices", "ClassNames", "assemble"]

# An outline and a box that were drawn for one lesion differ by less; another lesion by more.
LOWEST_IOU_WITH_MASK = 0.8
IGNORED = "ignore"
_BY_PATTERN = "their file name"
# What Roboflow calls each augmented copy of an image.
_ROBOFLOW_COPY = re.compile(r"(.+)\.rf\.[0-9A-Za-z]+\.\w+")


class ClassNames:
    """Which class a name stands for, in any case: benign and malignant for themselves, others as they are mapped."""

    def __init__(self, mappings: Sequence[str] = ()):
        """
        Args:
            mappings: such as "benign=fibroadenoma,cyst"; "ignore=text,normal" leaves out boxes, and images, that are
                called so. The names are a row of a CSV file: one with a comma stands in double quotes.

        Raises:
            InputError: a mapping is none, or two of them disagree.
        """
        self._class_of = {name: name for name in CLASS_NAMES}
        for mapping in mappings:
            target, separator, names = mapping.partition("=")
            target, names = _key(target), _names_of(names)
            if target not in (*CLASS_NAMES, IGNORED) or not separator or not names or not all(names):
                raise InputError(
                    f"--class {mapping}: give benign=NAME,NAME, malignant=NAME,NAME or ignore=NAME,NAME; a name with a comma "
                    "stands in double quotes."
                )
            for name in names:
                if self._class_of.setdefault(name, target) != target:
                    raise InputError(f"--class: {name!r} is {self._class_of[name]} and {target}.")

    def __call__(self, name: str) -> Optional[str]:
        """benign, malignant, ignore, or None for a name that is not known."""
        return self._class_of.get(_key(name))


def _key(name: str) -> str:
    return " ".join(name.split()).casefold()


def _names_of(row: str) -> List[str]:
    """The keys of names, or none if it is no row of a CSV file."""
    try:
        return [_key(name) for name in next(csv.reader([row], skipinitialspace=True, strict=True), [])]
    except csv.Error:
        return []


def _in_a_row(name: str) -> str:
    """As :func:`_names_of` reads it."""
    name = " ".join(name.split())
    return '"{}"'.format(name.replace('"', '""')) if "," in name or '"' in name else name


class Choices(NamedTuple):
    """
    What the user says about images beyond their format.

    Attributes:
        table: patients and classes by file name; they go before those of the format.
        patient: a pattern whose first group, in the file name, is the patient; it goes before the format, after the table.
        normalise: whether patients that look alike are one.
    """

    classes: ClassNames
    table: Optional[Table] = None
    patient: Optional["re.Pattern[str]"] = None
    normalise: bool = False


class _Account:
    """Counts what was taken from where."""

    def __init__(self):
        self.sources: Dict[str, Counter] = defaultdict(Counter)
        self.names: Counter = Counter()
        self.by_pattern: List[str] = []
        self.beside_folder: List[str] = []

    def lines(self) -> List[str]:
        lines = [
            f"{what}: " + ", ".join(f"{count} images from {source}" for source, count in found.most_common())
            for what, found in self.sources.items()
        ]
        if self.by_pattern:
            lines.append(f"Patients by --patient: {listed(self.by_pattern)}")
        if self.names:
            lines.append("Names: " + ", ".join(f"{name!r} is {target} ({n})" for (name, target), n in self.names.items()))
        return lines


def assemble(
    images: Sequence[SourceImage],
    root: str,
    info: Mapping[str, Any],
    choices: Choices,
    problems: Sequence[str] = (),
) -> Dict[str, Any]:
    """
    Args:
        images: in the order of their ids.
        root: the folder that file names start from.
        info: of the BBUI file.
        problems: of the reader, which are told with those found here.

    Returns:
        the content of a BBUI file; what was taken from where, and what deserves a look, is printed.

    Raises:
        BBUIError: with all problems at once.
    """
    problems, account = list(problems), _Account()
    if not images and not problems:
        raise BBUIError(f"{root}: no images were found.")
    classes = [_class_of(image, choices, account, problems) for image in images]
    left_out = [image.file_name for image, name in zip(images, classes) if name == IGNORED]
    images = [image for image, name in zip(images, classes) if name != IGNORED]
    classes = [name for name in classes if name != IGNORED]
    patients = [_patient_of(image, choices, account, problems) for image in images]
    decoded = decode_image_files([os.path.join(root, image.file_name) for image in images])
    entries, annotations = [], []
    ids = {category["name"]: category["id"] for category in CATEGORIES}
    for number, (image, name, patient, pixels) in enumerate(zip(images, classes, patients, decoded), start=1):
        if isinstance(pixels, BBUIError):
            problems.append(f"{image.where}: {pixels}")
            continue
        height, width = pixels.size
        entry = {
            "id": number,
            "file_name": image.file_name,
            "height": height,
            "width": width,
            "patient_id": patient,
            "category_id": ids.get(name),
            **image.fields,
        }
        entries.append(entry)
        wrong = _size_problems(image, pixels) + _box_problems(image, entry)
        problems += wrong
        for box, fields in [] if wrong else zip(image.boxes, image.roi_fields or [{}] * len(image.boxes)):
            annotations.append({**manual_annotation(len(annotations) + 1, entry, box), **fields})
    if problems:
        unused = "".join(f" ({line})" for line in choices.table.account()) if choices.table else ""
        raise BBUIError(f"The data cannot be used{unused}; correct these entries:", problems)
    if not entries:
        raise BBUIError(f"{root}: --class ignore leaves out all images.")
    warnings = _boxes_beside_their_masks(images) + _turned(images, decoded)
    warnings += _make_one(entries) if choices.normalise else []
    warnings += _same_pixels(entries, decoded) + _copies_of_several_patients(entries)
    if account.beside_folder:
        number, told = len(account.beside_folder), listed(account.beside_folder)
        warnings.append(f"{number} images lie in a folder that is called as the other class: {told}")
    if len(account.sources["Patient"]) > 1:
        warnings.append("patients come from several places; one who is named in two ways counts as two")
    for line in account.lines() + _counts_of_boxes(images):
        print(line)
    if left_out:
        print(f"{len(left_out)} images are left out by their class: {listed(left_out)}")
    if choices.table is not None:
        for line in choices.table.account():
            print(line)
    for warning in warnings:
        print("Warning:", warning)
    return {"info": dict(info), "categories": CATEGORIES, "images": entries, "annotations": annotations}


def _class_of(image: SourceImage, choices: Choices, account: _Account, problems: List[str]) -> Optional[str]:
    """benign, malignant or ignore; None after a problem was added."""
    all_ignored = _leave_out_ignored(image, choices.classes, account)
    row = choices.table.find(image.known_as or image.file_name, "class") if choices.table else None
    candidates = [
        ("the table", [row] if row else []),
        ("their own entry", [image.class_name] if image.class_name else []),
        ("their boxes", [label for label in image.labels if choices.classes(label)]),
        ("their folder", [part for part in image.file_name.split("/")[:-1] if choices.classes(part)]),
    ]
    found = {source: {choices.classes(name): name for name in names} for source, names in candidates if names}
    unknown = [name for names in found.values() for target, name in names.items() if target is None]
    if unknown:
        benign, malignant, ignore = (shlex.quote(f"{x}={_in_a_row(unknown[0])}") for x in (*CLASS_NAMES, IGNORED))
        problems.append(
            f"{image.where}: unknown class {unknown[0]!r}, expected benign or malignant; --class {benign} or --class "
            f"{malignant} maps it, and --class {ignore} leaves its images out"
        )
        return None
    # a folder is a guess that everything else goes before
    targets = {target for source, names in found.items() if source != "their folder" or len(found) == 1 for target in names}
    if len(targets) > 1:
        told = "; ".join(f"{source}: {', '.join(sorted(names.values()))}" for source, names in found.items())
        problems.append(f"{image.where}: {image.file_name} has two classes ({told})")
    elif not targets and all_ignored:
        return IGNORED
    elif not targets:
        names = sorted({label for label in image.labels if label})
        hint = f"; its boxes are called {', '.join(map(repr, names))}, which --class maps" if names else ""
        problems.append(f"{image.where}: {image.file_name} has no class: {_from_table(choices)}{hint}")
    if len(targets) != 1:
        return None
    (target,) = targets
    if set(found.get("their folder", {})) - {target}:
        account.beside_folder.append(f"{image.file_name} ({target})")
    source, names = next(iter(found.items()))
    account.sources["Class"][source] += 1
    for name in names.values():
        if _key(name) != target:
            account.names[name, target] += 1
    for label in image.labels:
        if label and choices.classes(label) is None:
            account.names[label, "no class; the box is taken"] += 1
    return target


def _leave_out_ignored(image: SourceImage, classes: ClassNames, account: _Account) -> bool:
    """Whether these were all boxes of the image, of which there was one at least."""
    kept = [i for i, label in enumerate(image.labels) if classes(label) != IGNORED]
    for i in set(range(len(image.labels))) - set(kept):
        account.names[image.labels[i], "left out"] += 1
    if len(kept) < len(image.labels):
        for name in ("boxes", "labels", "mask_boxes", "places", "roi_fields"):
            values = getattr(image, name)
            setattr(image, name, [values[i] for i in kept] if values else [])
        return not kept
    return False


def _patient_of(image: SourceImage, choices: Choices, account: _Account, problems: List[str]) -> Optional[str]:
    name = image.known_as or image.file_name
    row = choices.table.find(name, "patient_id") if choices.table else None
    match = choices.patient.search(name) if choices.patient else None
    found = match[1] if match and choices.patient.groups else match[0] if match else None
    for source, patient in (("the table", row), (_BY_PATTERN, found), ("their own entry", image.patient)):
        if patient and patient.strip():
            account.sources["Patient"][source] += 1
            if source == _BY_PATTERN:
                account.by_pattern.append(f"{patient.strip()!r} of {name}")
            return patient.strip()
    problems.append(
        f"{image.where}: {image.file_name} has no patient: {_from_table(choices)}, or by a pattern (--patient '(\\d+)_'); "
        "--patient '(.+)' makes every image a patient of its own, which is right only if no patient has two"
    )
    return None


def _from_table(choices: Choices) -> str:
    return f"give it in a table (--table{', where it is not' if choices.table else ''})"


def _size_problems(image: SourceImage, pixels: DecodedImage) -> List[str]:
    """Of an image with boxes that are those of a copy of another size, or before it was turned upright."""
    if not image.boxes or image.stated in (None, pixels.size):
        return []
    (height, width), (stated_height, stated_width) = pixels.size, image.stated
    turned = ", turned upright as its orientation tag says" if pixels.turned else ""
    return [
        f"{image.where}: {image.file_name} has {width}x{height} pixels{turned}, and its boxes are said to be of "
        f"{stated_width}x{stated_height}"
    ]


def _box_problems(image: SourceImage, entry: Mapping[str, Any]) -> List[str]:
    problems, first = [], {}
    for box, where in zip(image.boxes, image.places or [image.where] * len(image.boxes)):
        wrong = box_problems("bbox", box, entry)
        if not wrong and min(box[2:]) < 1:
            wrong = [f"'bbox' {box} is smaller than a pixel; boxes are in pixels, not in fractions of the image"]
        if not wrong and tuple(box) in first:
            # it would count twice in training
            wrong = [
                f"its ROI is that of {first[tuple(box)]}" if where != first[tuple(box)] else f"its ROI {box} is there twice"
            ]
        first.setdefault(tuple(box), where)
        problems += [f"{where}: {image.file_name}: {problem}" for problem in wrong]
    return problems


def _boxes_beside_their_masks(images: Sequence[SourceImage]) -> List[str]:
    pairs = [(image, box, mask) for image in images for box, mask in zip(image.boxes, image.mask_boxes) if mask]
    differences = Counter(tuple(a - b for a, b in zip(box, mask)) for _, box, mask in pairs)
    far = [
        f"{image.file_name} (IoU {iou(box, mask):.2f})"
        for image, box, mask in pairs
        if iou(box, mask) < LOWEST_IOU_WITH_MASK
    ]
    warnings = []
    if differences:
        common, count = differences.most_common(1)[0]
        if any(common) and count > len(pairs) / 2:
            changes = ", ".join(f"{key} {value:+g}" for key, value in zip(("x", "y", "width", "height"), common) if value)
            warnings.append(f"{count} of {len(pairs)} boxes are not their mask's, but beside it by {changes} pixels")
    if far:
        warnings.append(f"{len(far)} boxes do not fit their mask: {listed(far, 20)}")
    return warnings


def _turned(images: Sequence[SourceImage], decoded: Sequence[DecodedImage]) -> List[str]:
    turned = [image.file_name for image, pixels in zip(images, decoded) if pixels.turned and image.boxes]
    if not turned:
        return []
    return [
        f"{len(turned)} images with boxes have an orientation tag; the boxes must be of the upright image: {listed(turned)}"
    ]


def _same_pixels(entries: Sequence[Dict[str, Any]], decoded: Sequence[DecodedImage]) -> List[str]:
    """Of images that are there twice, as two patients or classes."""
    groups: Dict[bytes, List[Dict[str, Any]]] = defaultdict(list)
    for entry, pixels in zip(entries, decoded):
        groups[pixels.digest].append(entry)
    warnings = []
    for key, what in (
        ("patient_id", "two patients, whom --twins group makes one"),
        ("category_id", "both classes, and --twins drop leaves them out"),
    ):
        found = [" = ".join(x["file_name"] for x in group) for group in groups.values() if len({x[key] for x in group}) > 1]
        if found:
            warnings.append(f"the same pixels are of {what}: {listed(found, 20)}")
    return warnings


def _copies_of_several_patients(entries: Sequence[Dict[str, Any]]) -> List[str]:
    patients = defaultdict(set)
    for entry in entries:
        copy = _ROBOFLOW_COPY.fullmatch(entry["file_name"].rsplit("/", 1)[-1])
        if copy:
            patients[copy[1]].add(entry["patient_id"])
    found = [name for name, of_image in patients.items() if len(of_image) > 1]
    if not found:
        return []
    return [
        f"the copies that Roboflow made of an image are of several patients, and may be trained on and tested: {listed(found)}; "
        r"where no patient has two images, --patient '([^/]+)\.rf\.' makes them one"
    ]


def _make_one(entries: Sequence[Dict[str, Any]]) -> List[str]:
    """Gives patients that look alike one id, and cleans the others; returns what to tell of it."""
    groups = look_alikes({entry["patient_id"] for entry in entries})
    one = {patient: clean_patient(group[0]) for group in groups for patient in group}
    for entry in entries:
        entry["patient_id"] = one.get(entry["patient_id"], clean_patient(entry["patient_id"]))
    told = listed([" = ".join(map(repr, group)) for group in groups], 20)
    return [f"{len(groups)} groups of patients that look alike are one each now: {told}"] * bool(groups)


def _counts_of_boxes(images: Sequence[SourceImage]) -> List[str]:
    without = [image.file_name for image in images if not image.boxes]
    several = [image.file_name for image in images if len(image.boxes) > 1]
    return [
        *[f"{len(without)} images have no box and are partially annotated: {listed(without)}"] * bool(without),
        *[f"{len(several)} images have several boxes: {listed(several)}"] * bool(several),
    ]
