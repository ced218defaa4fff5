"""The sonologist's vetoes against ROIs that candidate selection made: their file, and what they do to an annotation.

`datasets/README.md` describes the file, which the page of tools/review_rois.py writes.
"""

from typing import Any, Dict, List, Sequence

from ..data.entries import box_problems
from ..data.files import read_json
from ..data.roi import PSEUDO, REFINED, drawn_by_hand
from ..errors import BBUIError, InputError
from .rounds import as_drawn, manual_box

_ENTRY_TYPES = {"image_id": int, "file_name": str, "annotation_id": int, "roi_source": str}


def veto(image: Dict, annotation: Dict) -> Dict[str, Any]:
    """The entry of a veto file against a ROI; ``bbox`` (XYWH) tells a reader which box was rejected, and ``manual_bbox`` which
    lesion is meant, whatever its id."""
    manual = manual_box(annotation)
    return {
        "image_id": image["id"],
        "file_name": image["file_name"],
        "annotation_id": annotation["id"],
        "roi_source": annotation["roi_source"],
        "bbox": annotation["bbox"],
        **({} if manual is None else {"manual_bbox": manual}),
    }


def apply_vetoes(bbui: Dict, vetoes: Sequence[Dict], source: str = "The vetoes") -> Dict:
    """Takes vetoed ROIs back.

    A vetoed refined ROI is the manual one again and locked; one that is manual is locked. The image of a vetoed pseudo
    ROI loses those that it has, also if they are of another run, and gets ``roi_veto``, with which no round gives it a
    ROI: where the method failed once, any other box would be as unreviewed as the first. ``info.vetoes`` of the result
    lists all vetoes that were ever applied, each once.

    Args:
        bbui: content of a BBUI file, of the data set itself or of any round; not modified.
        vetoes: entries as of :func:`veto`.
        source: where they come from, for the message.
    Returns:
        the content of a BBUI file.
    Raises:
        BBUIError: with all vetoes against images or manual ROIs that `bbui` does not have.
    """
    images = {image["id"]: image for image in bbui["images"]}
    annotations = {annotation["id"]: annotation for annotation in bbui["annotations"]}
    problems = [
        f"{_describe(entry)}: {problem}" for entry in vetoes for problem in _problems_of_entry(entry, images, annotations)
    ]
    if problems:
        raise BBUIError(f"{source}: {len(problems)} of them do not fit the annotation of the data set:", problems)

    locked = {x["annotation_id"] for x in vetoes if x["roi_source"] == REFINED}
    vetoed_images = {x["image_id"] for x in vetoes if x["roi_source"] == PSEUDO}
    listed = list(bbui.get("info", {}).get("vetoes", []))
    for entry in vetoes:
        if entry not in listed:
            listed.append(entry)
    return {
        **bbui,
        "info": {**bbui.get("info", {}), "vetoes": listed},
        "images": [{**image, "roi_veto": True} if image["id"] in vetoed_images else image for image in bbui["images"]],
        "annotations": [
            {**as_drawn(annotation), "locked": True} if annotation["id"] in locked else annotation
            for annotation in bbui["annotations"]
            if drawn_by_hand(annotation) or annotation["image_id"] not in vetoed_images
        ],
    }


def apply_veto_file(bbui: Dict, path: str, dataset: str) -> Dict:
    """
    :func:`apply_vetoes` with a file.

    Args:
        path: of the veto file, or "" for `bbui` as it is.
        dataset: the registered name of the data set that `bbui` belongs to.
    Raises:
        InputError, BBUIError: naming the file; it is missing, malformed, or of another data set, or see
            :func:`apply_vetoes`.
    """
    if not path:
        return bbui
    return apply_vetoes(bbui, read_vetoes(path, dataset), f"The vetoes in {path}")


def read_vetoes(path: str, dataset: str) -> List[Dict]:
    """
    The entries of a veto file.

    Args:
        dataset: the registered name of the data set that they must be about.
    Raises:
        InputError, BBUIError: the file is missing, malformed, or about another data set.
    """
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise InputError(f"The veto file {path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"The veto file cannot be read: {error}") from error
    if not (isinstance(content, dict) and isinstance(content.get("vetoes"), list) and "data_set" in content):
        raise InputError(
            f"{path} is no veto file: it has no 'data_set' and no list 'vetoes'. The page that tools/review_rois.py "
            "makes writes such files."
        )
    if content["data_set"] != dataset:
        raise InputError(f"{path} holds vetoes for the data set {content['data_set']!r}, not for {dataset!r}.")
    problems = [
        f"entry {number}: {problem}"
        for number, entry in enumerate(content["vetoes"], start=1)
        for problem in _format_problems(entry)
    ]
    if problems:
        raise BBUIError(f"{path} is malformed:", problems)
    return content["vetoes"]


def _problems_of_entry(entry: Dict, images: Dict[int, Dict], annotations: Dict[int, Dict]) -> List[str]:
    image = images.get(entry["image_id"])
    if image is None:
        return ["there is no image with this id"]
    if image["file_name"] != entry["file_name"]:
        return [f"the image with this id is {image['file_name']}"]
    if entry["roi_source"] == PSEUDO:
        return []  # the id was given by the run that was reviewed
    annotation = annotations.get(entry["annotation_id"])
    if annotation is None or annotation["image_id"] != image["id"] or manual_box(annotation) is None:
        return ["the image has no manual ROI with this id"]
    box = manual_box(annotation)
    # older files have none; a box may have been rounded on its way
    if "manual_bbox" in entry and max(abs(a - b) for a, b in zip(entry["manual_bbox"], box)) > 0.01:
        return [f"the manual ROI with this id is {box}, not {entry['manual_bbox']}"]
    return []


def _format_problems(entry: Any) -> List[str]:
    if not isinstance(entry, dict):
        return [f"must be a JSON object, found {entry!r}"]
    problems = [
        f"'{key}' must be {'an integer' if kind is int else 'a text'}, found {entry.get(key)!r}"
        for key, kind in _ENTRY_TYPES.items()
        if not isinstance(entry.get(key), kind) or isinstance(entry.get(key), bool)
    ]
    if "manual_bbox" in entry:
        problems += box_problems("manual_bbox", entry["manual_bbox"], None)
    if not problems and entry["roi_source"] not in (REFINED, PSEUDO):
        problems.append(f"'roi_source' must be {REFINED} or {PSEUDO}, found {entry['roi_source']!r}")
    return problems


def _describe(entry: Dict) -> str:
    return f"image {entry['image_id']} ({entry['file_name']}), annotation {entry['annotation_id']}"
