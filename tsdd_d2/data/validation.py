"""
Validation of BBUI files and of the images they name: all problems in one error.

The format is told in :mod:`tsdd_d2.data.bbui`; `datasets/README.md` describes every field.
"""

import itertools
import os
import re
from collections import Counter, defaultdict
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..errors import BBUIError, listed
from .categories import CATEGORIES, CLASS_NAMES, CONTIGUOUS_IDS
from .entries import (
    annotation_problems,
    box_problems,
    describe_annotation,
    describe_image,
    image_of,
    image_problems,
    is_file_name,
    is_integer,
    is_text,
    size_problems,
)
from .files import read_json
from .image_sizes import decode_image_files
from .patients import look_alikes
from .roi import MANUAL

__all__ = ["read_valid_bbui", "reason_against_round", "validate_bbui", "validate_splits"]

Path = Union[str, os.PathLike]

# A ROI of a larger share of its image shows nothing of where the lesion is.
LARGEST_SHARE = 0.95
# COCO's evaluation looks at no more boxes of an image.
MOST_ROIS = 100
MOST_NAMES = 20  # in a warning
# A round after the first annotation, by the name of its file.
_LATER_ROUND = re.compile(r"round_0*[1-9]")


def read_valid_bbui(json_file: Path) -> Dict[str, Any]:
    """
    The content of a BBUI file, checked in all that shows without opening an image.

    Raises:
        BBUIError: the file is missing, or with all its problems at once.
    """
    bbui = _read_bbui(json_file)
    problems, images = _check_content(bbui, json_file)
    _raise_if_any(problems, os.fspath(json_file), images)
    return bbui


def validate_bbui(bbui: Union[Path, Mapping[str, Any]], image_root: Path, decode_images: bool = True) -> List[str]:
    """
    Check a BBUI file and the images it names.

    Args:
        bbui: the path of a BBUI file, or the content of one.
        image_root: the folder that the `file_name` entries start from.
        decode_images: decode every image, the way the data loader does, and compare its size with the file.
            If False, only the existence of the images is checked.

    Returns:
        list[str]: what may be right but deserves a look: patients with images of both classes, those that look alike, ROIs
        of a whole image and, of decoded images, the same pixels under both classes, and those with an orientation tag.

    Raises:
        BBUIError: with all problems at once.
    """
    source = "The annotation" if isinstance(bbui, Mapping) else os.fspath(bbui)
    content = bbui if isinstance(bbui, Mapping) else _read_bbui(bbui)
    problems, images = _check_content(content, None if isinstance(bbui, Mapping) else bbui)
    file_problems, decoded = _check_image_files(images, os.fspath(image_root), decode_images)
    _raise_if_any(problems + file_problems, source, images)
    return [
        *_patients_to_look_at(images),
        *_rois_to_look_at(content),
        *_turned_images(decoded),
        *_same_pixels_of_both_classes(decoded),
    ]


def validate_splits(splits: Mapping[str, Tuple[Path, Path]], decode_images: bool = True) -> List[str]:
    """
    Check the BBUI files of one experiment: each as :func:`validate_bbui` does, and that neither a patient nor
    an image file is in two of them. Below different image folders a patient of the same id is another one.

    Args:
        splits: name of the split -> (json_file, image_root).
        decode_images: see :func:`validate_bbui`.

    Returns:
        list[str]: the warnings of :func:`validate_bbui`, over all splits together, and images of two splits that have
        the same pixels.

    Raises:
        BBUIError: with the problems of all splits at once, each preceded by the name of its split.
    """
    problems, images_of_root, decoded_of_split, warnings = [], defaultdict(list), {}, []
    splits_of_patient, splits_of_file = defaultdict(list), defaultdict(list)
    for name, (json_file, image_root) in splits.items():
        try:
            content = _read_bbui(json_file)
        except BBUIError as error:
            problems.append(f"{name}: {error}")
            continue
        split_problems, images = _check_content(content, json_file)
        file_problems, decoded_of_split[name] = _check_image_files(images, os.fspath(image_root), decode_images)
        problems += [f"{name} ({os.fspath(json_file)}): {problem}" for problem in split_problems + file_problems]
        if not split_problems:
            warnings += [f"{name}: {warning}" for warning in _rois_to_look_at(content)]
        root = os.path.realpath(image_root)
        images_of_root[root] += images
        for patient in sorted({image["patient_id"] for image in images if is_text(image.get("patient_id"))}):
            splits_of_patient[root, patient].append(name)
        for file_name in {image["file_name"] for image in images if is_file_name(image.get("file_name"))}:
            splits_of_file[os.path.realpath(os.path.join(root, file_name))].append(name)
    problems += [
        f"patient {patient!r} is in more than one split: {', '.join(names)}"
        for (_, patient), names in splits_of_patient.items()
        if len(names) > 1
    ]
    problems += [
        f"image file {path} is in more than one split: {', '.join(names)}"
        if len(set(names)) > 1
        else f"image file {path} is twice in {names[0]}, by two names"
        for path, names in sorted(splits_of_file.items())
        if len(names) > 1
    ]
    _raise_if_any(problems, "The splits " + ", ".join(splits))
    patients = [warning for images in images_of_root.values() for warning in _patients_to_look_at(images)]
    decoded = [
        x._replace(file_name=f"{x.file_name} ({name})") for name, entries in decoded_of_split.items() for x in entries
    ]
    return [
        *patients,
        *warnings,
        *_turned_images(decoded),
        *_same_pixels_of_both_classes(decoded),
        *_same_pixels_in_two_splits(decoded_of_split),
    ]


