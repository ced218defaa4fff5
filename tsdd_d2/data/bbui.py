"""
The BBUI (B-mode breast ultrasound image) annotation format: loading and registration.

A BBUI file is COCO JSON. Boxes are XYWH in absolute pixels, with the origin at the image's top left corner.
Beyond COCO, every `images[]` entry has `patient_id` (a string) and `category_id` (the class of the image,
1 benign or 2 malignant). An image with a manual ROI is fully annotated (fa), an image without any is
partially annotated (pa): its class is known, its ROI is not. `datasets/README.md` describes every field.
"""

import os
from typing import Any, Dict, List, Optional, Union

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .categories import CLASS_NAMES, CONTIGUOUS_IDS
from .validation import read_valid_bbui

__all__ = ["load_bbui_json", "register_bbui_instances"]

Path = Union[str, os.PathLike]

# What an annotation may carry beyond COCO.
EXTRA_ANNOTATION_KEYS = [
    "roi_source",
    "roi_round",
    "roi_score",
    "roi_score_before",
    "manual_bbox",
    "locked",
]


def load_bbui_json(json_file: Path, image_root: Path, name: Optional[str] = None) -> List[Dict[str, Any]]:
    """
    Load a BBUI file as Detectron2's standard dataset dicts, sorted by image id.

    Partially annotated images are kept, with an empty list of annotations. Detectron2's data loader drops
    them again, silently, unless `DATALOADER.FILTER_EMPTY_ANNOTATIONS` is False.

    Args:
        json_file: the BBUI file.
        image_root: the folder that the `file_name` entries start from.
        name: if given, `thing_classes` and `thing_dataset_id_to_contiguous_id` of this data set are set in
            the MetadataCatalog, as `load_coco_json` does.

    Returns:
        list[dict]: one dict for each image: what `load_coco_json` returns (boxes as `BoxMode.XYWH_ABS`,
        annotation classes 0 benign and 1 malignant, the BBUI fields of the annotation), and `patient_id`
        (str), `category_id` (the class of the image, 0 or 1) and, if the file has it, `true_bbox` (XYWH).

    Raises:
        BBUIError: the file is missing or breaks the format. The images themselves are not opened:
            :func:`~tsdd_d2.data.validation.validate_bbui` does that.
    """
    bbui = read_valid_bbui(json_file)
    if name is not None:
        MetadataCatalog.get(name).set(
            thing_classes=list(CLASS_NAMES), thing_dataset_id_to_contiguous_id=dict(CONTIGUOUS_IDS)
        )
    dataset_dicts = load_coco_json(os.fspath(json_file), os.fspath(image_root), extra_annotation_keys=EXTRA_ANNOTATION_KEYS)
    images = {image["id"]: image for image in bbui["images"]}
    for record in dataset_dicts:
        image = images[record["image_id"]]
        record["patient_id"] = image["patient_id"]
        record["category_id"] = CONTIGUOUS_IDS[image["category_id"]]
        if "true_bbox" in image:
            record["true_bbox"] = image["true_bbox"]
        for annotation in record["annotations"]:
            annotation["category_id"] = CONTIGUOUS_IDS[annotation["category_id"]]
            # Detectron2's transforms would cut whole numbers down to whole pixels
            annotation["bbox"] = [float(x) for x in annotation["bbox"]]
    return dataset_dicts


def register_bbui_instances(name: str, json_file: Path, image_root: Path) -> None:
    """
    Register a BBUI file under `name`; the file is not opened before the data set is used.

    Detectron2's loaders, `COCOEvaluator` and `Visualizer` then work with the name as with any COCO data set.
    A name that is registered already is pointed at the new file: the next load reads that one.
    """
    json_file, image_root = os.fspath(json_file), os.fspath(image_root)
    # Both catalogs refuse to overwrite an entry, so the old one goes first.
    DatasetCatalog.pop(name, None)
    metadata = MetadataCatalog.get(name).as_dict()
    MetadataCatalog.pop(name)
    DatasetCatalog.register(name, lambda: load_bbui_json(json_file, image_root, name))
    metadata.update(
        thing_classes=list(CLASS_NAMES),
        thing_dataset_id_to_contiguous_id=dict(CONTIGUOUS_IDS),
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
    )
    MetadataCatalog.get(name).set(**metadata)
