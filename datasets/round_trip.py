"""Puts back what an annotation tool drops from a file of ours."""

import os
from collections import Counter, defaultdict
from typing import Any, Dict, List, Optional, Sequence

from annotation_tools import FileFinder, read_coco_file, rotation_problems
from source_image import iou

from tsdd_d2.data.categories import CATEGORIES, CLASS_NAMES
from tsdd_d2.data.entries import box_problems
from tsdd_d2.data.files import write_json
from tsdd_d2.data.roi import manual_annotation
from tsdd_d2.data.validation import read_valid_bbui
from tsdd_d2.errors import BBUIError, listed

__all__ = ["restore"]

# Tools round, and some shift by one: what moved by less was not moved by hand.
UNMOVED = 1.01  # pixels
# A box that was moved still overlaps the one it was.
LOWEST_IOU = 0.1


def restore(export: str, original: str, output: Optional[str] = None) -> str:
    """
    Writes the boxes of an export with the patients, classes and ROI fields of the file that was imported, and prints what
    changed. Images are told by their file names, and boxes by their places:

    - a box within a pixel of one of the original is that one, with its numbers and fields;
    - one that overlaps an original one was moved by hand: it is manual now, and locked if the original was;
    - any other one is new and manual.

    An image that is not in the export stays as it was: many tools export only what has boxes.

    Returns:
        the path of the new file: `output`, or <export>_restored.json.

    Raises:
        BBUIError: with all problems: the original is no BBUI file, or the export has images that it does not have, an
            image twice, another size, or a box that is none. Nothing is written then.
    """
    before = read_valid_bbui(original)
    boxes_of = _exported_boxes(export, before, original)
    originals = defaultdict(list)
    for annotation in before["annotations"]:
        originals[annotation["image_id"]].append(annotation)
    annotations: List[Dict[str, Any]] = []
    changes: Dict[str, List[str]] = defaultdict(list)
    next_id = max((annotation["id"] for annotation in before["annotations"]), default=0) + 1
    for image in before["images"]:
        name, present = image["file_name"], originals[image["id"]]
        if name not in boxes_of:
            annotations += present
            changes["not in the export, and stay as they were"].append(name)
            continue
        for box, source in _match(boxes_of[name], present):
            if source is None:
                annotation = manual_annotation(next_id, image, box)
                next_id += 1
                changes["new"].append(name)
            elif max(abs(a - b) for a, b in zip(box, source["bbox"])) <= UNMOVED:
                annotation = source
                changes["as they were"].append(name)
            else:
                annotation = {**manual_annotation(source["id"], image, box)}
                if source.get("locked"):
                    annotation["locked"] = True
                kind = source.get("roi_source", "manual")
                changes[f"moved ({kind} before, manual now)"].append(f"{name} (IoU {iou(box, source['bbox']):.2f})")
            annotations.append(annotation)
        kept = {annotation["id"] for annotation in annotations}
        changes["deleted"] += [name for annotation in present if annotation["id"] not in kept]
    output = output or f"{os.path.splitext(export)[0]}_restored.json"
    write_json(output, {**before, "annotations": annotations})
    for what, names in changes.items():
        unit = "images" if what.startswith("not in") else "ROIs"
        if names:
            print(f"{len(names)} {unit} {what}" + ("" if what == "as they were" else f": {listed(names)}"))
    sources = Counter(annotation.get("roi_source", "manual") for annotation in annotations)
    print("ROIs now: " + ", ".join(f"{count} {source}" for source, count in sorted(sources.items())))
    print(f"Written to {output}.")
    return output


def _exported_boxes(export: str, before: Dict[str, Any], original: str) -> Dict[str, List[List[float]]]:
    """file_name in the original -> boxes in the export."""
    content = read_coco_file(export)
    find = FileFinder("", [image["file_name"] for image in before["images"]])
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in before["images"]}
    class_of = {category["id"]: category["name"] for category in CATEGORIES}
    classes = {image["file_name"]: class_of[image["category_id"]] for image in before["images"]}
    labels = {category.get("id"): str(category.get("name")).casefold() for category in content["categories"]}
    labels = {key: name for key, name in labels.items() if name in CLASS_NAMES}
    ids = {image.get("id") for image in content["images"]}
    names, problems, boxes_of, renamed, repeated = {}, [], {}, [], []
    for image in content["images"]:
        where = f"image {image.get('id')!r} ({image.get('file_name')!r})"
        try:
            name = find(str(image.get("file_name")))
        except ValueError as error:
            problems.append(f"{where} in {original}: {error}")
            continue
        size = (image.get("width"), image.get("height"))
        if name in boxes_of:
            problems.append(f"{where}: it is there twice, as where two readers annotated it; keep one of them")
        elif None not in size and size != sizes[name]:
            problems.append(f"{where}: {size[0]}x{size[1]} pixels, the original has {sizes[name][0]}x{sizes[name][1]}")
        boxes_of.setdefault(name, [])
        names[image.get("id")] = name
    for annotation in content["annotations"]:
        name, box = names.get(annotation.get("image_id")), annotation.get("bbox")
        wrong = box_problems("bbox", box, None) or rotation_problems(annotation.get("attributes"))
        problems += [f"annotation {annotation.get('id')!r} ({name}): {problem}" for problem in wrong]
        if annotation.get("image_id") not in ids:
            problems.append(f"annotation {annotation.get('id')!r}: its image is not in the file")
        if name is not None and not wrong:
            width, height = sizes[name]
            x0, y0 = max(float(box[0]), 0.0), max(float(box[1]), 0.0)  # a tool may leave the image by its rounding
            x1, y1 = min(float(box[0] + box[2]), width), min(float(box[1] + box[3]), height)
            clipped = [x0, y0, x1 - x0, y1 - y0]
            if max(abs(a - b) for a, b in zip(clipped, box)) > UNMOVED:
                problems += [f"annotation {annotation.get('id')!r} ({name}): {box} leaves the image"]
            if clipped in boxes_of[name]:
                repeated.append(name)  # as pylabel writes one for each image without box
                continue
            if labels.get(annotation.get("category_id"), classes[name]) != classes[name]:
                renamed.append(f"{name} ({classes[name]})")
            boxes_of[name].append(clipped)
    if problems:
        raise BBUIError(f"{export} cannot be joined with {original}:", problems)
    find.tell()
    if repeated:
        print(f"{len(repeated)} boxes are there twice, and are taken once: {listed(repeated)}")
    if renamed:
        print(
            f"Warning: {len(renamed)} ROIs have another class in the export; that of the original stays: {listed(renamed)}"
        )
    return boxes_of


def _match(boxes: Sequence[Sequence[float]], originals: Sequence[Dict[str, Any]]) -> List[Any]:
    """(box, the original annotation or None) of each box; the pairs that overlap most first, each original once."""
    pairs = sorted(
        ((iou(box, source["bbox"]), i, j) for i, box in enumerate(boxes) for j, source in enumerate(originals)), reverse=True
    )
    source_of: Dict[int, int] = {}
    for overlap, i, j in pairs:
        if overlap >= LOWEST_IOU and i not in source_of and j not in source_of.values():
            source_of[i] = j
    return [(box, originals[source_of[i]] if i in source_of else None) for i, box in enumerate(boxes)]