def _raise_if_any(problems: Sequence[str], source: str, images: Sequence[Mapping[str, Any]] = ()) -> None:
    if not problems:
        return
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    advice = "Correct the entries, or leave out the images named:"
    if len(images) > 1 and not any("patient_id" in image or "category_id" in image for image in images):
        advice = (
            "No image has the fields patient_id and category_id, which annotation tools drop when they export. `python "
            "datasets/prepare.py coco EXPORT --like ORIGINAL` puts them back from the file that was imported there:"
        )
    raise BBUIError(f"{source}: {count}. {advice}", problems)


def _read_bbui(json_file: Path) -> Any:
    try:
        return read_json(json_file)
    except FileNotFoundError:
        raise BBUIError(
            f"The annotation file {os.fspath(json_file)} does not exist. datasets/README.md tells how to prepare a data set."
        ) from None
    except (OSError, ValueError) as error:
        raise BBUIError(f"The annotation file cannot be read: {error}") from error


def reason_against_round(bbui: Mapping[str, Any], json_file: Optional[Path] = None) -> Optional[str]:
    """
    Why the content of a file that was a round of ours must not be used: its ROIs lost where they came from, as in an
    annotation tool, so that those that a network found would count as drawn by hand. None if there is no reason.
    """
    info, annotations = bbui.get("info"), bbui.get("annotations")
    if not annotations or any("roi_source" in annotation for annotation in annotations if isinstance(annotation, Mapping)):
        return None
    statistics = info.get("statistics") if isinstance(info, Mapping) else None
    if isinstance(
        statistics, Mapping
    ):  # our own file: in a round that replaced nothing, ROIs may all be as the user gave them
        was_round = any(statistics.get(key) for key in ("replaced_fa", "replaced_pa"))
    else:
        was_round = bool(_LATER_ROUND.search(os.path.basename(os.fspath(json_file or ""))))
    if not was_round:
        return None
    return (
        "it was a round of refinement, and its ROIs have lost 'roi_source', as annotation tools drop it: all of them would "
        "count as drawn by hand. `python datasets/prepare.py coco FILE --like ROUND.json` puts it back."
    )


