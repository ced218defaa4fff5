"""
The paper's Fig. 6 and 8: the same images under several models, or a lesion through the rounds of a run.

A prediction is a record of :class:`~tsdd_d2.experiments.run.Result`.
"""

import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data import CLASS_NAMES, ensure_registered
from ..data.roi import rois_xyxy
from ..errors import InputError
from ..inference.input_images import read_pixels
from ..visualization import Cell, ComparisonRow, annotation_boxes

Prediction = Mapping[str, object]


class Column(NamedTuple):
    """
    Attributes:
        title: of the model.
        threshold: an image with at least this malignancy is called malignant.
        predictions: image id -> prediction.
    """

    title: str
    threshold: float
    predictions: Dict[int, Prediction]

    def is_right(self, image_id: int) -> bool:
        x = self.predictions[image_id]
        return (x["malignancy"] >= self.threshold) == (x["label"] == 1)


def choose_images(columns: Sequence[Column], count: int, reference: int = -1) -> List[int]:
    """
    Image ids for a gallery, without chance: half of each class; of a class, two thirds that the reference model
    diagnoses rightly and one third that it does not, as far as there are any; among those, the images on which the
    models disagree most, then those with the lowest id. No patient comes twice while there are others.

    The choice shows where models differ, not how often: it is no sample of the data set.

    Args:
        columns: the models, at least one; images that one of them lacks are left out.
        reference: index of the reference model.
    """
    common = set.intersection(*(set(x.predictions) for x in columns))
    right = {image_id: [x.is_right(image_id) for x in columns] for image_id in common}

    def agreement(image_id: int) -> int:
        votes = sum(right[image_id])
        return max(votes, len(columns) - votes)

    ranked = sorted(common, key=lambda image_id: (agreement(image_id), image_id))
    chosen: List[int] = []
    patients: Set[str] = set()
    for label, share in ((1, count - count // 2), (0, count // 2)):
        of_class = [i for i in ranked if columns[0].predictions[i]["label"] == label]
        hits = [i for i in of_class if right[i][reference]]
        misses = [i for i in of_class if not right[i][reference]]
        taken = _take(hits, share - min(len(misses), share // 3), columns[0], patients)
        chosen += taken + _take(misses, share - len(taken), columns[0], patients)
    return chosen


def model_rows(columns: Sequence[Column], image_ids: Sequence[int], data_set: str) -> List[ComparisonRow]:
    """
    The rows of a grid with one column for each model: manual and predicted box, class and malignancy.

    Args:
        data_set: the registered name of the test set, where the images are found, and the manual boxes where the
            predictions have none.
    Raises:
        InputError: the data set is not on this machine, an image is damaged, or an id is not in every column.
    """
    ensure_registered(data_set)
    root = MetadataCatalog.get(data_set).image_root
    manual = {}
    rows = []
    for image_id in image_ids:
        lacking = [x.title for x in columns if image_id not in x.predictions]
        if lacking:
            raise InputError(f"{data_set}: there is no prediction for image {image_id} in {', '.join(lacking)}.")
        first = columns[0].predictions[image_id]
        box = next((x.predictions[image_id]["roi"] for x in columns if x.predictions[image_id].get("roi")), None)
        if box is None:
            manual = manual or _manual_boxes(data_set)
            box = manual.get(image_id)
        name = f"{os.path.basename(first['file_name'])}, {CLASS_NAMES[first['label']]}"
        cells = [_model_cell(x, image_id, box) for x in columns]
        rows.append(ComparisonRow(read_pixels(os.path.join(root, first["file_name"])), name, cells))
    return rows


def round_rows(rounds: Sequence[Dict], count: int, data_set: str) -> List[ComparisonRow]:
    """
    The rows of a grid with one column for each round: the ROIs that changed most often, half of them of images that
    had a manual ROI and half of images that had none, as far as there are any.

    Args:
        rounds: the annotation of every round of a run, from round 0 on.
        data_set: the registered name of the training set, where the images are found, and the manual boxes that the
            run did not see.
    Raises:
        InputError: the data set is not on this machine, or an image is damaged.
    """
    ensure_registered(data_set)
    root, manual = MetadataCatalog.get(data_set).image_root, _manual_boxes(data_set)
    by_round: List[Dict[int, List[Dict]]] = []
    for bbui in rounds:
        by_round.append({image["id"]: [] for image in bbui["images"]})
        for annotation in bbui["annotations"]:
            by_round[-1][annotation["image_id"]].append(annotation)
    images = {image["id"]: image for image in rounds[-1]["images"]}

    def changes(image_id: int) -> int:
        return len({str([x["bbox"] for x in annotations[image_id]]) for annotations in by_round})

    ranked = sorted(images, key=lambda image_id: (-changes(image_id), image_id))
    annotated = [i for i in ranked if by_round[0][i]]
    others = [i for i in ranked if not by_round[0][i]]
    num_annotated = min(len(annotated), max(count - count // 2, count - len(others)))
    rows = []
    for image_id in annotated[:num_annotated] + others[: count - num_annotated]:
        image = images[image_id]
        cells = [_round_cell(image, annotations[image_id], manual.get(image_id)) for annotations in by_round]
        name = f"{os.path.basename(image['file_name'])}, {CLASS_NAMES[image['category_id'] - 1]}"
        rows.append(ComparisonRow(read_pixels(os.path.join(root, image["file_name"])), name, cells))
    return rows


def _take(ranked: Sequence[int], count: int, column: Column, patients: Set[str]) -> List[int]:
    """The first ``count`` of other patients, then, if these are too few, of the same ones; adds to ``patients``."""
    taken: List[int] = []
    for allow_same in (False, True):
        for image_id in ranked:
            patient = column.predictions[image_id]["patient_id"]
            if len(taken) < count and image_id not in taken and (allow_same or patient not in patients):
                taken.append(image_id)
                patients.add(patient)
    return taken


def _model_cell(column: Column, image_id: int, manual: Optional[Sequence[float]]) -> Cell:
    x = column.predictions[image_id]
    boxes = [("manual", manual)] if manual is not None else []
    if x["box"] is not None:
        boxes.append(("ROI", x["box"]))
    text = f"{CLASS_NAMES[int(x['malignancy'] >= column.threshold)]}{'' if x['box'] is not None else ', no box'}"
    return Cell(boxes, f"{text}\np(malignant) = {x['malignancy']:.2f}", column.is_right(image_id))


def _round_cell(image: Dict, annotations: List[Dict], manual: Optional[Sequence[float]]) -> Cell:
    boxes = annotation_boxes(image, annotations)
    text = "\n".join(label for kind, _, label in boxes if kind == "ROI") or "no ROI"
    drawn = [(kind, box) for kind, box, _ in boxes]
    if manual is not None and not any(kind == "manual" for kind, _ in drawn):
        drawn.insert(0, ("manual", manual))
    return Cell(drawn, text)


def _manual_boxes(data_set: str) -> Dict[int, List[float]]:
    """Image id -> the first ROI, XYXY in pixels; images without one are left out."""
    boxes = {x["image_id"]: rois_xyxy(x) for x in DatasetCatalog.get(data_set)}
    return {image_id: rois[0].tolist() for image_id, rois in boxes.items() if len(rois)}