def _check_content(bbui: Any, json_file: Optional[Path] = None) -> Tuple[List[str], List[Dict[str, Any]]]:
    """
    All problems that show without opening an image.

    Args:
        json_file: where it stands, if it is a file.
    Returns:
        problems, and the `images[]` entries that are JSON objects (the ones that can be looked at further).
    """
    if not isinstance(bbui, Mapping):
        return ["the file holds no JSON object with 'images', 'annotations' and 'categories'"], []
    problems, lists = [], {}
    # the rounds and the vetoes write to it
    if not isinstance(bbui.get("info", {}), Mapping):
        problems.append("'info' must be a JSON object")
    elif not isinstance(bbui.get("info", {}).get("vetoes", []), list):
        problems.append("'vetoes' of 'info' must be a list")
    for key in ("categories", "images", "annotations"):
        entries = bbui.get(key)
        if not isinstance(entries, list):
            problems.append(f"the list '{key}' is missing")
            entries = []
        lists[key] = [entry for entry in entries if isinstance(entry, Mapping)]
        if len(lists[key]) < len(entries):
            problems.append(f"'{key}' has {len(entries) - len(lists[key])} entries that are no JSON objects")
    categories, images, annotations = lists.values()
    reason = reason_against_round({**bbui, "annotations": annotations}, json_file)
    problems += [reason] * (reason is not None)

    found = [(category.get("id"), category.get("name")) for category in categories]
    expected = [(category["id"], category["name"]) for category in CATEGORIES]
    # as they are written: true and 1.0 are equal to 1
    if sorted(map(repr, found)) != sorted(map(repr, expected)):
        problems.append(f"'categories' must be 1 benign and 2 malignant, found {found}")
    if not images:
        problems.append("'images' is empty")
    for image in images:
        problems += [f"{describe_image(image)}: {problem}" for problem in image_problems(image)]
    images_by_id = {image["id"]: image for image in reversed(images) if is_integer(image.get("id"))}
    for annotation in annotations:
        label = describe_annotation(annotation, images_by_id)
        problems += [f"{label}: {problem}" for problem in annotation_problems(annotation, images_by_id)]
    rois_of = Counter(annotation["image_id"] for annotation in annotations if is_integer(annotation.get("image_id")))
    problems += [
        f"{describe_image(image)}: {rois_of[key]} ROIs; COCO's evaluation looks at {MOST_ROIS} boxes of an image"
        for key, image in images_by_id.items()
        if rois_of[key] > MOST_ROIS
    ]
    problems += _repeated_rois(annotations, images_by_id)
    problems += _implausible_rois(annotations, images_by_id)
    problems += _duplicates("image id", (image.get("id") for image in images))
    problems += _duplicates("annotation id", (annotation.get("id") for annotation in annotations))
    problems += _duplicates(
        "file_name",
        (os.path.normpath(image["file_name"]) for image in images if is_file_name(image.get("file_name"))),
    )
    return problems, images


def _repeated_rois(annotations: Sequence[Mapping[str, Any]], images: Mapping[int, Mapping[str, Any]]) -> List[str]:
    """Boxes drawn by hand that are there twice; a selection rule may give two ROIs one box."""
    ids_of = defaultdict(list)
    for annotation in annotations:
        known = _is_manual(annotation) and image_of(annotation, images) is not None
        if known and not box_problems("bbox", annotation.get("bbox"), None):
            ids_of[annotation["image_id"], tuple(annotation["bbox"])].append(repr(annotation.get("id")))
    return [
        f"{describe_image(images[image_id])}: annotations {listed(ids)} have one 'bbox' {list(box)}, which would count "
        f"{len(ids)} times in training"
        for (image_id, box), ids in ids_of.items()
        if len(set(ids)) > 1  # one id twice is told by itself
    ]


def _implausible_rois(annotations: Sequence[Mapping[str, Any]], images: Mapping[int, Mapping[str, Any]]) -> List[str]:
    """What may be right of one ROI, and is not of all."""
    # a network may begin with worse boxes
    rois = [x for x in annotations if _is_manual(x) and not box_problems("bbox", x.get("bbox"), None)]
    if len(rois) < 2:
        return []
    if all(max(x["bbox"][2:]) <= 1 for x in rois):
        return ["no 'bbox' is larger than a pixel: boxes are in pixels, not in fractions of the image"]
    if all(_is_whole_image(x, images) for x in rois):
        return ["every 'bbox' is the whole image: masks whose background is not 0, or boxes that were never drawn"]
    return []


def _is_manual(annotation: Mapping[str, Any]) -> bool:
    return annotation.get("roi_source", MANUAL) == MANUAL


def _is_whole_image(annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]]) -> bool:
    image, (_, _, width, height) = image_of(annotation, images), annotation["bbox"]
    return (
        image is not None and not size_problems(image) and width * height > LARGEST_SHARE * image["width"] * image["height"]
    )


def _rois_to_look_at(bbui: Mapping[str, Any]) -> List[str]:
    images = {image["id"]: image for image in bbui["images"]}
    rois = filter(_is_manual, bbui["annotations"])
    whole = [str(images[x["image_id"]]["file_name"]) for x in rois if _is_whole_image(x, images)]
    return [f"{len(whole)} ROIs are the whole image, or nearly so: {listed(whole, MOST_NAMES)}"] * bool(whole)


class _DecodedEntry(NamedTuple):
    """An image that could be decoded; equal digests are equal pixels."""

    file_name: str
    category_id: int
    digest: bytes
    turned: bool


def _check_image_files(
    images: Iterable[Mapping[str, Any]], image_root: str, decode_images: bool
) -> Tuple[List[str], List[_DecodedEntry]]:
    """The problems, and the images that have none; without decoding there are no images to tell of."""
    if not os.path.isdir(image_root):
        return [f"the image folder {image_root} does not exist"], []
    images = [image for image in images if is_file_name(image.get("file_name"))]
    paths = [os.path.join(image_root, image["file_name"]) for image in images]
    if not decode_images:
        missing = [(image, path) for image, path in zip(images, paths) if not os.path.isfile(path)]
        return [f"{describe_image(image)}: the file {path} does not exist" for image, path in missing], []
    problems, entries = [], []
    for image, path, decoded in zip(images, paths, decode_image_files(paths)):
        if isinstance(decoded, BBUIError):
            problems.append(f"{describe_image(image)}: {decoded}")
        elif decoded.size != (image.get("height"), image.get("width")):
            height, width = decoded.size
            turned = ", turned upright as its orientation tag says" if decoded.turned else ""
            problems.append(
                f"{describe_image(image)}: the file {path} has {width}x{height} pixels{turned}, "
                f"the annotation says {image.get('width')}x{image.get('height')}"
            )
        else:
            entries.append(_DecodedEntry(image["file_name"], image.get("category_id"), decoded.digest, decoded.turned))
    return problems, entries


def _patients_to_look_at(images: Iterable[Mapping[str, Any]]) -> List[str]:
    classes = defaultdict(set)
    for image in images:
        classes[image["patient_id"]].add(image["category_id"])
    mixed = [
        f"patient {patient!r} has benign and malignant images"
        for patient, found in sorted(classes.items())
        if len(found) > 1
    ]
    alike = [" = ".join(map(repr, group)) for group in look_alikes(classes)]
    return mixed + [
        f"patients that look alike count as different ones (prepare.py --patient-ids normalise): {listed(alike, MOST_NAMES)}"
    ] * bool(alike)


def _turned_images(images: Iterable[_DecodedEntry]) -> List[str]:
    """The format does not say whether the boxes of a file with an orientation tag were drawn upright."""
    turned = [x.file_name for x in images if x.turned]
    if not turned:
        return []
    return [
        f"{len(turned)} images have an orientation tag and are read upright, as a viewer shows them; their boxes must be "
        f"those of the upright image: {listed(turned, MOST_NAMES)}"
    ]


def _same_pixels_of_both_classes(images: Iterable[_DecodedEntry]) -> List[str]:
    same = defaultdict(list)
    for image in images:
        same[image.digest].append(image)
    mixed = [found for found in same.values() if len({x.category_id for x in found}) > 1]
    described = [[f"{x.file_name} is {CLASS_NAMES[CONTIGUOUS_IDS[x.category_id]]}" for x in found] for found in mixed]
    return [f"the same pixels have both classes: {listed(found, MOST_NAMES)}" for found in described]


def _same_pixels_in_two_splits(images_of_split: Mapping[str, Sequence[_DecodedEntry]]) -> List[str]:
    """A warning and no problem, other than a patient in two splits: the annotation files do not tell which to leave out."""
    warnings = []
    for (a, of_a), (b, of_b) in itertools.combinations(images_of_split.items(), 2):
        names = {x.digest: x.file_name for x in of_a}
        shared = [f"{x.file_name} = {names[x.digest]}" for x in of_b if x.digest in names]
        if shared:
            warnings.append(
                f"{b}: {len(shared)} of its images have the same pixels as images of {a}, of which it is therefore not "
                f"independent: {listed(shared, MOST_NAMES)}"
            )
    return warnings


def _duplicates(what: str, values: Iterable[Any]) -> List[str]:
    seen, repeated = set(), {}
    for value in values:
        if not isinstance(value, (int, str)):
            continue  # reported as a wrong type already
        if value in seen:
            repeated[value] = repeated.get(value, 1) + 1
        seen.add(value)
    return [f"{what} {value!r} occurs {count} times" for value, count in repeated.items()]
